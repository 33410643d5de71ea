"""Formats are told from the bytes, and a PNG must be whole."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.core.errors import DataError
from weakseg.raster import formats
from weakseg.raster.formats import raster_driver
from weakseg.raster.header import read_info
from weakseg.raster.open import read_image, read_window


def test_the_bytes_decide_not_the_suffix(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    for suffix, driver in (("png", "PNG"), ("jpeg", "JPEG"), ("tiff", "GTiff")):
        picture.save(tmp_path / f"a.{suffix}")
        odd = (tmp_path / f"a.{suffix}").rename(tmp_path / f"{suffix}.tif")
        assert raster_driver(odd) == driver


def test_a_virtual_raster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    with pytest.raises(DataError, match=r"starts with b'<VRT'; expected a GeoTIFF, PNG or JPEG"):
        raster_driver(path)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file.*check the path"):
        raster_driver(tmp_path / "none.tif")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match="starts with b''"):
        raster_driver(tmp_path / "empty.png")


def test_one_wrong_byte_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    assert raster_driver(path) == "PNG"
    path.write_bytes(whole + b"trailing bytes are harmless")
    assert raster_driver(path) == "PNG"
    for damaged in (whole[:-1], whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="ends early or fails its checksums"):
            raster_driver(path)


def shortened(content: bytes, rows: int) -> bytes:
    """A PNG whose packed data ends after some rows; all chunks are whole."""
    at = content.index(b"IDAT")
    length = int.from_bytes(content[at - 4 : at], "big")
    raw = zlib.decompress(content[at + 4 : at + 4 + length])
    body = b"IDAT" + zlib.compress(raw[:rows])
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return content[: at - 4] + chunk + content[at + 8 + length :]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_a_png_whose_rows_end_early_is_refused_and_a_whole_one_is_not(mode: str) -> None:
    """GDAL would fill the missing rows with what is in memory."""
    for width, height in ((1, 1), (7, 5), (40, 33)):
        saved = io.BytesIO()
        Image.new("RGB", (width, height), (9, 8, 7)).convert(mode).save(saved, "PNG")
        whole = saved.getvalue()
        assert formats._has_all_rows(whole)
        assert formats.content_driver("a", whole) == "PNG"
        raw = len(zlib.decompress(whole[whole.index(b"IDAT") + 4 :]))
        with pytest.raises(DataError, match="a PNG whose rows end early"):
            formats.content_driver("a", shortened(whole, raw - 1))


def test_the_rows_of_a_file_are_looked_through_when_its_pixels_are_read(tmp_path: Path) -> None:
    saved = io.BytesIO()
    Image.new("RGB", (40, 33)).save(saved, "PNG")
    (tmp_path / "a.png").write_bytes(shortened(saved.getvalue(), 1000))
    assert read_info(tmp_path / "a.png").height == 33
    for read in (read_image, lambda path: read_window(path, (0, 0, 4, 4))):
        with pytest.raises(DataError, match=r"a\.png: cannot be read \(a PNG whose rows end early\)"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize(("length", "whole"), [(207, True), (206, False)])
def test_rows_of_interlaced_pictures_are_those_of_seven_passes(tmp_path: Path, length: int, whole: bool) -> None:
    """8 x 8 px of three bytes: passes of 4, 4, 7, 14, 26, 52 and 100 bytes."""
    chunks = (b"IHDR" + bytes((0, 0, 0, 8, 0, 0, 0, 8, 8, 2, 0, 0, 1)), b"IDAT" + zlib.compress(bytes(length)), b"IEND")
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in chunks:
        content += (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    assert formats._has_all_rows(content) is whole
    (tmp_path / "a.png").write_bytes(content)
    if whole:
        assert not read_image(tmp_path / "a.png").any()
