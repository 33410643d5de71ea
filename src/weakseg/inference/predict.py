"""The doors to a map: ``weakseg.predict`` for one image, a file or an array; the command's for rasters and mosaics."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE
from weakseg.core.errors import ParamsError
from weakseg.inference.encode import KINDS
from weakseg.inference.engine import Wanted
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.options import GsdPolicy, Options
from weakseg.inference.rasters import Reading, map_mosaic, map_rasters
from weakseg.inference.run import Summary, Watch, predict_layers, run_predictor
from weakseg.inference.scene import ONE_SCALE, PLAIN, View
from weakseg.raster.band_names import BandChoice
from weakseg.raster.mosaic import Mosaic
from weakseg.raster.stream import Pixels, inspect_source
from weakseg.raster.uploads import encode_pixels, open_upload
from weakseg.training.machine import Machine

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
        batch: windows per forward pass; a CPU takes at most 512 x 512 px at a time.
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
    machine: Machine,
    options: Options,
    engine: Wanted = "auto",
    **reading: Any,
) -> list[Summary]:
    """:func:`weakseg.inference.rasters.map_rasters` with a model file and the fields of ``Reading``.

    Under torchrun the processes share the rasters; each returns all summaries.
    """
    done = map_rasters(
        lambda: load_predictor(model_file, views, machine, scales=scales, engine=engine),
        where,
        target,
        Reading(**reading),
        options,
        share=machine.shard,
        watching=partial(_bar, machine.quiet),
    )
    return machine.gather(done)


def predict_mosaic(
    model_file: Path,
    where: str,
    target: Path,
    *,
    views: Sequence[View] = PLAIN,
    scales: Sequence[float] = ONE_SCALE,
    machine: Machine,
    options: Options,
    engine: Wanted = "auto",
    **reading: Any,
) -> tuple[Summary, Mosaic]:
    """:func:`weakseg.inference.rasters.map_mosaic` likewise; under torchrun the first process works alone."""
    return map_mosaic(
        lambda: load_predictor(model_file, views, machine, scales=scales, engine=engine),
        where,
        target,
        Reading(**reading),
        options,
        watching=partial(_bar, machine.quiet),
    )


@contextmanager
def _bar(quiet: bool, name: str) -> Iterator[Watch]:
    """A bar over the rows of a raster; silent where the output is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rows"))
    with Progress(*columns, TimeRemainingColumn(), disable=quiet or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, rows: bar.update(task, completed=done, total=rows)
