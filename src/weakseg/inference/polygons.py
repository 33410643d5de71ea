"""A map of classes as polygons: a GeoPackage with class names. Needs the extra ``geo``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.core.files import atomic_path
from weakseg.raster.stream import gdal_settings, raster_tags


def write_polygons(
    classes: Path, target: Path, scheme: ClassScheme, *, tolerance: float = 1.0, min_pixels: int = 16
) -> int:
    """Turn the classes of a map into polygons, one per connected patch; returns their number.

    Neighbours stay neighbours: shared borders are simplified once (coverage simplification), so that no gaps or
    overlaps arise. All polygons are held in memory; cut very large maps into parts.

    Args:
        classes: a map that ``weakseg predict`` wrote; pixels of 255 are in no polygon.
        target: a ``.gpkg``; layer ``classes`` with the columns ``value``, ``name``, ``area`` (square units of the CRS).
        tolerance: of the simplification, px; 0 keeps every corner.
        min_pixels: smaller patches are merged into their largest neighbour first; 1 keeps all.
    """
    try:
        import geopandas
        import shapely
    except ImportError as error:
        raise ParamsError(f"no {error.name}", expected="the extra geo", cure="install weakseg[geo]") from error
    import rasterio
    from rasterio.features import shapes, sieve

    if target.suffix.lower() != ".gpkg" or tolerance < 0 or min_pixels < 1:
        raise ParamsError(
            f"{target}, tolerance {tolerance}, min_pixels {min_pixels}",
            expected="a .gpkg, tolerance >= 0 and min_pixels >= 1",
            cure="mend it",
        )
    raster_tags(classes)  # refuses what is no raster
    with gdal_settings(), rasterio.open(classes) as file:
        values, crs, transform = file.read(1), file.crs, file.transform
        valid = file.read_masks(1) != 0
        if min_pixels > 1:
            values = sieve(values, min_pixels, mask=valid)
        found = list(shapes(values, mask=valid, transform=transform))
    outlines = np.array([shapely.geometry.shape(geometry) for geometry, _ in found], object)
    if tolerance and len(outlines):
        # shapely takes the square root of the area of the triangles that may go as the tolerance
        outlines = shapely.coverage_simplify(outlines, tolerance * abs(transform.determinant) ** 0.5)
    codes = [int(value) for _, value in found]
    frame = geopandas.GeoDataFrame(
        {"value": codes, "name": [scheme.names[code] for code in codes], "area": shapely.area(outlines)},
        geometry=list(outlines),
        crs=crs,
    )
    with atomic_path(target) as temporary:
        frame.to_file(temporary, driver="GPKG", layer="classes", engine="pyogrio")
    return len(frame)
