"""Tiles of Web Mercator (XYZ): where they lie, and class maps warped into them without a class that is not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.raster.pyramid import NoTileError as NoTileError
from weakseg.raster.stream import Pixels, open_raster

if TYPE_CHECKING:
    from rasterio import Affine

SIDE: Final = 256  # px of a tile
DEEPEST: Final = 24  # zoom
MERCATOR: Final = "EPSG:3857"
_HALF: Final = math.pi * 6_378_137  # m from the middle of the projection to its rim
Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in metres of EPSG:3857."""


def tile_bounds(zoom: int, column: int, row: int) -> Bounds:
    """Of a tile; columns from the west, rows from the north (XYZ, not TMS).

    Raises:
        NoTileError: there is no such tile.
    """
    count = 1 << zoom if 0 <= zoom <= DEEPEST else 0
    if not (0 <= column < count and 0 <= row < count):
        raise NoTileError(
            f"tile {zoom}/{column}/{row}",
            expected=f"zoom 0 to {DEEPEST} and places below 2^zoom",
            cure="use XYZ numbers",
        )
    side = 2 * _HALF / count
    left, top = column * side - _HALF, _HALF - row * side
    return left, top - side, left + side, top


def read_tile(path: Path, bounds: Bounds) -> Pixels:
    """uint8 (SIDE, SIDE) of a map of classes, 255 where there is nothing; from far GDAL reads its overviews."""
    from rasterio.enums import Resampling
    from rasterio.transform import from_bounds
    from rasterio.vrt import WarpedVRT

    place = {"crs": MERCATOR, "transform": from_bounds(*bounds, SIDE, SIDE), "width": SIDE, "height": SIDE}
    options = {"resampling": Resampling.nearest, "nodata": IGNORE, "src_nodata": IGNORE}
    with open_raster(path) as file, WarpedVRT(file, **place, **options) as warped:
        return np.asarray(warped.read(1), np.uint8)


def warp_to_tile(classes: Pixels, transform: Affine, crs: Any, bounds: Bounds) -> Pixels:
    """The same of classes uint8 (h, w) that lie at ``transform`` in ``crs``."""
    from rasterio.enums import Resampling
    from rasterio.transform import from_bounds
    from rasterio.warp import reproject

    tile = np.full((SIDE, SIDE), IGNORE, np.uint8)
    place = {"dst_transform": from_bounds(*bounds, SIDE, SIDE), "dst_crs": MERCATOR, "dst_nodata": IGNORE}
    source = {"src_transform": transform, "src_crs": crs, "src_nodata": IGNORE}
    reproject(classes, tile, **source, **place, resampling=Resampling.nearest)
    return tile


def part_in_tile(bounds: Bounds, transform: Affine, crs: Any, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of a grid of ``height`` x ``width`` px that a tile shows; None where it shows none."""
    from rasterio.warp import transform_bounds

    left, low, right, high = transform_bounds(MERCATOR, crs, *bounds, densify_pts=21)
    back = ~transform
    columns, rows = zip(*(back @ (x, y) for x in (left, right) for y in (low, high)), strict=True)
    spans = []
    for places, length in ((rows, height), (columns, width)):
        if not all(map(math.isfinite, places)):
            return None
        spans.append(slice(max(0, math.floor(min(places)) - 1), min(length, math.ceil(max(places)) + 1)))
    return (spans[0], spans[1]) if all(span.start < span.stop for span in spans) else None


def scaled(transform: Affine, wide: float, high: float) -> Affine:
    """The transform of the same raster in px that are ``wide`` and ``high`` of its own."""
    from rasterio import Affine

    return transform @ Affine.scale(wide, high)


def shifted(transform: Affine, column: int, row: int) -> Affine:
    """The transform of a part of a raster from this px on."""
    from rasterio import Affine

    return transform @ Affine.translation(column, row)


def check_place(profile: Any, path: Path) -> None:
    """Raise DataError unless a raster has a CRS and a transform."""
    if not profile.get("crs") or not profile.get("transform") or profile["transform"].is_identity:
        raise DataError(
            f"{path} has no place on Earth",
            expected="a raster with a CRS and a transform",
            cure="assign them with gdal_edit -a_srs -a_ullr, or warp it with gdalwarp",
        )
