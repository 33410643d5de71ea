"""Claim: the polygons of a 50,000 x 50,000 px map take less than 2 GB of memory, and are whole across blocks.

python benchmarks/polygons.py [--side 50000] [--grain 96] [--folder FOLDER]

Writes a map of five classes in patches of about --grain px that reach over the borders of blocks, with a confidence
layer, and turns it into polygons (GeoPackage, default options) in a process of its own, as `weakseg polygons` does.
Printed are the peak of resident memory of that process, libraries included (resource.getrusage), its CPU time and the
number of polygons. The areas of all polygons are added up and compared with the map. Exit code 1 over 2 GB or if the
areas differ. With --folder the map is kept and used again.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pyogrio
import rasterio
from rasterio.windows import Window

from weakseg.core.classes import ISPRS

LIMIT = 2_000_000_000  # bytes
TILE = 4096  # px of the pattern that the map repeats, each time turned or mirrored
BAND = 2048


def write_map(folder: Path, side: int, grain: int) -> tuple[Path, Path]:
    """The map and its confidence, all pixels with data."""
    rng = np.random.default_rng(0)
    shape = (TILE // grain + 1, TILE // grain + 1)
    heights = [cv2.resize(rng.standard_normal(shape).astype(np.float32), (TILE, TILE), interpolation=cv2.INTER_CUBIC)
               for _ in range(5)]  # fmt: skip
    classes = np.argmax(heights, axis=0).astype(np.uint8)
    layout = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "uint8", "nodata": 255}
    layout |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1}
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.1, 0, 497000, 0, -0.1, 5420000)}
    paths = folder / "map.tif", folder / "confidence.tif"
    for path in paths:
        with rasterio.open(path, "w", **layout, **place, BIGTIFF="IF_SAFER") as file:
            for row in range(0, side, BAND):
                rows = min(BAND, side - row)
                columns = [
                    np.roll(classes, (37 * row // BAND, 911 * k), (0, 1))[:rows] for k in range(-(-side // TILE))
                ]
                values = np.concatenate(columns, axis=1)[:, :side]
                file.write(values if path == paths[0] else 200 + values, 1, window=Window(0, row, side, rows))
            if path == paths[0]:
                file.update_tags(**{f"CLASS_{index}": name for index, name in enumerate(ISPRS.names)})
                file.write_colormap(1, ISPRS.colour_table())
    return paths


def child(raster: Path, confidence: Path, target: Path) -> None:
    """Make the polygons in this process and print its peak."""
    from weakseg.maps.polygons import write_polygons

    began = time.process_time()
    count = write_polygons(raster, target, confidence=confidence)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(count, peak, round(time.process_time() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=50_000)
    parser.add_argument("--grain", type=int, default=96)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=3, type=Path)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "map.tif", folder / "confidence.tif"
        if not all(path.is_file() for path in paths):
            paths = write_map(folder, options.side, options.grain)
        target = folder / "map.gpkg"
        command = [sys.executable, __file__, "--child", *map(str, (*paths, target))]
        count, peak, seconds = map(
            int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        )
        areas = pyogrio.read_dataframe(target, columns=["area_m2"], read_geometry=False)["area_m2"]
    expected = options.side**2 * 0.01 / 0.9996**2  # on the central meridian of UTM a map is smaller than the ground
    wrong = abs(areas.sum() / expected - 1) > 1e-3
    print(f"| {options.side} x {options.side} px, {count} polygons | peak {peak / 1e6:.0f} MB, {seconds} s of CPU")
    print(f"areas add up to {areas.sum():.0f} m2 of {expected:.0f} m2")
    sys.exit(int(wrong or peak > LIMIT))


if __name__ == "__main__":
    main()
