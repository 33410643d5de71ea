#!/usr/bin/env bash
# rasterio 1.4.4 (its wheel's GDAL): where the disk is full when a GeoTIFF is closed, `with rasterio.open(..., "w")` ends WITHOUT AN
# EXCEPTION and leaves a file that lacks its end. The same code raises where the disk is full earlier.
#
# Guess, written down first: some call raises, at the latest the end of the `with` block, for what was not written is known there.
# Seen: GDAL keeps the last strips until the file is closed; that they could not be written is one line on standard error, which no
# exception, log record or return value tells. The file opens, has the right size in px, and fails or reads as zeros at its end.
# Who is hurt: whoever writes a raster under a temporary name and renames it when no exception came: half a raster is taken for whole.
# Here: `weakseg.raster.whole` looks whether every strip and tile that the file speaks of lies in it before it gets its name.
# The limit of the size of a file stands for a full disk: the system calls fail in the same way.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python 3.11 "$work/env"
uv pip install -q --python "$work/env/bin/python" rasterio==1.4.4 numpy==2.2.6
cd "$work" && env/bin/python -W ignore - <<'P'
import os
import resource
import signal

import numpy as np
import rasterio

image = np.random.default_rng(0).integers(0, 255, (3, 250, 250), np.uint8)


def write(limit: int) -> str:
    """What the `with` block said with files of at most ``limit`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with rasterio.open("a.tif", "w", driver="GTiff", count=3, height=250, width=250, dtype="uint8") as file:
            file.write(image)
        return "no exception"
    except rasterio.errors.RasterioError:
        return "RasterioIOError"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk: an error of write(), no signal
seen = [write(resource.RLIM_INFINITY)]
whole = os.path.getsize("a.tif")
seen.append(write(whole - 3000))
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, seen, whole, os.path.getsize("a.tif"))
assert seen == ["no exception", "no exception"]
assert os.path.getsize("a.tif") < whole, "rasterio behaves otherwise now"
P
