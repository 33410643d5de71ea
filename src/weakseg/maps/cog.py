"""Cloud Optimized GeoTIFF: tiled, with overviews and statistics, readable in parts over the network.

GDAL averages when it makes overviews of a raster without a colour table, and the mean of two class indices is a third
class. So overviews of classes are made by mode: each of their pixels is the commonest class below it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from weakseg.raster.stream import gdal_settings, open_raster
from weakseg.raster.whole import whole_raster

_LAYOUT: Final = {
    **{"COMPRESS": "DEFLATE", "LEVEL": "6", "BLOCKSIZE": "512", "BIGTIFF": "IF_SAFER"},
    **{"OVERVIEWS": "IGNORE_EXISTING", "STATISTICS": "YES"},
}


def write_cog(source: Path, target: Path, *, classes: bool) -> None:
    """Copy a GeoTIFF with its metadata, colour table and nodata into a Cloud Optimized one, whole or not at all.

    Args:
        source: may be ``target`` itself, which is then replaced.
        classes: pixels are classes, so overviews take the mode; else the mean, as of probabilities.

    Raises:
        DataError: the disk does not take it.
    """
    from rasterio.shutil import copy

    resampling = "MODE" if classes else "AVERAGE"
    with whole_raster(target) as temporary, gdal_settings(sidecars=False):
        copy(source.absolute(), temporary.absolute(), driver="COG", OVERVIEW_RESAMPLING=resampling, **_LAYOUT)


def is_cog(path: Path) -> bool:
    """Whether a raster says that its layout is that of a Cloud Optimized GeoTIFF."""
    with open_raster(path) as file:
        return bool(file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG")
