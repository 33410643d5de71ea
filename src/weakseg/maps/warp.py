"""A finished map on another grid: another CRS or resolution, clipped to an area; every pixel stays a class of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.maps.vector_files import only_layer
from weakseg.raster.formats import reason_of, unwritable
from weakseg.raster.own_maps import IDENTITY
from weakseg.raster.stream import BLOCK, gdal_settings
from weakseg.raster.whole import whole_raster

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

_ROWS: Final = 4 * BLOCK  # of the map in memory
_SAME: Final = 1.05  # px of the output up to this many times the input's side are no coarser ones


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie."""

    crs: CRS
    transform: Affine
    width: int
    height: int


def warp_map(
    source: Path, target: Path, *, classes: bool, crs: str | None, res: float | None, area: Path | None
) -> None:
    """Write a GeoTIFF on another grid; its metadata, colour table and descriptions stay.

    Args:
        classes: pixels are classes: the nearest where the new ones are as fine or finer, the commonest (mode) where
            they are coarser, never a mean. Else linear and mean.
        crs: anything that PROJ names, such as EPSG:25832; None keeps the map's.
        res: side of a pixel in units of the new CRS; None keeps the map's size of pixels.
        area: a vector file of polygons; what lies outside of them becomes nodata, and the raster as small as they are.

    Raises:
        DataError: a map without a CRS, an area that is no polygons or lies elsewhere.
        ParamsError: an unknown CRS, or a resolution that is not positive, or coarser than the map is large.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if res is not None and not res > 0:
        raise ParamsError(f"--res {res}", expected="a side of a pixel above 0", cure="mend it")
    wanted = None if crs is None else _parse_crs(crs)
    try:
        with gdal_settings(), rasterio.open(source.absolute()) as file:
            if file.crs is None and not file.gcps[0]:
                raise DataError(f"{source}: no CRS", expected="a map with a place on Earth", cure="map it as it is")
            grid = _plan_grid(file, wanted, res)
            if res is not None and _coarsening(file, grid) > max(file.width, file.height):
                unit = "degrees" if grid.crs.is_geographic else grid.crs.linear_units
                raise ParamsError(
                    f"--res {res:g}: a px would be larger than {source}",
                    expected=f"the side of a px in units of the map's CRS, {unit}",
                    cure="mend it",
                )
            shapes = [] if area is None else _read_area(area, grid.crs)
            if area is not None:
                grid = _crop(grid, shapes, area, source)
            with _on_grid(file, grid, classes=classes) as warped:
                _write(warped, file, target, shapes)
    except (RasterioError, OSError) as error:
        raise unwritable(target, error) from error


def _parse_crs(text: str) -> CRS:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise ParamsError(
            f"--crs {text} ({reason_of(error)})", expected="a CRS, such as EPSG:25832", cure="look it up at epsg.io"
        ) from error


def _plan_grid(file: DatasetReader, crs: CRS | None, res: float | None) -> Grid:
    """The grid of the whole raster in another CRS or resolution; where only that changes its corner stays."""
    from rasterio import Affine
    from rasterio.warp import calculate_default_transform

    points, points_crs = file.gcps
    own = points_crs if points else file.crs
    plain = not points and file.transform.b == file.transform.d == 0
    if plain and (crs is None or crs == own):
        if res is None:
            return Grid(own, file.transform, file.width, file.height)
        left, bottom, right, top = file.bounds
        size = [max(1, ceil(length / res - 1e-6)) for length in (right - left, top - bottom)]
        return Grid(own, Affine(res, 0, left, 0, -res, top), size[0], size[1])
    place: dict[str, Any] = {"gcps": points} if points else dict(zip(_SIDES, file.bounds, strict=True))
    transform, width, height = calculate_default_transform(
        own, crs or own, file.width, file.height, resolution=res, **place
    )
    return Grid(crs or own, transform, width, height)


_SIDES: Final = ("left", "bottom", "right", "top")


@contextmanager
def _on_grid(file: DatasetReader, grid: Grid, *, classes: bool) -> Iterator[WarpedVRT]:
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    coarser = _coarsening(file, grid) > _SAME
    how = {
        (True, False): Resampling.nearest,
        (True, True): Resampling.mode,
        (False, False): Resampling.bilinear,
        (False, True): Resampling.average,
    }[classes, coarser]
    layout = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
    with WarpedVRT(file, resampling=how, src_nodata=IGNORE, nodata=IGNORE, **layout) as warped:
        yield warped


def _coarsening(file: DatasetReader, grid: Grid) -> float:
    """Sides of the input's pixels that fit into the side of one of the grid's."""
    from rasterio.warp import calculate_default_transform

    points, points_crs = file.gcps
    place: dict[str, Any] = {"gcps": points} if points else dict(zip(_SIDES, file.bounds, strict=True))
    natural, _, _ = calculate_default_transform(
        points_crs if points else file.crs, grid.crs, file.width, file.height, **place
    )
    return float(abs(grid.transform.determinant / natural.determinant) ** 0.5)


def _read_area(area: Path, crs: CRS) -> list[Any]:
    """The polygons of a vector file, in the CRS of the grid."""
    import geopandas
    import pyogrio

    layer = only_layer(area)
    try:
        frame = geopandas.read_file(area, layer=layer, engine="pyogrio")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        raise DataError(
            f"{area}: cannot be read ({reason_of(error)})", expected="a vector file of polygons", cure="check the path"
        ) from error
    kinds = set(frame.geom_type.dropna()) if len(frame) else set()
    if not kinds or kinds - {"Polygon", "MultiPolygon"} or frame.crs is None:
        found = "no CRS" if kinds and frame.crs is None else ", ".join(sorted(kinds)) or "nothing"
        raise DataError(f"{area}: {found}", expected="polygons with a CRS", cure="choose another layer or file")
    return [shape for shape in frame.to_crs(crs.to_wkt()).geometry if shape is not None and not shape.is_empty]


def _crop(grid: Grid, shapes: list[Any], area: Path, source: Path) -> Grid:
    """The part of a grid that the shapes reach into."""
    from rasterio import Affine

    boxes = np.array([shape.bounds for shape in shapes])
    if not np.isfinite(boxes).all():  # where the CRS of the map does not reach
        raise _outside(area, source)
    (left, bottom), (right, top) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    places = [~grid.transform @ (x, y) for x in (left, right) for y in (bottom, top)]
    columns, rows = zip(*places, strict=True)
    first_column, first_row = max(0, floor(min(columns) + 1e-6)), max(0, floor(min(rows) + 1e-6))
    last_column = min(grid.width, ceil(max(columns) - 1e-6))
    last_row = min(grid.height, ceil(max(rows) - 1e-6))
    if first_column >= last_column or first_row >= last_row:
        raise _outside(area, source)
    transform = grid.transform @ Affine.translation(first_column, first_row)
    return Grid(grid.crs, transform, last_column - first_column, last_row - first_row)


def _outside(area: Path, source: Path) -> DataError:
    return DataError(
        f"{area} lies outside of {source}",
        expected="an area that meets the map",
        cure="check both CRSs (a GeoJSON that names none counts degrees)",
    )


def _write(warped: WarpedVRT, file: DatasetReader, target: Path, shapes: list[Any]) -> None:
    import rasterio
    from rasterio.features import geometry_mask
    from rasterio.windows import Window
    from rasterio.windows import transform as part_of

    layout: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "count": file.count, "nodata": IGNORE}
    layout |= {"crs": warped.crs, "transform": warped.transform, "width": warped.width, "height": warped.height}
    layout |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    with whole_raster(target) as temporary, rasterio.open(temporary.absolute(), "w", **layout) as out:
        for row in range(0, warped.height, _ROWS):
            window = Window(0, row, warped.width, min(_ROWS, warped.height - row))
            values = warped.read(window=window)
            if shapes:
                outside = geometry_mask(shapes, values.shape[1:], part_of(window, warped.transform))
                values[:, outside] = IGNORE
            out.write(values, window=window)
        out.descriptions, out.scales = file.descriptions, file.scales
        # the identity says that a map is whole and on its raster's grid, which it no longer is
        out.update_tags(**{key: value for key, value in file.tags().items() if key != IDENTITY})
        if file.count == 1 and "palette" in [kind.name for kind in file.colorinterp]:
            out.write_colormap(1, file.colormap(1))
