"""Where a raster lies: its CRS (from the file or a sidecar) and the true size of its pixels on the ground."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.raster import sidecars

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

UNEVEN: Final = 1.1  # ratio of the sides of a px from which on things look stretched
_REACH: Final = 50.0  # px from the centre over which a pixel is measured: far above the noise of a projection's inverse


def place_of(file: DatasetReader, path: Path) -> dict[str, Any]:
    """crs, transform, control points and RPCs as rasterio takes them; only what the file or its sidecars tell."""
    points, points_crs = file.gcps
    if points:
        return {"gcps": points, "crs": points_crs}
    crs, transform = sidecars.place_of(path, file)
    place: dict[str, Any] = {} if crs is None else {"crs": crs}
    if transform is None and file.rpcs:
        place["rpcs"] = file.rpcs
    return place if transform is None else {**place, "transform": transform}


def distance_of(file: DatasetReader, path: Path) -> float | None:
    """:func:`ground_distance` of an open raster, ground control points included."""
    from rasterio.transform import from_gcps

    points, points_crs = file.gcps
    if points:
        return ground_distance(points_crs, from_gcps(points), file.height, file.width) if len(points) > 2 else None
    crs, transform = sidecars.place_of(path, file)
    return None if transform is None else ground_distance(crs, transform, file.height, file.width)


def moved(points: npt.NDArray[np.float64], source: CRS, target: CRS) -> npt.NDArray[np.float64]:
    """Points (N, 2) in one CRS -> the same in another; not finite where that does not reach."""
    from rasterio.warp import transform as project

    try:
        return np.array(project(source, target, points[:, 0], points[:, 1])[:2], np.float64).T
    except Exception:  # PROJ's refusals have no public class in rasterio, and now and then are infinities instead
        return np.full_like(points, np.inf)


def ground_distance(crs: CRS | None, transform: Affine, height: int, width: int) -> float | None:
    """True metres per px at the centre of a raster: the root of the area of a px, so rotation does not matter.

    Returns:
        None where there is no CRS or transform, or the centre lies outside the CRS or on no Earth.
    """
    if crs is None or transform.is_identity:
        return None
    sides = _sides_on_ground(crs, transform, height, width)
    if sides is None:
        return None
    (right, along), (sideways, down) = sides
    area = abs(right * down - along * sideways)
    return math.sqrt(area) if math.isfinite(area) and area > 0 else None


def uneven_sides(crs: CRS | None, transform: Affine | None, height: int, width: int) -> tuple[float, float] | None:
    """Metres on the ground of a px across and down, where they differ by more than a tenth; None else.

    So are px of as many degrees in both directions anywhere but near the equator.
    """
    if crs is None or transform is None or transform.is_identity:
        return None
    sides = _sides_on_ground(crs, transform, height, width)
    if sides is None:
        return None
    across, down = (math.hypot(x, y) for x, y in sides)
    if not min(across, down) > 0 or not math.isfinite(across * down) or max(across, down) <= UNEVEN * min(across, down):
        return None
    return across, down


def _sides_on_ground(
    crs: CRS, transform: Affine, height: int, width: int
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """East and north, in true metres, of a step of one px to the right and of one down, at the centre of a raster.

    The units of a projection are metres only where its scale is 1 (UTM within a thousandth; EPSG:3857 at 52 degrees
    north is 1.62 too large), and degrees are none at all. So px are measured in an equal-area projection around
    the centre.
    """
    from rasterio.crs import CRS
    from rasterio.warp import transform as project

    row, column, reach = height / 2, width / 2, min(_REACH, max(height, width) / 2)
    try:
        (longitude,), (latitude,) = project(crs, "EPSG:4326", *_along(transform, [(column, row)]))
        local = CRS.from_string(f"+proj=laea +lat_0={latitude:.9f} +lon_0={longitude:.9f} +datum=WGS84 +units=m")
        ends = [(column - reach, row), (column + reach, row), (column, row - reach), (column, row + reach)]
        x, y = (np.array(axis) for axis in project(crs, local, *_along(transform, ends)))
    except Exception:  # PROJ's refusals have no public class in rasterio
        return None
    (right, sideways), (along, down) = (np.diff(axis)[::2] / (2 * reach) for axis in (x, y))
    return (float(right), float(along)), (float(sideways), float(down))


def _along(transform: Affine, places: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """x and y of places (column, row)."""
    found = [transform @ place for place in places]
    return [x for x, _ in found], [y for _, y in found]
