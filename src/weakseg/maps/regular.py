"""Right angles for the polygons of buildings, by the package buildingregulariser (extra ``gis``)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from weakseg.core.errors import ParamsError
from weakseg.maps.ground import local_crs

_LEAST: Final = 0.7  # of the area that a polygon and its regular form cover together, both must share


def regularise(polygons: Any, crs: Any, pixel: float) -> Any:
    """Polygons with edges parallel or at right angles to their main direction.

    One whose regular form is missing, empty or another shape (less than 70 % of both in common) stays as it is.

    Args:
        polygons: shapely polygons (n,).
        crs: theirs, as pyproj takes it; None counts px.
        pixel: side of a pixel of the map in m, or 1 where there is no CRS: what a stair of an outline measures.

    Raises:
        ParamsError: the extra ``gis`` is not installed.
    """
    try:
        from buildingregulariser import regularize_geodataframe
    except ImportError as error:
        raise ParamsError("no buildingregulariser", expected="the extra gis", cure="install weakseg[gis]") from error
    import geopandas
    import shapely

    frame = geopandas.GeoDataFrame({"row": np.arange(len(polygons))}, geometry=list(polygons), crs=crs)
    metric = frame if crs is None else frame.to_crs(local_crs(polygons, crs))
    found = regularize_geodataframe(
        metric,
        parallel_threshold=3 * pixel,
        simplify_tolerance=1.5 * pixel,
        allow_45_degree=False,
        allow_circles=False,
        num_cores=1,
    )
    back = found if crs is None else found.to_crs(crs)
    regular = np.asarray(polygons, object).copy()
    for row, shape in zip(back["row"], back.geometry, strict=True):
        if shape is not None and shape.geom_type == "Polygon" and shape.is_valid and _alike(shape, polygons[row]):
            regular[row] = shape
    return shapely.force_2d(regular)


def _alike(first: Any, second: Any) -> bool:
    return bool(first.intersection(second).area >= _LEAST * first.union(second).area)
