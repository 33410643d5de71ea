"""How a raster is predicted: what the user may choose, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from weakseg.core.errors import DataError, ParamsError
from weakseg.data.windows import cover_starts
from weakseg.inference.model import Predictor
from weakseg.inference.sweep import Grid, shared_rows
from weakseg.raster.gsd import GSD_TOLERANCE
from weakseg.raster.stream import Source

GsdPolicy = Literal["auto", "resample", "refuse", "ignore"]
MAX_BUFFER: Final = 1 << 29  # bytes of float rows under way, so that the whole stays under 2 GB


@dataclass(frozen=True)
class Options:
    """How to cut and what to write beside the classes.

    Attributes:
        window: side of the windows at the network's resolution, px; ``overlap`` is a share of it.
        batch: windows per forward pass.
    """

    window: int = 512
    overlap: float = 0.25
    batch: int = 4
    probabilities: Path | None = None
    confidence: Path | None = None
    resume: bool = True

    def outputs(self, target: Path) -> list[Path]:
        """All files of a prediction into ``target``."""
        return [path for path in (target, self.probabilities, self.confidence) if path is not None]

    def layers(self, classes: int) -> int:
        """How many bands all outputs have together."""
        return 1 + (self.confidence is not None) + (self.probabilities is not None) * classes


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
    rows = shared_rows(cover_starts(grid.height, options.window, options.overlap), min(options.window, grid.height))
    needed = 4 * (classes + 1) * rows * grid.width
    if needed > MAX_BUFFER:
        raise ParamsError(
            f"{rows} shared rows over {grid.width} columns and {classes} classes: {needed / 2**20:.0f} MiB",
            expected=f"at most {MAX_BUFFER / 2**20:.0f} MiB of rows in memory",
            cure="take a smaller --window or --overlap, or cut the raster into strips with gdal_translate -srcwin",
        )
