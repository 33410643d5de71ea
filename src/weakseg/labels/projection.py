"""Shapes of a vector file -> pixels of a raster: between CRSs, then through its transform, then cut at its rim."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.raster.header import RasterInfo
from weakseg.raster.sidecars import names_elsewhere

Shapes = npt.NDArray[np.object_]
PIECE: Final = 500.0, 0.005  # m, degrees: sides are moved in such pieces, whose curve is less than 1 cm from its chord


def shapes_in(info: RasterInfo, shapes: Shapes, tree: Any) -> tuple[npt.NDArray[np.intp], Shapes]:
    """The shapes that touch a raster, and what of them lies in it, in px (x right, y down).

    Args:
        info: a raster with a place.
        shapes: in its CRS.
        tree: an STRtree of them.

    Returns:
        numbers (N,), rising, and shapes (N,).
    """
    import shapely

    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    determinant = a * e - b * d
    rim = shapely.box(0, 0, info.width, info.height)
    ground = shapely.transform(rim, lambda p: to_ground(info, p))
    numbers = np.sort(tree.query(ground, predicate="intersects"))
    pixels = shapely.transform(
        shapes[numbers],
        lambda p: (
            np.column_stack([e * (p[:, 0] - c) - b * (p[:, 1] - f), a * (p[:, 1] - f) - d * (p[:, 0] - c)])
            / determinant
        ),
    )
    return numbers, shapely.intersection(_mend(pixels), rim)


def to_ground(info: RasterInfo, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places (N, 2) in px, x right and y down -> in units of a raster's CRS."""
    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    x, y = places.T
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def project(shapes: Shapes, source: str | None, target: str | None) -> Shapes:
    """Shapes in the CRS of a file -> in that of a raster (None: they are already).

    Sides become curves, so each is cut into pieces first. What lies nowhere in the CRS becomes empty.
    """
    import shapely
    from rasterio.warp import transform

    if target is None or source is None or not len(shapes) or crs_of(source) == crs_of(target):
        return shapes
    dense = shapely.segmentize(shapes, PIECE[crs_of(source).is_geographic])

    def move(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(transform(crs_of(source), crs_of(target), *points.T.tolist())[:2])

    try:
        moved = shapely.transform(dense, move)
    except Exception:  # one point that PROJ refuses spoils the call, with an error of GDAL that has no public class
        moved = np.array([_move_one(shape, move) for shape in dense], object)
    finite = np.isfinite(shapely.bounds(moved)).all(1)
    moved[~finite] = shapely.Polygon()
    return _mend(moved)


def _move_one(shape: Any, move: Any) -> Any:
    import shapely

    try:
        return shapely.transform(shape, move)
    except Exception:  # as in project: a place that the CRS of the raster does not have, so outside of it
        return shapely.Polygon()


def _mend(shapes: Shapes) -> Shapes:
    """Shapes that rounding has made cross themselves, valid again."""
    import shapely

    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken], method="structure")
    return shapes


@lru_cache(maxsize=64)
def crs_of(text: str) -> Any:
    """The CRS that a text names; DataError where GDAL knows none.

    A link is refused unless it is OGC's name of a CRS: GDAL would fetch it, and a file that comes from outside says it.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        if names_elsewhere(text):
            raise CRSError("a link, or a file")
        return CRS.from_user_input(text)
    except (CRSError, ValueError) as error:  # EPSG:32V is a ValueError
        raise DataError(
            f"coordinates in {text} ({' '.join(str(error).split())})",
            expected="a CRS that GDAL knows",
            cure="name the file's crs",
        ) from error
