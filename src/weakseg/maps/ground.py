"""True areas on the ground, whatever the CRS."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def ground_areas(polygons: Any, crs: Any) -> npt.NDArray[np.float64]:
    """Areas of polygons in m2 on the ellipsoid of WGS84.

    Coordinates in degrees have no area, EPSG:3857 makes it 2.6 times as large at 52 degrees north, and UTM is off by
    up to 0.2 %. So corners are taken into Lambert's equal-area projection around the middle of the polygons, where
    areas are those on the ground and still add up.

    Args:
        polygons: shapely polygons (n,).
        crs: theirs, as pyproj takes it.
    """
    import shapely
    from pyproj import Transformer

    if not len(polygons):
        return np.zeros(0)
    local = local_crs(polygons, crs)
    to_local = Transformer.from_crs(crs, local, always_xy=True)

    def project(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack(to_local.transform(places[:, 0], places[:, 1]), axis=1)

    return np.asarray(shapely.area(shapely.transform(polygons, project)), float)


def local_crs(polygons: Any, crs: Any) -> str:
    """Lambert's azimuthal equal-area projection in metres, around the middle of polygons."""
    import shapely
    from pyproj import Transformer

    left, bottom, right, top = shapely.total_bounds(polygons)
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(
        (left + right) / 2, (bottom + top) / 2
    )
    return f"+proj=laea +lat_0={latitude:.6f} +lon_0={longitude:.6f} +datum=WGS84 +units=m"
