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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from weakseg.classes import IGNORE, ClassScheme
from weakseg.data.spool import Spool
from weakseg.data.streaming import BLOCK, Pixels, Source, inspect_source, list_sources, open_reader, write_bands
from weakseg.errors import DataError, ParamsError
from weakseg.inference import PLAIN, View
from weakseg.predictors import Predictor, load_predictor
from weakseg.sweeping import FULL, Grid, WindowSweep, back_to_raster, encode_maps, in_bands, plan_grid
from weakseg.training.machine import Machine

GsdPolicy = Literal["auto", "resample", "refuse", "ignore"]
GSD_TOLERANCE: Final = 0.05  # share by which two ground sampling distances may differ and count as the same
MAX_BUFFER: Final = 1 << 30  # bytes of float rows under way, so that the whole stays under 2 GB
_IDENTITY: Final = "WEAKSEG_IDENTITY"  # metadata tag of a finished map


@dataclass(frozen=True)
class Options:
    """How to cut and what to write beside the classes.

    Attributes:
        window: side of the windows at the network's resolution, px; ``overlap`` is a share of it.
        batch: windows per forward pass.
    """

    window: int = 512
    overlap: float = 0.25
    batch: int = 8
    probabilities: Path | None = None
    confidence: Path | None = None
    resume: bool = True

    def outputs(self, target: Path) -> list[Path]:
        """All files of a prediction into ``target``."""
        return [path for path in (target, self.probabilities, self.confidence) if path is not None]


@dataclass(frozen=True)
class Summary:
    """What a prediction did: the file, bands of rows taken over from a run before, windows run, seconds."""

    target: Path
    resumed: int
    windows: int
    seconds: float


def predict_raster(
    model_file: Path,
    source: Path,
    target: Path,
    *,
    window: int = 512,
    overlap: float = 0.25,
    batch: int = 8,
    views: Sequence[View] = PLAIN,
    probabilities: Path | None = None,
    confidence: Path | None = None,
    bands: Sequence[int] | None = None,
    gsd: GsdPolicy = "auto",
    machine: Machine,
    resume: bool = True,
) -> Summary:
    """Predict one raster into a GeoTIFF of class indices, 255 where the raster has no data.

    Args:
        model_file: what ``predictors.load_predictor`` opens.
        source: any raster that GDAL reads, 8 bits per band.
        target: a ``.tif``; ``probabilities`` (one band per class) and ``confidence`` (the largest of them) are further
            ones, both with value / 254 in [0, 1].
        window, overlap, batch: as for ``inference.predict_scene``, in px of the network's grid.
        bands: three bands from 1, needed where the raster has not exactly 3.
        gsd: what to do where the raster's ground sampling distance differs from that of the training rasters by more
            than 5 %. auto: resample where both are known. resample, refuse: the same or an error, and an error where
            one of the two is unknown. ignore: take the raster as it is.
        resume: go on with what a killed run of the same model, raster and options left behind.

    Raises:
        DataError, ParamsError, WeightsError: a raster, option or model that cannot be used.
    """
    options = Options(window, overlap, batch, probabilities, confidence, resume)
    predictor = load_predictor(model_file, views, machine)
    return run_predictor(predictor, inspect_source(source, bands), target, options, gsd=gsd, quiet=machine.quiet)


def predict_rasters(
    model_file: Path,
    where: str,
    target: Path,
    *,
    views: Sequence[View] = PLAIN,
    bands: Sequence[int] | None = None,
    gsd: GsdPolicy = "auto",
    machine: Machine,
    options: Options,
) -> list[Summary]:
    """Predict a file into the file ``target``, or a folder or pattern into the folder ``target``, one ``.tif`` each.

    All rasters are checked before the first is predicted. In a folder, ``options.probabilities`` and ``confidence`` are
    folders too, and maps that are already there from the same model and options are left alone. Under torchrun the
    processes share the rasters; each returns all summaries.
    """
    sources = [inspect_source(path, bands) for path in list_sources(where)]
    predictor = load_predictor(model_file, views, machine)
    single = len(sources) == 1 and Path(where) == sources[0].path
    done = []
    for source in machine.shard(sources):
        place, mine = (target, options) if single else _in_folder(source, target, options)
        done.append(run_predictor(predictor, source, place, mine, gsd=gsd, quiet=machine.quiet))
    return machine.gather(done)


def _in_folder(source: Source, folder: Path, options: Options) -> tuple[Path, Options]:
    """Where the map of ``source`` goes in a folder of maps, and its options there."""
    name = f"{source.path.stem}.tif"
    probabilities = options.probabilities and options.probabilities / name
    confidence = options.confidence and options.confidence / name
    return folder / name, replace(options, probabilities=probabilities, confidence=confidence)


def run_predictor(
    predictor: Predictor, source: Source, target: Path, options: Options, *, gsd: GsdPolicy = "auto", quiet: bool = True
) -> Summary:
    """Predict one raster with an open model; see :func:`predict_raster`."""
    began = time.monotonic()
    grid = plan_grid(source.height, source.width, choose_scale(predictor, source, gsd))
    check_options(source, target, options, grid, len(predictor.scheme))
    identity = _identity(predictor, source, options, grid)
    if options.resume and all(_identity_in(path) == identity for path in options.outputs(target)):
        return Summary(target, -(-source.height // BLOCK), 0, time.monotonic() - began)
    spool = Spool(target.with_name(f".{target.name}.part"), identity, source, fresh=not options.resume)
    resumed, windows = spool.finished, 0
    if resumed < spool.bands:
        sweep = _sweep_of(predictor, source, grid, options)
        with _progress(source, resumed, quiet) as advance, spool.writing() as write:
            for band in _predict_bands(sweep, options, resumed * BLOCK):
                write(band)
                advance(band.shape[1])
        windows = sweep.count
    _write_outputs(spool, predictor.scheme, target, options, identity)
    spool.remove()
    return Summary(target, resumed, windows, time.monotonic() - began)


def predict_layers(predictor: Predictor, source: Source, options: Options, *, gsd: GsdPolicy = "auto") -> Pixels:
    """The layers of a raster that fits in memory, the very pixels that :func:`run_predictor` writes; nothing on disk.

    Returns:
        uint8 (K, H, W): class indices, then the confidence and the probabilities if ``options`` name files for them;
        255 in all of them where the raster has no data.
    """
    grid = plan_grid(source.height, source.width, choose_scale(predictor, source, gsd))
    sweep = _sweep_of(predictor, source, grid, options)
    layers = np.concatenate(list(_predict_bands(sweep, options, 0)), axis=1)
    with open_reader(source) as reader:
        valid = reader.valid((0, 0, source.height, source.width))
    if valid is not None:
        layers[:, ~valid] = IGNORE
    return layers


def _sweep_of(predictor: Predictor, source: Source, grid: Grid, options: Options) -> WindowSweep:
    return WindowSweep(
        predictor.forward,
        source,
        grid,
        classes=len(predictor.scheme),
        window=options.window,
        overlap=options.overlap,
        batch=options.batch,
        device=predictor.device,
    )


def _predict_bands(sweep: WindowSweep, options: Options, start: int) -> Iterator[Pixels]:
    encode = partial(
        encode_maps, confidence=options.confidence is not None, probabilities=options.probabilities is not None
    )
    first = sweep.grid.back_rows.needs(start, start + 1)[0]
    return in_bands(back_to_raster(sweep.rows(first), sweep.grid, start, encode), BLOCK)


def _identity(predictor: Predictor, source: Source, options: Options, grid: Grid) -> str:
    """A digest of everything that a map depends on; the raster by path, size and time of its last change."""
    state = source.path.stat() if source.path.exists() else None
    file = (str(source.path.resolve()), state and state.st_size, state and state.st_mtime_ns, source.bands)
    cut = (options.window, options.overlap, options.confidence is not None, options.probabilities is not None)
    text = repr((predictor.digest, predictor.scale, file, cut, grid.height, grid.width))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _identity_in(path: Path) -> str | None:
    """The identity in a map that is already there."""
    if not path.is_file():
        return None
    return inspect_source(path, (1, 1, 1)).tags.get(_IDENTITY)


def _write_outputs(spool: Spool, scheme: ClassScheme, target: Path, options: Options, identity: str) -> None:
    names = list(scheme.names)
    tags = {_IDENTITY: identity} | {f"CLASS_{index}": name for index, name in enumerate(names)}
    count = 1 + (options.confidence is not None) + (options.probabilities is not None) * len(names)

    def layers(first: int, last: int) -> Iterator[Pixels]:
        return (spool.read(index, count)[first:last] for index in range(spool.bands))

    if options.probabilities is not None:
        bands = layers(count - len(names), count)
        write_bands(options.probabilities, bands, spool.source, names=names, unit=1 / FULL, tags=tags)
    if options.confidence is not None:
        write_bands(options.confidence, layers(1, 2), spool.source, names=["confidence"], unit=1 / FULL, tags=tags)
    write_bands(target, layers(0, 1), spool.source, names=["class"], classes=scheme, tags=tags)


@contextmanager
def _progress(source: Source, resumed: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar over the rows of the raster; silent where the output is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rows"))
    with Progress(*columns, TimeRemainingColumn(), disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(source.path.name, total=source.height, completed=resumed * BLOCK)
        yield partial(bar.advance, task)


def choose_scale(predictor: Predictor, source: Source, policy: GsdPolicy) -> float:
    """Network px per raster px, from the scale of the training and, as the policy says, the two sampling distances."""
    if policy not in ("auto", "resample", "refuse", "ignore"):
        raise ParamsError(f"gsd {policy}", expected="auto, resample, refuse or ignore", cure="name one of them")
    trained, here = predictor.gsd, source.gsd
    if policy == "ignore" or (policy == "auto" and (trained is None or here is None)):
        return predictor.scale
    if trained is None or here is None:
        who = "the model" if trained is None else str(source.path)
        raise DataError(
            f"{who}: no ground sampling distance in metres",
            expected="one in the model and one in the raster (a projected CRS)",
            cure="reproject with gdalwarp, or pass --gsd ignore",
        )
    if abs(here / trained - 1) <= GSD_TOLERANCE:
        return predictor.scale
    if policy == "refuse":
        raise DataError(
            f"{source.path}: {here:.4g} m per px",
            expected=f"{trained:.4g} m as in training, within 5 %",
            cure="pass --gsd resample or --gsd ignore",
        )
    return predictor.scale * here / trained


def check_options(source: Source, target: Path, options: Options, grid: Grid, classes: int) -> None:
    """Refuse, before anything runs, outputs that would overwrite something and windows too large for the memory."""
    outputs = options.outputs(target)
    places = [path.resolve() for path in (source.path, *outputs)]
    if len(set(places)) < len(places) or any(p.suffix.lower() not in (".tif", ".tiff") for p in outputs):
        raise ParamsError(
            f"outputs {', '.join(map(str, outputs))} of {source.path}",
            expected="different files that end in .tif, none of them the input",
            cure="choose other names",
        )
    if options.batch < 1:
        raise ParamsError(f"batch {options.batch}", expected=">= 1", cure="mend it")
    needed = 4 * (classes + 1) * min(options.window, grid.height) * grid.width
    if needed > MAX_BUFFER:
        raise ParamsError(
            f"window {options.window} px over {grid.width} columns and {classes} classes: {needed / 2**30:.1f} GiB",
            expected=f"at most {MAX_BUFFER / 2**30:.0f} GiB of rows in memory",
            cure="take a smaller --window, or cut the raster into strips with gdal_translate -srcwin",
        )
