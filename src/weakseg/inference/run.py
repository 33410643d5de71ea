"""From an open model to one map: window by window from the file, in bounded memory, resumable; without torch.

The windows, their weights and their order are those of ``inference.predict_scene``, so a map equals what the evaluation
sees. A reading thread, the network and a writing thread overlap. Finished bands of rows are kept beside the target in
``.<name>.part/`` until the map is whole; a run that was killed goes on with the first missing band.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError
from weakseg.inference.encode import KINDS, LIMIT, Kind, back_to_raster, encode_maps, in_bands
from weakseg.inference.mapper import Mapper, Maps
from weakseg.inference.mosaic import MosaicSweep
from weakseg.inference.options import GsdPolicy, Options, check_options, choose_scale
from weakseg.inference.sweep import Grid, WindowSweep, plan_grid
from weakseg.raster.finished_rows import Spool, remove_leftovers
from weakseg.raster.georeference import uneven_sides
from weakseg.raster.mosaic import Mosaic
from weakseg.raster.own_maps import IDENTITY
from weakseg.raster.stream import BLOCK, Pixels, Source, open_reader, raster_tags
from weakseg.raster.write import write_bands

if TYPE_CHECKING:
    from weakseg.inference.engine import Choice
    from weakseg.inference.held_tags import HeldTags

Watch = Callable[[int, int], None]
"""Gets the rows done and all rows of a raster after every band."""

_UNLIKE: Final = "WEAKSEG_UNLIKE"  # metadata tags of a finished map, beside its identity
_ENGINE: Final = "WEAKSEG_ENGINE"  # what ran the network and, where it was compared with torch, how it differs
_PARITY: Final = "WEAKSEG_PARITY"
_PRECISION: Final = "WEAKSEG_PRECISION"  # why it is that one, where it was chosen
_HELD: Final = "WEAKSEG_TAGS"  # the tag crops to which it is held
_LOOK: Final = 3  # windows that engines are compared on
_SIDE: Final = 256  # px of their sides, at most


@dataclass(frozen=True)
class Summary:
    """What a prediction did: the file, bands of rows taken over from a run before, windows run, seconds.

    Attributes:
        layers: files beside it.
        unlike: share of its pixels with data, in [0, 1], that are unlike anything the model was trained on; None where
            the model does not know.
        engine: what ran the network; None where there was no choice.
        lacking: bands of the model that the raster has not, in whose place stands their mean.
        held: tag crops to which the map is held; None where no tags were given.
        uneven: sides of its px on the ground where they differ, across and down, m.
    """

    target: Path
    resumed: int
    windows: int
    seconds: float
    layers: tuple[Path, ...] = ()
    unlike: float | None = None
    engine: Choice | None = None
    lacking: tuple[str, ...] = ()
    held: int | None = None
    uneven: tuple[float, float] | None = None

    @property
    def empty(self) -> bool:
        """Whether no window of the raster had a pixel with data."""
        return self.windows == self.resumed == 0


def run_predictor(
    mapper: Mapper,
    source: Source,
    target: Path,
    options: Options,
    *,
    gsd: GsdPolicy = "auto",
    watch: Watch | None = None,
) -> Summary:
    """Predict one raster with an open model into ``target``, and what ``options`` name beside it.

    Args:
        watch: what it raises ends the prediction, which a later one into the same ``target`` goes on with.

    Raises:
        DataError: more of the raster than ``options.max_unlike`` is unlike what the model has seen; nothing is written.
    """
    began = time.monotonic()
    grid = plan_grid(source.height, source.width, choose_scale(mapper, source, gsd))
    check_options(mapper, source, target, options, grid)
    kinds = _kinds(options, always=mapper.applicable)
    sweep = _sweep_of(mapper, source, grid, options, kinds)
    engine = settle(mapper, sweep)
    tags_here = options.tags.of(source, mapper.scheme) if options.tags else None
    identity = _identity(mapper, source, options, grid, engine, tags_here)
    held = None if tags_here is None else len(tags_here.windows)
    layers = tuple(path for path in options.outputs(target) if path != target)
    uneven = uneven_sides(source.profile.get("crs"), source.profile.get("transform"), source.height, source.width)
    spool_folder = target.with_name(f".{target.name}.part")
    if options.resume and all(_identity_in(path) == identity for path in options.outputs(target)):
        known = raster_tags(target).get(_UNLIKE)
        unlike = None if known is None else float(known)
        _refuse_unlike(source, unlike, options)
        _remove_left(spool_folder, identity, source)
        done, passed = -(-source.height // BLOCK), time.monotonic() - began
        return Summary(target, done, 0, passed, layers, unlike, engine, source.lacking, held, uneven)
    spool = Spool(spool_folder, identity, source, fresh=not options.resume)
    resumed, windows = spool.finished, 0
    try:
        for path in options.outputs(target):
            remove_leftovers(path)
        if resumed < spool.bands:
            with spool.writing() as write:
                for band in _predict_bands(mapper, sweep, kinds, resumed * BLOCK, tags_here):
                    write(band)
                    if watch:
                        watch(min(source.height, spool.finished * BLOCK), source.height)
            windows = sweep.count
        unlike = _unlike_share(spool, mapper.scheme, kinds)
        if unlike is not None and unlike > options.max_unlike:
            spool.remove()
        _refuse_unlike(source, unlike, options)
        tags = {IDENTITY: identity} | ({} if unlike is None else {_UNLIKE: f"{unlike:.4f}"}) | _engine_tags(engine)
        tags |= {} if held is None else {_HELD: f"{held} crops"}
        _write_outputs(spool, mapper.scheme, target, options, kinds, tags)
        spool.remove()
    finally:
        spool.close()
    passed = time.monotonic() - began
    return Summary(target, resumed, windows, passed, layers, unlike, engine, source.lacking, held, uneven)


def settle(mapper: Mapper, sweep: WindowSweep) -> Choice | None:
    """Choose the engine for the windows of a raster, by some of them; None where there is no choice."""
    if mapper.settle is None:
        return None
    index = sweep.maps > len(mapper.scheme)
    return mapper.settle(sweep.pixels, lambda: sweep.sample(_LOOK, _SIDE), index)


def _engine_tags(engine: Choice | None) -> dict[str, str]:
    if engine is None:
        return {}
    said = "; ".join([*engine.passed_over, engine.parity]).strip("; ")
    told = {_PARITY: said, _PRECISION: engine.why}
    return {_ENGINE: str(engine)} | {tag: text for tag, text in told.items() if text}


def predict_layers(mapper: Mapper, source: Source, options: Options, *, gsd: GsdPolicy = "auto") -> Pixels:
    """The layers of a raster that fits in memory, the very pixels that :func:`run_predictor` writes; nothing on disk.

    Returns:
        uint8 (K, H, W): class indices, then the layers of ``encode.KINDS`` that ``options`` name files for; 255 in all
        of them where the raster has no data.
    """
    grid = plan_grid(source.height, source.width, choose_scale(mapper, source, gsd))
    kinds = _kinds(options)
    sweep = _sweep_of(mapper, source, grid, options, kinds)
    settle(mapper, sweep)
    tags = options.tags.of(source, mapper.scheme) if options.tags else None
    layers = np.concatenate(list(_predict_bands(mapper, sweep, kinds, 0, tags)), axis=1)
    with open_reader(source) as reader:
        valid = reader.valid((0, 0, source.height, source.width))
    if valid is not None:
        layers[:, ~valid] = IGNORE
    return layers


def _sweep_of(mapper: Mapper, source: Source, grid: Grid, options: Options, kinds: Sequence[Kind]) -> WindowSweep:
    sweep = MosaicSweep if isinstance(source, Mosaic) else WindowSweep
    index = "applicability" in kinds and mapper.applicable
    return sweep(
        mapper.network(index=index),
        source,
        grid,
        maps=len(mapper.scheme) + index,
        window=options.window,
        overlap=options.overlap,
        batch=options.batch,
    )


def _kinds(options: Options, *, always: bool = False) -> tuple[Kind, ...]:
    """The layers to make, in order; ``always`` with applicability, whether it has a file or not."""
    wanted = options.files(Path())
    return tuple(kind for kind in KINDS if kind in wanted or (always and kind == "applicability"))


def _bands_of(kinds: Sequence[Kind], classes: int) -> dict[Kind, slice]:
    """Where the layers of each kind lie among all."""
    found, first = {}, 0
    for kind in kinds:
        found[kind] = slice(first, first + (classes if kind == "probabilities" else 1))
        first = found[kind].stop
    return found


def _predict_bands(
    mapper: Mapper, sweep: WindowSweep, kinds: Sequence[Kind], start: int, tags: HeldTags | None
) -> Iterator[Pixels]:
    classes = len(mapper.scheme)

    def encode(maps: Maps, row: int, column: int) -> Pixels:
        if tags is not None:
            maps[:classes] = tags.hold(maps[:classes], row, column)
        return encode_maps(maps, kinds, classes=classes, temperatures=mapper.temperatures)

    pieces = sweep.pieces(sweep.grid.back_rows.needs(start, start + 1)[0])
    layers = max(place.stop for place in _bands_of(kinds, classes).values())
    return in_bands(back_to_raster(pieces, sweep.grid, start, maps=sweep.maps, layers=layers, encode=encode), BLOCK)


def _unlike_share(spool: Spool, scheme: ClassScheme, kinds: Sequence[Kind]) -> float | None:
    """Share of the pixels with data whose index is above its limit; None where it is not known."""
    if "applicability" not in kinds:
        return None
    places = _bands_of(kinds, len(scheme))
    above, known = 0, 0
    for index in range(spool.bands):
        band = spool.read(index, max(place.stop for place in places.values()), places["applicability"])
        known += int((band != IGNORE).sum())
        above += int(((band > LIMIT) & (band != IGNORE)).sum())
    return above / max(1, known)


def _refuse_unlike(source: Source, unlike: float | None, options: Options) -> None:
    if unlike is not None and unlike > options.max_unlike:
        raise DataError(
            f"{source.path}: {unlike:.0%} of it is unlike anything the model has seen",
            expected=f"at most {options.max_unlike:.0%}",
            cure="label some of it and train again, or raise --max-unlike and look at --applicability",
        )


def _identity(
    mapper: Mapper, source: Source, options: Options, grid: Grid, engine: Choice | None, tags: HeldTags | None
) -> str:
    """A digest of everything that a map depends on; the raster by path, size and time of its last change."""
    cut = (options.window, options.overlap, list(options.files(Path())))
    text = repr((mapper.digest, str(engine), mapper.scale, source.state(), cut, grid.height, grid.width))
    text += "" if tags is None else tags.digest
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _remove_left(folder: Path, identity: str, source: Source) -> None:
    """Delete the bands of a process that was killed when its map was whole; those of a live one are its own."""
    if folder.exists() or folder.with_suffix(".lock").exists():
        with suppress(DataError, OSError):
            Spool(folder, identity, source).remove()


def _identity_in(path: Path) -> str | None:
    """The identity in a map that is already there."""
    if not path.is_file():
        return None
    return raster_tags(path).get(IDENTITY)


def _write_outputs(
    spool: Spool,
    scheme: ClassScheme,
    target: Path,
    options: Options,
    kinds: Sequence[Kind],
    tags: dict[str, str],
) -> None:
    names = list(scheme.names)
    tags = tags | {f"CLASS_{index}": name for index, name in enumerate(names)}
    places = _bands_of(kinds, len(names))
    count = max(place.stop for place in places.values())

    def layers(kind: Kind) -> Iterator[Pixels]:
        return (spool.read(index, count, places[kind]) for index in range(spool.bands))

    for kind, path in options.files(target).items():
        if kind != "classes":  # the map comes last: where it is, all the others are
            described = names if kind == "probabilities" else [kind]
            write_bands(path, layers(kind), spool.source, names=described, unit=KINDS[kind], tags=tags)
    write_bands(target, layers("classes"), spool.source, names=["class"], classes=scheme, tags=tags)
