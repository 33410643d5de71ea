#!/usr/bin/env bash
# rasterio 1.4.4 (its wheel's GDAL): `rasterio.warp.transform` of a point that the other CRS does not reach RAISES the first 20 times and
# RETURNS ([inf], [inf]) from then on, for the same call in the same process. What it raises is no RasterioError.
#
# Guess, written down first: one of the two, always: infinity (as pyproj), or a RasterioError.
# Seen: an error of a private class (rasterio._err.CPLE_AppDefinedError) 20 times, then infinities without a word. GDAL stops to report
# what it cannot project after 20 points of one pair of CRS, and keeps its transformer, with the count, for the next call; rasterio raises
# where GDAL reports. Twenty points in one call use the count up as well.
# Who is hurt: whoever catches RasterioError (the error passes by), and whoever catches all and takes what is returned for a place.
# Here: `weakseg.raster.georeference.moved` gives infinities in both cases; imports say that a label is out of reach of its image.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python 3.11 "$work/env"
uv pip install -q --python "$work/env/bin/python" rasterio==1.4.4 numpy==2.2.6
cd "$work" && env/bin/python -W ignore - <<'P'
import rasterio
from rasterio.errors import RasterioError
from rasterio.warp import transform


def call() -> str:
    """Easting 500000 in the CRS whose eastings in this zone begin with 32: nowhere in the zone."""
    try:
        return str(transform("EPSG:4647", "EPSG:25832", [500000.0], [5700000.0]))
    except RasterioError:
        return "RasterioError"
    except Exception as error:
        return type(error).__name__


seen = [call() for _ in range(30)]
first = seen.index("([inf], [inf])")
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, f"{first} x {seen[0]}, then {seen[first]}")
assert set(seen[:first]) == {"CPLE_AppDefinedError"} and set(seen[first:]) == {"([inf], [inf])"}
assert first == 20, "rasterio behaves otherwise now"
P
