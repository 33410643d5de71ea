"""The ground sampling distance of the training rasters: measured by the tiles stage, stored in every model file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from weakseg.core.files import atomic_path
from weakseg.raster.stream import raster_gsd

GSD_TOLERANCE: Final = 0.05  # share by which two ground sampling distances may differ and count as the same
_NAME: Final = "sampling.json"


def common_gsd(rasters: Iterable[Path]) -> float | None:
    """True metres per px that all rasters share, their mean; None where one names none, or they differ by > 5 %."""
    known = []
    for path in rasters:
        if (gsd := raster_gsd(path)) is None:
            return None  # the others need not be opened: of 100,000 pictures none has a place on Earth
        known.append(gsd)
    if not known or max(known) > min(known) * (1 + GSD_TOLERANCE):
        return None
    return sum(known) / len(known)


def describe_gsds(rasters: Mapping[str, Path]) -> str:
    """One sentence where rasters differ in metres per px, by area; "" where they do not, or the first names none."""
    known: dict[str, float] = {}
    for area, path in rasters.items():
        gsd = raster_gsd(path)
        if gsd is None and not known:
            return ""  # of many pictures none has a place on Earth
        known |= {area: gsd} if gsd is not None else {}
    low, high = min(known, key=known.__getitem__, default=""), max(known, key=known.__getitem__, default="")
    if not known or known[high] <= known[low] * (1 + GSD_TOLERANCE):
        return ""
    return (
        f"px are of {known[low]:.3g} m ({low}) to {known[high]:.3g} m ({high}): the stages take them as they are, "
        "and things differ in size; bring the images to one size of px (gdalwarp -tr) and import them again"
    )


def save_gsd(tiles: Path, gsd: float | None) -> None:
    """Write ``sampling.json`` into the folder of the tiles stage, and nothing where ``gsd`` is unknown."""
    if gsd is not None:
        with atomic_path(tiles / _NAME) as temporary:
            temporary.write_text(json.dumps({"gsd": gsd}) + "\n")


def load_gsd(tiles: Path) -> float | None:
    """What :func:`save_gsd` wrote, metres per px of the raw rasters."""
    path = tiles / _NAME
    return float(json.loads(path.read_text())["gsd"]) if path.is_file() else None
