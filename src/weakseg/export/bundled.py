"""What a bundle runs: ``weakseg predict`` with the exported model in its folder, and without torch and the workspace.

A bundle carries copies of this module and of all that it reaches (``core.import_graph``), so that a raster is read,
refused and mapped there as here. What it reaches may need numpy, rasterio, onnxruntime, OpenCV and scipy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import WeaksegError
from weakseg.inference.onnx_file import OnnxMapper, open_bundle
from weakseg.inference.options import Options
from weakseg.inference.rasters import map_mosaic, map_rasters, parse_reading
from weakseg.inference.run import Summary, Watch
from weakseg.raster.listing import is_several
from weakseg.raster.stream import BLOCK, open_raster

_LAYERS = {  # options of a file beside the map
    "probabilities": "probabilities of all classes, 254 is 1",
    "confidence": "probability of the winner, calibrated, 254 is 1",
    "entropy": "how undecided each pixel is, 254 is fully",
    "margin": "lead of the winner over the second class, 254 is 1",
    "applicability": "how unlike the training each pixel is, above 100 like nothing the model has seen",
}


def main(folder: Path, words: Sequence[str] | None = None) -> None:
    """Run a command line (this process's own) with the bundle in a folder; what is wrong ends in a sentence."""
    given = _parser().parse_args(words)
    try:
        _predict(given, cache(partial(open_bundle, folder, given.threads)))
    except WeaksegError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="predict.py", description="Land-cover maps by the model beside this script.")
    parser.add_argument("where", metavar="IN", help="raster, folder or quoted pattern")
    parser.add_argument("target", metavar="OUT", type=Path, help=".tif; a folder where IN is a folder or pattern")
    parser.add_argument("--bands", help="bands to read: 4,1,2, or by name nir=4,red=1,green=2")
    parser.add_argument("--stretch", help="LOW,HIGH become 0 and 255: for 16 bits or floats")
    parser.add_argument("--heights", type=Path, help="heights beside the raster, or a folder of them")
    parser.add_argument("--terrain", type=Path, help="terrain models to take off them")
    parser.add_argument("--ground", type=int, default=0, help="or the side in px of a ground filter, as in the import")
    parser.add_argument(
        "--gsd", default="auto", help="at another ground sampling distance: auto | resample | refuse | ignore"
    )
    parser.add_argument("--window", type=int, default=512, help="side of the windows, px")
    parser.add_argument("--overlap", type=float, default=0.25, help="of neighbouring windows, as a share")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    for name, said in _LAYERS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"also write: {said}")
    parser.add_argument("--max-unlike", type=float, default=1.0, help="write nothing where a larger share is unlike")
    parser.add_argument("--no-resume", action="store_true", help="do not go on with an interrupted map")
    parser.add_argument("--mosaic", action="store_true", help="all scenes of a folder as one map, OUT/mosaic.tif")
    parser.add_argument("--skip-unread", action="store_true", help="of a folder, leave out what is no raster by name")
    return parser


def _predict(given: argparse.Namespace, open_mapper: Callable[[], OnnxMapper]) -> None:
    layers = {name: getattr(given, name) for name in _LAYERS}
    cut = {"window": given.window, "overlap": given.overlap, "batch": given.batch}
    options = Options(**cut, **layers, resume=not given.no_resume, max_unlike=given.max_unlike)
    beside = (given.heights, given.terrain, given.ground)
    reading = parse_reading(given.bands, given.stretch, *beside, given.gsd, given.skip_unread)
    is_several(given.where, mosaic=given.mosaic)
    if given.mosaic:
        target, options = options.within(given.target, "mosaic.tif")
        done = [map_mosaic(open_mapper, given.where, target, reading, options, watching=_rows)[0]]
    else:
        done = map_rasters(open_mapper, given.where, given.target, reading, options, watching=_rows)
    for summary in done:
        _report(summary, open_mapper().scheme)


def _report(done: Summary, scheme: ClassScheme) -> None:
    print(f"{done.target}: {done.windows} windows, {done.seconds:.1f} s")
    if done.lacking:
        print(f"the raster lacks {', '.join(done.lacking)}, in whose place stands the mean of the training")
    if done.unlike is not None and done.unlike >= 0.005:
        print(f"{done.unlike:.0%} of this raster is unlike anything the model has seen: see --applicability")
    counts = _count_values(done.target)
    for index, name in enumerate(scheme.names):
        print(f"{index} {name}: {counts[index] / max(1, counts[:IGNORE].sum()):.1%}")


def _count_values(path: Path) -> np.ndarray:
    """int64 (256,): px of a map with each value."""
    counts = np.zeros(IGNORE + 1, np.int64)
    with open_raster(path) as file:
        for row in range(0, file.height, BLOCK):
            rows = file.read(1, window=((row, min(row + BLOCK, file.height)), (0, file.width)))
            counts += np.bincount(rows.ravel(), minlength=len(counts))
    return counts


@contextmanager
def _rows(name: str) -> Iterator[Watch | None]:
    """A line of progress, where the output is a terminal."""

    def watch(done: int, rows: int) -> None:
        print(f"\r{name}: {done} of {rows} rows", end="\n" * (done == rows), file=sys.stderr, flush=True)

    yield watch if sys.stderr.isatty() else None
