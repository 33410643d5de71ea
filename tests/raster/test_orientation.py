"""Pixels come as people see them: against Pillow's own turn, for every orientation and format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from rasterio.crs import CRS

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_image, read_mask, read_overview, read_window
from weakseg.raster.orientation import orientation_of, seen_shape, stored_window, turn
from weakseg.raster.stream import inspect_source, open_reader
from weakseg.raster.uploads import open_upload
from weakseg.raster.write import write_raster

STORED = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    more = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif}
    Image.fromarray(pixels).save(path, quality=100, subsampling=0, **more)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = write(tmp_path / f"a{suffix}", STORED, orientation)
    with Image.open(path) as opened:
        seen = np.asarray(ImageOps.exif_transpose(opened))
    assert orientation_of(path) == orientation
    found = read_image(path)
    np.testing.assert_allclose(found.astype(int), seen, atol=2 if suffix == ".jpg" else 0)  # two decoders
    assert found.flags["C_CONTIGUOUS"]
    info = read_info(path)
    assert (info.height, info.width) == seen.shape[:2] == seen_shape(16, 24, orientation)
    np.testing.assert_array_equal(read_window(path, (1, 2, 5, 7)), found[1:6, 2:9])
    np.testing.assert_array_equal(read_overview(path, 24), found)
    assert read_overview(path, 12).shape == (*seen_shape(8, 12, orientation), 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_rasters_to_predict_and_uploads_are_turned_too(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = write(tmp_path / f"a{suffix}", STORED, orientation)
    seen = read_image(path)
    with open_upload(path.read_bytes(), "body") as upload:
        for source in (inspect_source(path, None), upload):
            assert (source.height, source.width) == seen.shape[:2]
            with open_reader(source) as reader:
                np.testing.assert_array_equal(reader.pixels((0, 0, *seen.shape[:2])), seen)
                np.testing.assert_array_equal(reader.pixels((3, 1, 6, 9)), seen[3:9, 1:10])


def test_what_is_transparent_is_turned_with_the_pixels(tmp_path: Path) -> None:
    alpha = np.full((16, 24, 1), 255, np.uint8)
    alpha[:4] = 0
    path = write(tmp_path / "a.png", np.concatenate([STORED, alpha], axis=2), 6)  # the upper edge goes to the right
    with open_reader(inspect_source(path, (1, 2, 3))) as reader:
        valid = reader.valid((0, 0, 24, 16))
    assert valid is not None
    assert valid[:, :12].all()
    assert not valid[:, 12:].any()


def test_masks_are_turned_by_their_own_tag(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    path = write(tmp_path / "a.png", np.ascontiguousarray(np.rot90(mask)), 6)  # 6: to be turned right
    np.testing.assert_array_equal(read_mask(path, ISPRS), mask)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_window_of_the_turned_raster_is_read_where_it_is_stored(orientation: int) -> None:
    stored = np.arange(20).reshape(4, 5)
    seen = turn(stored, orientation)
    height, width = seen.shape
    for row, column, rows, columns in ((0, 0, height, width), (1, 2, 2, 1), (0, 1, 3, 3)):
        y, x, h, w = stored_window((row, column, rows, columns), 4, 5, orientation)
        part = turn(stored[y : y + h, x : x + w], orientation)
        np.testing.assert_array_equal(part, seen[row : row + rows, column : column + columns])


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiffs_of_either_byte_order(tmp_path: Path, order: str) -> None:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 16)
    entries = struct.pack(order + "HHQQ", 256, 4, 1, 9) + struct.pack(order + "HHQHHI", 274, 3, 1, 8, 0, 0)
    path = tmp_path / "big.tif"
    path.write_bytes(head + struct.pack(order + "Q", 2) + entries)
    assert orientation_of(path) == 8


def test_an_exif_chunk_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    whole = write(tmp_path / "front.png", STORED, 3).read_bytes()
    at = whole.index(b"eXIf") - 4
    size = 12 + int.from_bytes(whole[at : at + 4], "big")
    path = tmp_path / "behind.png"
    path.write_bytes(whole[:at] + whole[at + size : -12] + whole[at : at + size] + whole[-12:])
    assert orientation_of(path) == 3
    np.testing.assert_array_equal(read_image(path), STORED[::-1, ::-1])


@pytest.mark.parametrize("value", [0, 9, 300])
def test_values_without_a_meaning_are_as_stored(tmp_path: Path, value: int) -> None:
    assert orientation_of(write(tmp_path / "a.tif", STORED, value)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff\xe1\x00", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_damaged_and_other_files_are_as_stored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert orientation_of(path) == 1


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg: No such file"):
        orientation_of(tmp_path / "none.jpg")


@pytest.mark.parametrize("reader", [read_info, read_image, lambda path: inspect_source(path, None)])
def test_an_orientation_with_a_place_on_earth_is_refused(tmp_path: Path, reader: object) -> None:
    path = write(tmp_path / "a.jpg", STORED, 6)
    (tmp_path / "a.jgw").write_text("0.3\n0\n0\n-0.3\n500000.15\n5299999.85\n")
    with pytest.raises(DataError, match=r"a\.jpg: has both EXIF orientation 6 and a place on Earth; .*exiftool"):
        reader(path)  # type: ignore[operator]
    write(path, STORED, 1)
    assert read_info(path).transform == pytest.approx((0.3, 0, 500000, 0, -0.3, 5300000))


def test_what_weakseg_writes_has_no_orientation(tmp_path: Path) -> None:
    place = RasterInfo(16, 24, 3, "uint8", CRS.from_epsg(25832).to_wkt(), (0.3, 0.0, 5e5, 0.0, -0.3, 53e5))
    write_raster(tmp_path / "a.tif", STORED, place, compress=True)
    assert orientation_of(tmp_path / "a.tif") == 1


def test_a_block_of_exif_that_is_none_turns_nothing(tmp_path: Path) -> None:
    """Other programs see no orientation there either."""
    path = write(tmp_path / "a.jpg", STORED, 6)
    content = path.read_bytes()
    at = content.index(b"Exif\0\0") + 6
    several = content.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01", b"\x01\x12\x00\x03\x00\x00\x2d\x01")
    assert several != content
    for spoilt in (several, content[:at] + b"xx" + content[at + 2 :], content.replace(b"Exif\0\0", b"Exif\0x")):
        path.write_bytes(spoilt)
        assert orientation_of(path) == 1
