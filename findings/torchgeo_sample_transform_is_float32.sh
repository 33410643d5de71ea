#!/usr/bin/env bash
# torchgeo 0.10.1: the affine transform that a GeoDataset's sample carries cannot hold where an orthophoto lies.
#
# Guess, written down first: sample["transform"] gives back the origin of the raster, so a map written with it lies on its image.
# Seen: it is a float32 tensor. Northings of UTM have seven digits before the point, where float32 counts in steps of half a
# metre: the origin 5762000.1 comes back as 5762000.0, one px off at 10 cm (at most 2.5 px). sample["bounds"] is float64 and right.
# Who is hurt: whoever writes predictions of 5 to 50 cm imagery with the sample's own transform: every map is shifted by some px.
# Here: weakseg takes the georeference from the file; benchmarks/geo_peers.py takes torchgeo's bounds, not its transform.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python "${PYTHON:-3.12}" "$work/env"
uv pip install -q --python "$work/env/bin/python" torchgeo==0.10.1
cd "$work" && env/bin/python -W ignore - <<'P'
import numpy as np
import rasterio
import torchgeo
from rasterio.transform import from_origin
from torchgeo.datasets import RasterDataset

place = from_origin(500000.1, 5762000.1, 0.1, 0.1)
with rasterio.open("a.tif", "w", driver="GTiff", height=64, width=64, count=3, dtype="uint8", crs="EPSG:25832", transform=place) as file:
    file.write(np.zeros((3, 64, 64), np.uint8))
dataset = RasterDataset("a.tif")
sample = dataset[dataset.bounds]
north = float(sample["transform"][5])
print("torchgeo", torchgeo.__version__, "|", sample["transform"].dtype, "| northing", north, "of 5762000.1 |", sample["bounds"].dtype)
assert str(sample["transform"].dtype) == "torch.float32" and abs(north - 5762000.1) > 0.09, "torchgeo behaves otherwise now"
assert str(sample["bounds"].dtype) == "torch.float64"
P
