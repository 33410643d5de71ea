"""The area inside an outline that was drawn on a raster, in pixels and on the ground, and what the map has there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.maps.ground import ground_areas
from weakseg.raster.open import Window
from weakseg.raster.stream import Pixels, open_raster

if TYPE_CHECKING:
    from pathlib import Path

    from shapely import Polygon

MOST_CORNERS: Final = 2000
_PARTS: Final = 64  # pieces of an outline's box per side between which its edges are straight on the ground


def read_outline(corners: Sequence[tuple[float, float]], height: int, width: int) -> Polygon:
    """The polygon of corners (column, row) in px, where a px covers [n, n + 1), cut to the raster.

    Raises:
        DataError: fewer than three corners, too many, no numbers, edges that cross, or nothing of it on the raster.
    """
    import shapely

    flat = [value for corner in corners for value in corner]
    if not 3 <= len(corners) <= MOST_CORNERS or not all(map(math.isfinite, flat)):
        raise DataError(
            f"an outline of {len(corners)} corners",
            expected=f"3 to {MOST_CORNERS} corners with finite places",
            cure="draw it again",
        )
    outline = shapely.Polygon(corners)
    if not outline.is_valid or not outline.area:
        raise DataError("an outline whose edges cross", expected="one that goes around an area", cure="draw it again")
    found = shapely.intersection(outline, shapely.box(0, 0, width, height))
    if not found.area:
        raise DataError("an outline beside the raster", expected="one on it", cure="draw it on the picture")
    return found


def outline_area(outline: Polygon, profile: Mapping[str, Any]) -> float | None:
    """Square metres on the ground of a polygon in px; None where the raster has no place on Earth.

    Args:
        profile: crs and transform or ground control points, as ``Source.profile`` has them.
    """
    import shapely

    transform, crs = _affine(profile), profile.get("crs")
    if transform is None or not crs:
        return None
    left, top, right, bottom = outline.bounds
    fine = shapely.segmentize(outline, max(right - left, bottom - top) / _PARTS)

    def place(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        columns, rows = corners.T
        x, y = transform @ (columns, rows)
        return np.stack([x, y], axis=1)

    try:
        area = float(ground_areas(np.array([shapely.transform(fine, place)], object), crs.to_wkt())[0])
    except Exception:  # what has no place on Earth, such as a CRS of a building site, PROJ refuses in many ways
        return None
    return area if math.isfinite(area) and area > 0 else None


def _affine(profile: Mapping[str, Any]) -> Any:
    from rasterio.transform import from_gcps

    points = profile.get("gcps") or ()
    found = from_gcps(points) if len(points) > 2 else profile.get("transform")
    return None if found is None or found.is_identity else found


def count_inside(outline: Polygon, read: Callable[[Window], Pixels], *, side: int) -> npt.NDArray[np.int64]:
    """int64 (256,): px of each class whose centre lies in a polygon in px; the last are those without data.

    Args:
        read: classes uint8 (h, w) of a window.
        side: px of the windows that are read, so that memory is bounded.
    """
    from rasterio import Affine
    from rasterio.features import geometry_mask

    counts = np.zeros(IGNORE + 1, np.int64)
    for window in _windows(outline, side):
        top, left, height, width = window
        inside = geometry_mask([outline], (height, width), Affine.translation(left, top), invert=True)
        if inside.any():
            counts += np.bincount(read(window)[inside], minlength=IGNORE + 1)
    return counts


def outline_window(outline: Polygon) -> Window:
    """The px that a polygon on a raster touches."""
    left, top, right, bottom = outline.bounds
    row, column = math.floor(top), math.floor(left)
    return row, column, math.ceil(bottom) - row, math.ceil(right) - column


def _windows(outline: Polygon, side: int) -> Iterator[Window]:
    top, left, height, width = outline_window(outline)
    for row in range(top - top % side, top + height, side):
        for column in range(left - left % side, left + width, side):
            first, second = max(row, top), max(column, left)
            yield first, second, min(row + side, top + height) - first, min(column + side, left + width) - second


def read_layer(path: Path, window: Window, shape: tuple[int, int] | None = None) -> Pixels:
    """uint8 (h, w) of a part of a map's layer, at full resolution or, by its overviews, in ``shape`` px."""
    from rasterio.windows import Window as Box

    top, left, height, width = window
    with open_raster(path) as file:
        return np.asarray(file.read(1, window=Box(left, top, width, height), out_shape=shape), np.uint8)
