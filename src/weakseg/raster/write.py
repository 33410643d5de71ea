"""Rasters are written whole or not at all: from an array, or band of rows by band of rows on the grid of another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.raster.header import RasterInfo, quiet
from weakseg.raster.stream import BLOCK, Pixels, Source, gdal_settings
from weakseg.raster.whole import whole_raster

_TILE: Final = 512  # px
_WRITERS: Final = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG"}


def write_bands(
    path: Path,
    bands: Iterable[Pixels],
    source: Source,
    *,
    names: Sequence[str],
    classes: ClassScheme | None = None,
    unit: float = 1.0,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a tiled, compressed GeoTIFF on the grid of ``source``, whole or not at all; nodata is 255.

    Args:
        bands: uint8 (len(names), rows, W), from the top; all but the last of a multiple of ``BLOCK`` rows.
        names: description of each band.
        classes: a colour table for a single band of class indices.
        unit: what a pixel value of 1 means, stored as the scale of the bands.
        tags: metadata of the file.
    """
    import rasterio

    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ParamsError(f"output {path}", expected="a name that ends in .tif", cure="rename it")
    layout = {"count": len(names), "height": source.height, "width": source.width, "dtype": "uint8", "nodata": IGNORE}
    layout |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"}
    # level 5 takes a third of the time of the usual 6; synthetic maps grew by 4 and 19 %
    layout |= {"compress": "deflate", "zlevel": 5, "BIGTIFF": "IF_SAFER"} | dict(source.profile)
    with (
        whole_raster(path) as temporary,
        gdal_settings(sidecars=False),
        rasterio.open(temporary.absolute(), "w", driver="GTiff", **layout) as file,
    ):
        row = 0
        for band in bands:
            rows = band.shape[1]
            file.write(band, window=((row, row + rows), (0, source.width)))
            row += rows
        file.descriptions = tuple(names)
        file.update_tags(**(tags or {}))
        if unit != 1.0:
            file.scales = (unit,) * len(names)
        if classes is not None:
            file.write_colormap(1, classes.colour_table())


def write_raster(
    path: Path,
    array: npt.NDArray[Any],
    info: RasterInfo | None = None,
    *,
    colours: ClassScheme | None = None,
    compress: bool = False,
    valid: npt.NDArray[np.bool_] | None = None,
    names: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a ``.tif`` or ``.png``, whole or not at all.

    Args:
        path: the file; its suffix chooses the format. An existing file is replaced.
        array: (H, W) or (H, W, bands), a dtype that the format knows.
        info: where to take crs, transform and nodata from, usually that of the image the array belongs to; its size
            must fit, its bands and dtype do not matter.
        colours: give an index mask (H, W) uint8 the colours of these classes, as a colour table, and nodata 255.
        compress: ``.tif`` only: 512 px tiles, or one strip where no more is needed, and lossless compression.
        valid: ``.tif`` only: bool (H, W), where there is data, for the file's own mask; it replaces a nodata value.
        names: ``.tif`` only: descriptions of the bands.
        tags: ``.tif`` only: metadata of the file.

    Raises:
        DataError: shape and ``info`` disagree, an unknown suffix, a place on Earth that a PNG cannot hold, or the
            file cannot be written.
    """
    import rasterio
    from rasterio.crs import CRS

    layers = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    _check_writable(path, array, info, colours)
    profile: dict[str, Any] = {"count": layers.shape[0], "height": layers.shape[1], "width": layers.shape[2]}
    if info is not None:
        profile |= {"crs": CRS.from_wkt(info.crs) if info.crs else None, "nodata": _fitting(info.nodata, array.dtype)}
        profile |= {"transform": rasterio.Affine(*info.transform)} if info.transform else {}
    if colours is not None:
        profile["nodata"] = IGNORE  # its colour may be that of a class
    if valid is not None:
        profile["nodata"] = None  # programs disagree which of two marks counts
    if compress:
        predictor = 3 if array.dtype.kind == "f" else 2
        profile |= {"compress": "deflate", "predictor": predictor}
        # a small image is one strip: a tile would be filled up to its whole size, which takes five times as long
        small = max(layers.shape[1:]) <= _TILE
        profile |= (
            {"blockysize": layers.shape[1]} if small else {"tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
        )
        profile["zlevel"] = 1  # measured on aerial images: half the time of the usual level 6, 6 % larger
    # no .aux.xml beside the temporary name: it would be left behind
    settings = rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_TIFF_INTERNAL_MASK=True)
    with whole_raster(path) as temporary, quiet(), settings:
        driver = _WRITERS[path.suffix.lower()]
        with rasterio.open(temporary, "w", driver=driver, dtype=array.dtype.name, **profile) as file:
            file.write(layers)
            if names:
                file.descriptions = tuple(names)
            if tags is not None:
                file.update_tags(**tags)
            if valid is not None:
                file.write_mask(valid)
            if colours is not None:
                file.write_colormap(1, colours.colour_table())


def _check_writable(path: Path, array: npt.NDArray[Any], info: RasterInfo | None, colours: ClassScheme | None) -> None:
    suffix, shape = path.suffix.lower(), array.shape
    if suffix not in _WRITERS:
        raise DataError(f"{path}: suffix {suffix!r}", expected=f"one of {', '.join(_WRITERS)}", cure="rename it")
    if suffix == ".png" and info is not None and info.georeferenced:
        raise DataError(f"{path}: a PNG keeps no CRS", expected="a .tif", cure="write a .tif, or pass no info")
    if array.ndim not in (2, 3) or 0 in shape or (info is not None and shape[:2] != (info.height, info.width)):
        wanted = "(H, W) or (H, W, bands)" if info is None else f"{info.height}x{info.width} px like its raster"
        raise DataError(f"{path}: array of shape {shape}", expected=wanted, cure="pass the array of this raster")
    if colours is not None and (array.ndim != 2 or array.dtype != np.uint8):
        raise DataError(
            f"{path}: {array.dtype} array of shape {shape} with class colours",
            expected="an index mask, uint8 (H, W)",
            cure="pass no colours",
        )


def _fitting(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """``nodata`` if ``dtype`` can hold it; a value it cannot hold marks no pixel, so nothing is lost without it."""
    if nodata is None or dtype.kind not in "iu":
        return nodata
    limits = np.iinfo(dtype)
    return nodata if math.isfinite(nodata) and limits.min <= nodata <= limits.max else None
