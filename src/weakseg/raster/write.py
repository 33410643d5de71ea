"""Writing a large raster band of rows by band of rows, on the grid of the one it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.raster.stream import BLOCK, Pixels, Source, gdal_settings
from weakseg.raster.whole import whole_raster


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
