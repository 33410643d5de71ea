"""The areas of a map's values on the ground, over the whole of it and inside polygons, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.raster.georeference import ground_distance
from weakseg.raster.stream import BLOCK, open_raster

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS
    from rasterio.windows import Window
    from shapely import Geometry

_CELLS: Final = 16  # per side of a raster, within each of which all px are taken as equally large


def value_areas(path: Path, values: int, zones: Sequence[Geometry] = ()) -> npt.NDArray[np.float64]:
    """Square metres of each value of the first band, over the whole raster, then inside each polygon.

    A px belongs to a polygon if its centre does; polygons may overlap. Sizes are true ones, whatever the projection:
    px are measured in an equal-area projection around places all over the raster.

    Args:
        path: a raster of bytes with a CRS; px without data count nowhere.
        values: 0 to this are counted; no others may be there.
        zones: in the CRS of the raster.

    Returns:
        float64 (1 + len(zones), values).

    Raises:
        DataError: no raster of bytes, no CRS, or another value.
    """
    with open_raster(path) as file:
        if file.dtypes[0] != "uint8":
            raise DataError(f"{path}: {file.dtypes[0]}", expected="a map of classes (uint8)", cure="pass the map")
        found = np.zeros((1 + len(zones), values))
        places = [_pixel_box(zone, file.transform) for zone in zones]
        for window, size in _cells(file, path):
            pixels = file.read(1, window=window)
            known = file.read_masks(1, window=window) != 0
            stray = pixels[known].max(initial=0)
            if stray >= values:
                raise DataError(
                    f"{path}: value {stray}",
                    expected=f"0 to {values - 1} or no data",
                    cure="pass a map of these classes",
                )
            found[0] += size * np.bincount(pixels[known], minlength=values)
            for index, (zone, box) in enumerate(zip(zones, places, strict=True)):
                part = _overlap(box, window)
                if part is not None:
                    inside = _inside(zone, file.transform, window, part)
                    chosen = pixels[part][inside & known[part]]
                    found[1 + index] += size * np.bincount(chosen, minlength=values)
    return found


def crs_of(path: Path) -> CRS | None:
    """The CRS of a raster, None where it has none."""
    with open_raster(path) as file:
        return file.crs


def _cells(file: Any, path: Path) -> Iterator[tuple[Window, float]]:
    """Windows that cover a raster once, each with the square metres of one of its px."""
    from rasterio import Affine
    from rasterio.windows import Window

    side = max(BLOCK, BLOCK * math.ceil(max(file.height, file.width) / (_CELLS * BLOCK)))
    for row in range(0, file.height, side):
        for column in range(0, file.width, side):
            cell = Window(column, row, min(side, file.width - column), min(side, file.height - row))
            place = file.transform @ Affine.translation(column, row)
            distance = ground_distance(file.crs, place, cell.height, cell.width)
            if distance is None:
                raise DataError(
                    f"{path} has no place on Earth",
                    expected="a CRS and a transform, to know how large a px is",
                    cure="predict a georeferenced raster, or assign its CRS with gdal_edit -a_srs",
                )
            yield from _blocks(cell, distance**2)


def _blocks(cell: Window, size: float) -> Iterator[tuple[Window, float]]:
    """A cell in pieces of at most 4096 rows and columns, so that memory is bounded."""
    from rasterio.windows import Window

    step = 16 * BLOCK
    for row in range(cell.row_off, cell.row_off + cell.height, step):
        for column in range(cell.col_off, cell.col_off + cell.width, step):
            width = min(step, cell.col_off + cell.width - column)
            yield Window(column, row, width, min(step, cell.row_off + cell.height - row)), size


def _pixel_box(zone: Geometry, transform: Affine) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a polygon in px of the raster, which may be turned."""
    left, low, right, high = zone.bounds
    corners = [~transform @ (x, y) for x in (left, right) for y in (low, high)]
    columns, rows = zip(*corners, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def _overlap(box: tuple[float, float, float, float], window: Window) -> tuple[slice, slice] | None:
    """Where a box lies in a window, as rows and columns of the window."""
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)):
        return None  # an empty polygon
    rows = slice(max(0, math.floor(top - window.row_off)), min(window.height, math.ceil(bottom - window.row_off)))
    columns = slice(max(0, math.floor(left - window.col_off)), min(window.width, math.ceil(right - window.col_off)))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _inside(zone: Geometry, transform: Affine, window: Window, part: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
    from rasterio import Affine
    from rasterio.features import geometry_mask

    rows, columns = part
    moved = transform @ Affine.translation(window.col_off + columns.start, window.row_off + rows.start)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return np.asarray(geometry_mask([zone], shape, moved, invert=True), bool)
