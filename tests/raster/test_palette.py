"""Palette rasters as Pillow and rasterio write them: colours, transparency, and indices that the table lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from weakseg.core.errors import DataError
from weakseg.raster.palette import Palette, read_palette

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).quantize(7)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif"])
def test_the_colours_are_those_that_pillow_shows(tmp_path: Path, name: str) -> None:
    PICTURE.save(tmp_path / name)
    with rasterio.open(tmp_path / name) as file:
        palette = read_palette(file, name)
        assert palette is not None
        indices = file.read(1)
    np.testing.assert_array_equal(palette.expand(indices), np.asarray(PICTURE.convert("RGB")))
    assert palette.opaque(indices).all()
    assert not palette.transparent


def test_transparent_entries_are_no_data(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 0]))
    with rasterio.open(tmp_path / "a.png") as file:
        palette = read_palette(file, "a.png")
    assert palette is not None
    assert palette.transparent
    assert palette.opaque(np.array([0, 1, 2, 3, 4])).tolist() == [False, True, True, False, True]


def test_a_table_of_16_bits_is_read(tmp_path: Path) -> None:
    layout = {"driver": "GTiff", "count": 1, "dtype": "uint16", "height": 1, "width": 2, "photometric": "palette"}
    with rasterio.open(tmp_path / "a.tif", "w", **layout) as file:
        file.write(np.array([[[300, 65535]]], np.uint16))
        file.write_colormap(1, {300: (1, 2, 3, 255), 65535: (4, 5, 6, 255)})
    with rasterio.open(tmp_path / "a.tif") as file:
        palette = read_palette(file, "a.tif")
        assert palette is not None
        assert palette.expand(file.read(1)).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_rasters_without_a_table_are_no_palettes(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "RGBA", "LA"):
        PICTURE.convert("RGB").convert(mode).save(tmp_path / "a.png")
        with rasterio.open(tmp_path / "a.png") as file:
            assert read_palette(file, "a.png") is None


def test_an_index_that_the_table_lacks_is_refused() -> None:
    palette = Palette("a.png", np.full((3, 4), 255, np.uint8))
    with pytest.raises(DataError, match=r"a\.png: palette index 3; expected an index below 3"):
        palette.expand(np.array([[0, 3]]))
