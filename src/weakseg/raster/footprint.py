"""Where on Earth a raster lies: its outline in longitude and latitude, its grid as STAC names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.raster.georeference import moved
from weakseg.raster.stream import open_raster

_STEPS: Final = 8  # points per side of an outline: the sides of a projected raster are curves on the globe


@dataclass(frozen=True)
class Footprint:
    """A raster's grid and its place.

    Attributes:
        crs: its CRS as WKT, None where it names none.
        code: of that CRS, such as EPSG:25832, None where it has none.
        transform: ``proj:transform`` of a raster with one, six numbers; empty with control points only.
        outline: a closed ring of (longitude, latitude), counter-clockwise; None without a place, or
            with one that the CRS does not have.
    """

    width: int
    height: int
    crs: str | None = None
    code: str | None = None
    transform: dict[str, list[float]] = field(default_factory=dict)
    outline: tuple[tuple[float, float], ...] | None = None


def read_footprint(path: Path) -> Footprint:
    """The footprint of a raster file."""
    from rasterio.crs import CRS
    from rasterio.transform import from_gcps

    with open_raster(path) as file:
        points, points_crs = file.gcps
        crs = points_crs if points else file.crs
        affine = from_gcps(points) if len(points) > 2 else file.transform
        width, height = file.width, file.height
    if crs is None or affine.is_identity:
        return Footprint(width, height)
    share = np.arange(_STEPS) / _STEPS
    corners = np.array([(0, height), (width, height), (width, 0), (0, 0)], float)
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ring = np.concatenate([start + share[:, None] * (end - start) for start, end in sides])
    places = moved(np.array([affine @ tuple(corner) for corner in [*ring, ring[0]]]), crs, CRS.from_epsg(4326))
    outline = tuple((x, y) for x, y in places.tolist()) if np.isfinite(places).all() else None
    authority = crs.to_authority()
    numbers: dict[str, Any] = {} if points else {"proj:transform": list(affine)[:6]}
    code = ":".join(authority) if authority else None
    return Footprint(width, height, crs.to_wkt(), code, numbers, outline)
