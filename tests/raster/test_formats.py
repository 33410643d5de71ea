"""Formats are told from the bytes, and a PNG must be whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.core.errors import DataError
from weakseg.raster.formats import raster_driver


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
