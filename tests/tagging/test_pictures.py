"""Pictures of crops come out of windows: the size of the scene does not matter."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from weakseg.tagging.pictures import CropPictures

SIDE = 44_000  # px, 5.8 GB of pixels, about as much as an import takes
CROP = ("huge", (40_000, 30_000, 200, 200))


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_crop_of_a_huge_scene_is_read_as_a_window(tmp_path: Path) -> None:
    facts = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "driver": "GTiff"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "yes"}
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    bright = np.full((3, 200, 200), 200, np.uint8)
    with rasterio.open(images / "huge.tif", "w", **facts, **layout, compress="deflate") as file:
        file.write(bright, window=Window(30_000, 40_000, 200, 200))
    pictures = CropPictures(images, {"huge": (SIDE, SIDE)}, tmp_path / "kept")
    tracemalloc.start()
    began = time.process_time()
    assert pictures.has_data(CROP)
    picture = pictures.crop(CROP)
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    row, column, height, width = pictures.frame(CROP)
    assert picture.startswith(b"\xff\xd8")
    assert (pictures.shown("huge", CROP[1]) == 200).all()
    assert peak < 8 * 3 * height * width < 20e6
    assert spent < 5
    assert (row, column) < (40_000, 30_000)
