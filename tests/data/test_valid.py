"""Where a raster has data: every mark that programs write, read as `predict` reads it; the mask that imports keep."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.data.importing.dataset import import_dataset
from weakseg.raster.header import read_info
from weakseg.raster.open import read_image, read_mask, read_valid
from weakseg.raster.stream import inspect_source, open_reader
from weakseg.raster.write import write_raster

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PIXELS = np.random.default_rng(0).integers(1, 255, (20, 30, 3), dtype=np.uint8)
VALID = np.ones((20, 30), bool)
VALID[:, :7] = False
VALID[15:, 20:] = False
BLACK = np.where(VALID[..., None], PIXELS, 0).astype(np.uint8)
BLACK[3, 10] = (0, 5, 9)  # data, although one band is 0


def save(
    path: Path, pixels: np.ndarray, *, mask: np.ndarray | None = None, internal: bool = True, **options: Any
) -> None:
    layout = {"driver": "GTiff", "count": pixels.shape[2], "height": 20, "width": 30, "dtype": "uint8"}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **layout, **options) as file:
            file.write(np.moveaxis(pixels, -1, 0))
            if mask is not None:
                file.write_mask(mask)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.where(VALID, 255, 0).astype(np.uint8)])


WRITERS: dict[str, Callable[[Path], None]] = {
    "nodata": lambda path: save(path, BLACK, nodata=0),
    "alpha": lambda path: save(path, with_alpha(PIXELS), photometric="RGB", alpha="yes"),
    "internal mask": lambda path: save(path, PIXELS, mask=VALID),
    "mask beside it": lambda path: save(path, PIXELS, mask=VALID, internal=False),
    "alpha of a PNG": lambda path: Image.fromarray(with_alpha(PIXELS)).save(path, "PNG"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_marks_are_read_as_predict_reads_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    WRITERS[kind](path)
    valid = read_valid(path, bands=(3, 1, 2))
    assert valid is not None
    assert np.array_equal(valid, VALID)
    source = inspect_source(path, (3, 1, 2))
    with open_reader(source) as reader:
        predicted = reader.valid((0, 0, 20, 30))
    assert predicted is not None
    assert np.array_equal(predicted, VALID)


def test_a_transparent_colour_is_no_data(tmp_path: Path) -> None:
    picture = Image.fromarray(np.where(VALID, 0, 1).astype(np.uint8), "P")
    picture.putpalette([9, 8, 7, 0, 0, 0])
    picture.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    valid = read_valid(tmp_path / "a.png")
    assert valid is not None
    assert np.array_equal(valid, VALID)


def test_without_a_mark_or_a_marked_pixel_there_are_data_everywhere(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", BLACK)
    save(tmp_path / "b.tif", PIXELS, nodata=0)
    save(tmp_path / "c.tif", np.dstack([PIXELS, PIXELS[..., :1] * 0]), photometric="MINISBLACK", alpha="no")
    for name in "abc":
        assert read_valid(tmp_path / f"{name}.tif", bands=(1, 2, 3)) is None


def test_pixels_and_marks_are_turned_alike(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(with_alpha(PIXELS)).save(tmp_path / "a.png", exif=exif)
    valid = read_valid(tmp_path / "a.png", bands=(1, 2, 3))
    assert valid is not None
    assert np.array_equal(valid, np.rot90(VALID, -1))
    assert np.array_equal(read_image(tmp_path / "a.png", bands=(1, 2, 3)), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("kind", WRITERS)
def test_an_import_keeps_the_marks_and_ignores_labels_there(tmp_path: Path, kind: str) -> None:
    images, labels, data = (tmp_path / name for name in ("images", "labels", "data"))
    images.mkdir()
    WRITERS[kind](images / "a.tif")
    mask = np.tile(np.arange(30, dtype=np.uint8) % 5, (20, 1))
    write_raster(labels / "a.png", mask)
    report = import_dataset(images, [labels], data, bands=(1, 2, 3), progress=False)
    assert dict(report.class_pixels)["ignore"] == (~VALID).sum() == 190
    assert "190 px without image data are ignored, in 1 areas" in str(report)
    valid = read_valid(data / "images" / "a.tif")
    assert valid is not None
    assert np.array_equal(valid, VALID)
    assert read_info(data / "images" / "a.tif").nodata is None
    assert np.array_equal(read_mask(data / "labels" / "a.tif", ISPRS), np.where(VALID, mask, IGNORE))
    assert np.array_equal(read_image(data / "images" / "a.tif"), BLACK if kind == "nodata" else PIXELS)
    assert sorted(path.name for path in (data / "images").iterdir()) == ["a.tif"]
