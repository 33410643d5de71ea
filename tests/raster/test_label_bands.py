"""Label files as programs write them: what they say beside their numbers is read, and lossy ones are refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.raster.masks import MaskOptions
from weakseg.raster.open import read_label, read_mask

SCHEME = ClassScheme(("tree", "house", "road"), ((0, 9, 0), (9, 0, 0), (9, 9, 0)), (("none", (0, 0, 0)),))
BINARY = ClassScheme(("background", "building"), ((0, 0, 0), (255, 255, 255)))
DRAWN = np.repeat(np.array([[0, 1, 2, 1], [2, 2, 0, 0]], np.uint8), 8, axis=1)  # 2 x 32 px


def write(path: Path, layers: np.ndarray, *, env: dict[str, object] | None = None, **options: object) -> Path:
    layers = layers[None] if layers.ndim == 2 else layers
    count, height, width = layers.shape
    with warnings.catch_warnings(action="ignore"), rasterio.Env(**(env or {})):
        profile = {"count": count, "height": height, "width": width, "dtype": layers.dtype.name, "driver": "GTiff"}
        with rasterio.open(path, "w", **profile, **options) as file:
            file.write(layers)
    return path


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_palettes_of_any_depth_and_order_are_read_by_colour(
    tmp_path: Path, bits: int, order: tuple[int, int, int]
) -> None:
    place = np.argsort(order).astype(np.uint8)  # class -> number in this file
    picture = Image.fromarray(place[DRAWN], "P")
    picture.putpalette([part for index in order for part in SCHEME.colours[index]])
    picture.save(tmp_path / "a.png", bits=bits)
    picture.save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, SCHEME), DRAWN)


def test_16_bit_palettes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with warnings.catch_warnings(action="ignore"):
        profile = {"count": 1, "height": 2, "width": 32, "dtype": "uint16", "photometric": "palette"}
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            file.write(DRAWN.astype(np.uint16) + 300, 1)
            file.write_colormap(1, {300 + index: (*colour, 255) for index, colour in enumerate(SCHEME.colours)})
    np.testing.assert_array_equal(read_mask(path, SCHEME), DRAWN)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_1_bit_masks(tmp_path: Path, suffix: str) -> None:
    drawn = (DRAWN > 0).astype(np.uint8)
    Image.fromarray(drawn * 255).convert("1").save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"a.{suffix}", BINARY), drawn)
    inverted = ClassScheme(("building", "background"), BINARY.colours[::-1])
    with pytest.raises(DataError, match="two ways"):
        read_mask(tmp_path / f"a.{suffix}", inverted)
    label = read_label(tmp_path / f"a.{suffix}", inverted, MaskOptions("colours"))
    np.testing.assert_array_equal(label.mask, 1 - drawn)


def test_grey_values_that_are_stored_inverted_are_read_as_they_look(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.where(DRAWN > 0, 0, 255).astype(np.uint8), photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(path, BINARY), DRAWN > 0)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_what_gis_programs_write(tmp_path: Path, dtype: str) -> None:
    nodata = -9999.0 if dtype[0] != "u" else 65535.0
    values = DRAWN.astype(dtype)
    values[0, :3] = nodata
    expected = DRAWN.copy()
    expected[0, :3] = 255
    np.testing.assert_array_equal(read_mask(write(tmp_path / "a.tif", values, nodata=nodata), SCHEME), expected)


def test_masks_inside_and_beside_the_file_are_ignore(tmp_path: Path) -> None:
    for inside in ("YES", "NO"):  # GDAL writes the mask into the file, or into a.tif.msk
        path = write(tmp_path / f"{inside}.tif", DRAWN)
        with (
            warnings.catch_warnings(action="ignore"),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
            rasterio.open(path, "r+") as file,
        ):
            file.write_mask(DRAWN != 1)
        expected = np.where(DRAWN == 1, 255, DRAWN)
        np.testing.assert_array_equal(read_mask(path, SCHEME), expected)


def test_transparency_of_png(tmp_path: Path) -> None:
    drawn = SCHEME.to_colours(DRAWN)
    Image.fromarray(np.dstack([DRAWN, np.where(DRAWN == 2, 0, 255).astype(np.uint8)]), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "la.png", SCHEME), np.where(DRAWN == 2, 255, DRAWN))
    Image.fromarray(drawn).save(tmp_path / "rgb.png", transparency=(1, 1, 1))
    np.testing.assert_array_equal(read_mask(tmp_path / "rgb.png", SCHEME), DRAWN)
    Image.fromarray(drawn).save(tmp_path / "class.png", transparency=(9, 0, 0))
    with pytest.raises(DataError, match=r"16 px of \(9, 0, 0\), which is nodata by the file and house"):
        read_mask(tmp_path / "class.png", SCHEME)
    label = read_label(tmp_path / "class.png", SCHEME, MaskOptions(nodata_is_class=True))
    np.testing.assert_array_equal(label.mask, DRAWN)


def test_lossy_files_are_refused_unless_told(tmp_path: Path) -> None:
    colours = np.moveaxis(SCHEME.to_colours(np.zeros((32, 32), np.uint8)), -1, 0)
    indices = np.ones((32, 32), np.uint8)
    Image.fromarray(indices).save(tmp_path / "a.jpg", quality=100)
    files = {
        "a JPEG": tmp_path / "a.jpg",
        "a TIFF with JPEG compression": write(tmp_path / "j.tif", colours, compress="jpeg", photometric="ycbcr"),
        "a lossy WEBP": write(tmp_path / "w.tif", colours, compress="webp"),
        "a LERC_DEFLATE with an error of 0.5": write(
            tmp_path / "l.tif", indices.astype(np.float32), compress="lerc_deflate", max_z_error=0.5
        ),
    }
    for found, path in files.items():
        with pytest.raises(DataError, match=rf"{path.name}: {found}, which changes values.*--lossy-masks"):
            read_mask(path, SCHEME)
    told = MaskOptions(lossy=True)
    assert (read_label(tmp_path / "a.jpg", SCHEME, told).mask == 1).all()
    Image.fromarray(DRAWN.repeat(8, axis=0) * 100).save(tmp_path / "b.jpg", quality=10)
    with pytest.raises(DataError, match="px of values out of range"):
        read_label(tmp_path / "b.jpg", SCHEME, told)
    for options in ({"compress": "webp", "webp_lossless": True}, {"compress": "lzw"}):
        np.testing.assert_array_equal(read_mask(write(tmp_path / "ok.tif", colours, **options), SCHEME), 0)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "ok.tif", indices, compress="lerc"), SCHEME), 1)


def test_colours_of_16_bits_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dtype uint16; expected uint8 \(8 bits per band\) for colours"):
        read_mask(write(tmp_path / "a.tif", np.zeros((3, 4, 4), np.uint16)), SCHEME)
    with pytest.raises(DataError, match="dtype complex64"):
        read_mask(write(tmp_path / "b.tif", np.zeros((4, 4), np.complex64)), SCHEME)
