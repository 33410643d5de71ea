"""From a model to a map: rasters of any size, window by window from the file, in bounded memory, resumable.

The windows, their weights and their order are those of ``inference.predict_scene``, so a map equals what the evaluation
sees. A reading thread, the network and a writing thread overlap. Finished bands of rows are kept beside the target in
``.<name>.part/`` until the map is whole; a run that was killed goes on with the first missing band.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, overload

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.encode import KINDS, LIMIT, Kind, back_to_raster, encode_maps, in_bands
from weakseg.inference.engine import LOOK, Choice, Wanted
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.mosaic import MosaicSweep
from weakseg.inference.options import GsdPolicy, Options, check_options, choose_scale
from weakseg.inference.scene import ONE_SCALE, PLAIN, View
from weakseg.inference.sweep import Grid, WindowSweep, plan_grid
from weakseg.raster.band_names import BandChoice
from weakseg.raster.bands import Spool, remove_leftovers
from weakseg.raster.heights import HeightFiles, find_heights
from weakseg.raster.listing import list_sources
from weakseg.raster.mosaic import Mosaic, plan_mosaic
from weakseg.raster.stream import BLOCK, Pixels, Source, inspect_source, open_reader, raster_tags
from weakseg.raster.uploads import encode_pixels, open_upload
from weakseg.raster.write import write_bands
from weakseg.training.machine import Machine

_IDENTITY: Final = "WEAKSEG_IDENTITY"  # metadata tags of a finished map
_UNLIKE: Final = "WEAKSEG_UNLIKE"
_ENGINE: Final = "WEAKSEG_ENGINE"  # what ran the network and, where it was compared with torch, how it differs
_PARITY: Final = "WEAKSEG_PARITY"
_SIDE: Final = 256  # px of the windows that engines are compared on


@dataclass(frozen=True)
class Summary:
    """What a prediction did: the file, bands of rows taken over from a run before, windows run, seconds.

    Attributes:
        layers: files beside it.
        unlike: share of its pixels with data, in [0, 1], that are unlike anything the model was trained on; None where
            the model does not know.
        engine: what ran the network; None where there was no choice.
        lacking: bands of the model that the raster has not, in whose place stands their mean.
    """

    target: Path
    resumed: int
    windows: int
    seconds: float
    layers: tuple[Path, ...] = ()
    unlike: float | None = None
    engine: Choice | None = None
    lacking: tuple[str, ...] = ()


Probabilities = npt.NDArray[np.float32]
Chosen = Sequence[int] | BandChoice | None


@overload
def predict(
    model: Predictor,
    image: Path | str | Pixels,
    output: None = None,
    *,
    probabilities: Literal[False] = False,
    window: int = ...,
    overlap: float = ...,
    batch: int = ...,
    gsd: GsdPolicy = ...,
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
) -> Pixels: ...


@overload
def predict(
    model: Predictor,
    image: Path | str | Pixels,
    output: None = None,
    *,
    probabilities: Literal[True],
    window: int = ...,
    overlap: float = ...,
    batch: int = ...,
    gsd: GsdPolicy = ...,
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
) -> tuple[Pixels, Probabilities]: ...


@overload
def predict(
    model: Predictor,
    image: Path | str,
    output: Path | str,
    *,
    probabilities: Path | str | Literal[False] = False,
    window: int = ...,
    overlap: float = ...,
    batch: int = ...,
    gsd: GsdPolicy = ...,
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
) -> Path: ...


def predict(
    model: Predictor,
    image: Path | str | Pixels,
    output: Path | str | None = None,
    *,
    probabilities: bool | Path | str = False,
    window: int = 512,
    overlap: float = 0.25,
    batch: int = 4,
    gsd: GsdPolicy = "auto",
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
) -> Pixels | tuple[Pixels, Probabilities] | Path:
    """The class map of an image, as ``weakseg predict`` makes it.

    Args:
        model: what :func:`weakseg.open_model` returned.
        image: a raster file, or an array (H, W, bands) uint8; of a model of other bands in their dtype.
        output: write a GeoTIFF there, window by window: the way for scenes that do not fit into memory. Files only.
        probabilities: True returns them beside the map; with an ``output`` the file to write them to.
        window: side of the windows, px of the network's grid; ``overlap`` is a share of it, in [0, 1).
        batch: windows per forward pass.
        gsd: at another ground sampling distance than the training's: ``auto`` resamples where both are known,
            ``resample`` and ``refuse`` raise where one is not, ``ignore`` takes the image as it is.
        bands: of a model of three bands of 8 bits: three bands from 1, needed where the image has not exactly 3. Of
            others: as many numbers, or a ``BandChoice`` with names.
        stretch: two values that become 0 and 255, needed where a file has not 8 bits.

    Returns:
        uint8 (H, W), class indices of ``model.scheme``, 255 where the image has no data. With ``probabilities=True``
        also float32 (C, H, W) in [0, 1], in steps of 1/254 as the file has them, calibrated where the model has
        temperatures, NaN where the image has no data. The path where ``output`` is given.

    Raises:
        DataError: an image that cannot be read, or is not three bands of uint8 as asked for.
        ParamsError: values that do not fit together.
    """
    beside = _beside(output, probabilities)
    options = Options(window, overlap, batch, beside)
    if isinstance(image, np.ndarray):
        if output is not None:
            raise ParamsError("an array with an output", expected="a raster file", cure="write the returned map")
        content = encode_pixels(image, "image", model.bands)
        with open_upload(content, "image", _chosen(bands), wanted=model.bands) as source:
            return _in_memory(predict_layers(model, source, options, gsd=gsd))
    source = inspect_source(Path(image), bands, stretch, model.bands)
    if output is None:
        return _in_memory(predict_layers(model, source, options, gsd=gsd))
    return run_predictor(model, source, Path(output), options, gsd=gsd).target


def _chosen(bands: Chosen) -> BandChoice | None:
    return bands if isinstance(bands, BandChoice) else BandChoice(tuple(bands)) if bands else None


def _beside(output: Path | str | None, probabilities: bool | Path | str) -> Path | None:
    """The file of the probabilities; any name where they stay in memory, None where nobody wants them."""
    named = isinstance(probabilities, Path | str)
    if probabilities is not False and named != (output is not None):
        raise ParamsError(
            f"probabilities={probabilities!r} {'without' if output is None else 'with'} an output",
            expected="True without an output, the name of a file with one",
            cure="name a file for both, or for neither",
        )
    if probabilities is False:
        return None
    return Path("probabilities" if probabilities is True else probabilities)


def _in_memory(layers: Pixels) -> Pixels | tuple[Pixels, Probabilities]:
    """Layers (K, H, W) of :func:`predict_layers` -> the classes, and the probabilities where there are any."""
    classes = np.asarray(layers[0])
    if len(layers) == 1:
        return classes
    return classes, np.where(layers[1:] == IGNORE, np.nan, layers[1:] * KINDS["probabilities"]).astype(np.float32)


def predict_rasters(
    model_file: Path,
    where: str,
    target: Path,
    *,
    views: Sequence[View] = PLAIN,
    scales: Sequence[float] = ONE_SCALE,
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
    heights: HeightFiles | None = None,
    gsd: GsdPolicy = "auto",
    skip_unread: bool = False,
    machine: Machine,
    options: Options,
    engine: Wanted = "auto",
) -> list[Summary]:
    """Predict a file into the file ``target``, or a folder or pattern into the folder ``target``, one ``.tif`` each.

    All rasters are checked before the first is predicted. In a folder, ``options.probabilities`` and ``confidence`` are
    folders too, and maps that are already there from the same model and options are left alone. Files of a folder that
    are no rasters by their suffix are refused unless ``skip_unread``. ``heights`` are rasters for all of
    them, or folders with one of the name of each. Under torchrun the processes share the rasters; each returns all
    summaries.
    """
    listed = list_sources(where, skip_unread=skip_unread, outputs=options.outputs(target))
    predictor = load_predictor(model_file, views, machine, scales=scales, engine=engine)
    beside = [find_heights(heights, path, alone=len(listed) == 1) for path in listed]
    sources = [
        inspect_source(path, bands, stretch, predictor.bands, files) for path, files in zip(listed, beside, strict=True)
    ]
    single = len(sources) == 1 and Path(where) == sources[0].path
    done = []
    for source in machine.shard(sources):
        place, mine = (target, options) if single else options.within(target, f"{source.path.stem}.tif")
        done.append(run_predictor(predictor, source, place, mine, gsd=gsd, quiet=machine.quiet))
    return machine.gather(done)


def predict_mosaic(
    model_file: Path,
    where: str,
    target: Path,
    *,
    views: Sequence[View] = PLAIN,
    scales: Sequence[float] = ONE_SCALE,
    bands: Chosen = None,
    stretch: tuple[float, float] | None = None,
    heights: HeightFiles | None = None,
    gsd: GsdPolicy = "auto",
    skip_unread: bool = False,
    machine: Machine,
    options: Options,
    engine: Wanted = "auto",
) -> tuple[Summary, Mosaic]:
    """Predict all scenes of a folder or pattern into one map ``target``, without seams between them.

    Scenes are in the order of their names. The map has the CRS and pixels of the first; the others may have others.
    Probabilities are blended where scenes overlap, see :mod:`weakseg.inference.mosaic`. Under torchrun the first
    process works alone.
    """
    listed = list_sources(where, skip_unread=skip_unread, outputs=options.outputs(target))
    taken = {path.resolve() for path in listed} & {path.resolve() for path in options.outputs(target)}
    if taken:
        raise ParamsError(f"output {taken.pop()} is a scene", expected="a new file", cure="choose another name")
    predictor = load_predictor(model_file, views, machine, scales=scales, engine=engine)
    beside = [find_heights(heights, path, alone=False) for path in listed]
    scenes = [
        inspect_source(path, bands, stretch, predictor.bands, files) for path, files in zip(listed, beside, strict=True)
    ]
    mosaic = plan_mosaic(Path(where), scenes)
    return run_predictor(predictor, mosaic, target, options, gsd=gsd, quiet=machine.quiet), mosaic


def run_predictor(
    predictor: Predictor,
    source: Source,
    target: Path,
    options: Options,
    *,
    gsd: GsdPolicy = "auto",
    quiet: bool = True,
    watch: Callable[[int, int], None] | None = None,
) -> Summary:
    """Predict one raster with an open model into ``target``, and what ``options`` name beside it.

    Args:
        watch: gets the rows done and all rows after every band; what it raises ends the prediction, which a later one
            into the same ``target`` goes on with.

    Raises:
        DataError: more of the raster than ``options.max_unlike`` is unlike what the model has seen; nothing is written.
    """
    began = time.monotonic()
    grid = plan_grid(source.height, source.width, choose_scale(predictor, source, gsd))
    check_options(predictor, source, target, options, grid)
    kinds = _kinds(options, always=predictor.applicable)
    sweep = _sweep_of(predictor, source, grid, options, kinds)
    engine = settle(predictor, sweep)
    identity = _identity(predictor, source, options, grid, engine)
    layers = tuple(path for path in options.outputs(target) if path != target)
    if options.resume and all(_identity_in(path) == identity for path in options.outputs(target)):
        known = raster_tags(target).get(_UNLIKE)
        unlike = None if known is None else float(known)
        _refuse_unlike(source, unlike, options)
        return Summary(target, -(-source.height // BLOCK), 0, time.monotonic() - began, layers, unlike, engine)
    spool = Spool(target.with_name(f".{target.name}.part"), identity, source, fresh=not options.resume)
    resumed, windows = spool.finished, 0
    try:
        for path in options.outputs(target):
            remove_leftovers(path)
        if resumed < spool.bands:
            with _progress(source, resumed, quiet) as advance, spool.writing() as write:
                for band in _predict_bands(predictor, sweep, kinds, resumed * BLOCK):
                    write(band)
                    advance(band.shape[1])
                    if watch:
                        watch(min(source.height, spool.finished * BLOCK), source.height)
            windows = sweep.count
        unlike = _unlike_share(spool, predictor.scheme, kinds)
        if unlike is not None and unlike > options.max_unlike:
            spool.remove()
        _refuse_unlike(source, unlike, options)
        tags = {_IDENTITY: identity} | ({} if unlike is None else {_UNLIKE: f"{unlike:.4f}"}) | _engine_tags(engine)
        _write_outputs(spool, predictor.scheme, target, options, kinds, tags)
        spool.remove()
    finally:
        spool.close()
    return Summary(target, resumed, windows, time.monotonic() - began, layers, unlike, engine, source.lacking)


def settle(predictor: Predictor, sweep: WindowSweep) -> Choice | None:
    """Choose the engine for the windows of a raster, by some of them; None where there is no choice."""
    if predictor.settle is None:
        return None
    return predictor.settle(sweep.pixels, lambda: sweep.sample(LOOK, _SIDE).to(predictor.device))


def _engine_tags(engine: Choice | None) -> dict[str, str]:
    if engine is None:
        return {}
    said = "; ".join([*engine.passed_over, engine.parity]).strip("; ")
    return {_ENGINE: str(engine)} | ({_PARITY: said} if said else {})


def predict_layers(predictor: Predictor, source: Source, options: Options, *, gsd: GsdPolicy = "auto") -> Pixels:
    """The layers of a raster that fits in memory, the very pixels that :func:`run_predictor` writes; nothing on disk.

    Returns:
        uint8 (K, H, W): class indices, then the layers of ``encode.KINDS`` that ``options`` name files for; 255 in all
        of them where the raster has no data.
    """
    grid = plan_grid(source.height, source.width, choose_scale(predictor, source, gsd))
    kinds = _kinds(options)
    sweep = _sweep_of(predictor, source, grid, options, kinds)
    settle(predictor, sweep)
    layers = np.concatenate(list(_predict_bands(predictor, sweep, kinds, 0)), axis=1)
    with open_reader(source) as reader:
        valid = reader.valid((0, 0, source.height, source.width))
    if valid is not None:
        layers[:, ~valid] = IGNORE
    return layers


def _sweep_of(predictor: Predictor, source: Source, grid: Grid, options: Options, kinds: Sequence[Kind]) -> WindowSweep:
    sweep = MosaicSweep if isinstance(source, Mosaic) else WindowSweep
    with_index = predictor.with_index if "applicability" in kinds else None
    return sweep(
        with_index or predictor.forward,
        source,
        grid,
        maps=len(predictor.scheme) + (with_index is not None),
        window=options.window,
        overlap=options.overlap,
        batch=options.batch,
        device=predictor.device,
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


def _predict_bands(predictor: Predictor, sweep: WindowSweep, kinds: Sequence[Kind], start: int) -> Iterator[Pixels]:
    classes = len(predictor.scheme)
    encode = partial(encode_maps, kinds=kinds, classes=classes, temperatures=predictor.temperatures)
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
        band = spool.read(index, max(place.stop for place in places.values()))[places["applicability"]]
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


def _identity(predictor: Predictor, source: Source, options: Options, grid: Grid, engine: Choice | None) -> str:
    """A digest of everything that a map depends on; the raster by path, size and time of its last change."""
    cut = (options.window, options.overlap, list(options.files(Path())))
    text = repr((predictor.digest, str(engine), predictor.scale, source.state(), cut, grid.height, grid.width))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _identity_in(path: Path) -> str | None:
    """The identity in a map that is already there."""
    if not path.is_file():
        return None
    return raster_tags(path).get(_IDENTITY)


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
        return (spool.read(index, count)[places[kind]] for index in range(spool.bands))

    for kind, path in options.files(target).items():
        if kind != "classes":  # the map comes last: where it is, all the others are
            described = names if kind == "probabilities" else [kind]
            write_bands(path, layers(kind), spool.source, names=described, unit=KINDS[kind], tags=tags)
    write_bands(target, layers("classes"), spool.source, names=["class"], classes=scheme, tags=tags)


@contextmanager
def _progress(source: Source, resumed: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar over the rows of the raster; silent where the output is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rows"))
    with Progress(*columns, TimeRemainingColumn(), disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(source.path.name, total=source.height, completed=resumed * BLOCK)
        yield partial(bar.advance, task)
