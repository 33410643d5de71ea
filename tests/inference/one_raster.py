"""A model file, a raster and a map, as ``weakseg predict`` puts them together; with the summary, and any machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakseg.inference.model import load_predictor
from weakseg.inference.options import GsdPolicy, Options
from weakseg.inference.run import Summary, run_predictor
from weakseg.inference.scene import ONE_SCALE, PLAIN, View
from weakseg.raster.stream import inspect_source
from weakseg.training.machine import Machine


def predict_raster(
    model_file: Path,
    source: Path,
    target: Path,
    *,
    views: Sequence[View] = PLAIN,
    scales: Sequence[float] = ONE_SCALE,
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    gsd: GsdPolicy = "auto",
    machine: Machine,
    **options: Any,
) -> Summary:
    """Predict one raster into a GeoTIFF; ``options`` are those of :class:`Options`."""
    predictor = load_predictor(model_file, views, machine, scales=scales)
    opened = inspect_source(source, bands, stretch)
    return run_predictor(predictor, opened, target, Options(**options), gsd=gsd)
