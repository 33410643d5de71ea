"""Rasters in memory: the pixels of every format, and one sentence for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from weakseg.core.errors import DataError
from weakseg.raster.stream import gdal_settings, open_reader
from weakseg.raster.uploads import encode_pixels, open_upload

IMAGE = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    """A PNG of RGB, RGBA or grey pixels."""
    order = {3: (2, 1, 0), 4: (2, 1, 0, 3)}.get(image.shape[-1]) if image.ndim == 3 else None
    return cv2.imencode(".png", image if order is None else image[..., order])[1].tobytes()


def geotiff(image: np.ndarray, **profile: object) -> bytes:
    layout = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype.name}
    with gdal_settings(), MemoryFile() as memory:
        with memory.open(driver="GTiff", **layout, **profile) as file:
            file.write(np.moveaxis(image, -1, 0))
        return bytes(memory.read())


def pixels(content: bytes, bands: tuple[int, ...] | None = None) -> np.ndarray:
    with open_upload(content, "a", bands) as source, open_reader(source) as reader:
        return reader.pixels((0, 0, source.height, source.width))


@pytest.mark.parametrize("content", [png(IMAGE), geotiff(IMAGE), encode_pixels(IMAGE.tolist(), "a")])
def test_pixels_arrive_as_they_were_sent(content: bytes) -> None:
    np.testing.assert_array_equal(pixels(content), IMAGE)


def test_a_jpeg_and_chosen_bands_are_read() -> None:
    smooth = np.full((40, 48, 3), (200, 90, 30), np.uint8)
    jpeg = cv2.imencode(".jpg", smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    assert np.abs(pixels(jpeg).astype(int) - smooth).max() <= 4
    four = np.dstack([IMAGE, 255 - IMAGE[..., 0]])
    np.testing.assert_array_equal(pixels(geotiff(four), (4, 1, 2)), four[..., [3, 0, 1]])


def test_place_and_nodata_are_kept() -> None:
    image = IMAGE.copy()
    image[:5, :7] = 0
    transform = rasterio.Affine(0.5, 0, 497000, 0, -0.5, 5420000)
    with open_upload(geotiff(image, nodata=0, crs="EPSG:25832", transform=transform), "a") as source:
        assert source.gsd == pytest.approx(0.5 / 0.9996, rel=1e-5)  # UTM at its central meridian
        with open_reader(source) as reader:
            valid = reader.valid((0, 0, 37, 51))
    assert valid is not None
    assert not valid[:5, :7].any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, I am no image", r"a\.x: starts with b'hell'; expected a GeoTIFF, PNG or JPEG"),
        (b"", r"a\.x: starts with b''"),
        (b"<VRTDataset rasterXSize='9' rasterYSize='9'></VRTDataset>", r"starts with b'<VRT'"),
        (b"II*\x00 <VRTDataset rasterXSize='9' rasterYSize='9'></VRTDataset>", r"a\.x: cannot be opened"),
        (png(IMAGE)[:-40], r"a\.x: cannot be read \(a PNG that ends early"),
        (png(IMAGE[..., 0]), r"a\.x: 1 band\(s\); expected 3 bands"),
        (geotiff(np.dstack([IMAGE, IMAGE[..., 0]])), r"a\.x: 4 band\(s\); expected 3 bands"),
        (geotiff(IMAGE.astype(np.uint16)), r"a\.x: dtype uint16; expected uint8"),
        (geotiff(IMAGE)[:-3000], r"a\.x: cannot be (read|opened)"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_name(content: bytes, words: str) -> None:
    with (
        pytest.raises(DataError, match=words) as caught,
        open_upload(content, "a.x") as source,
        open_reader(source) as reader,
    ):
        reader.pixels((0, 0, source.height, source.width))
    assert "vsimem" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sent",
    [[], 5, "text", None, [[1, 2], [3]], [[[1, 2, 3], [4, 5]]], IMAGE[0].tolist(), (IMAGE / 255).tolist(),
     [[[1, 2, 256]]], [[[1, 2, -1]]], [[["1", "2", "3"]]], [[[True, False, True]]]],
)  # fmt: skip
def test_arrays_that_are_no_image_are_refused(sent: object) -> None:
    with pytest.raises(DataError, match="expected height x width x bands of whole numbers from 0 to 255"):
        encode_pixels(sent, "pixels")


def test_nothing_is_left_in_memory(tmp_path: Path) -> None:
    with open_upload(png(IMAGE), "a") as source:
        place = source.path
    with pytest.raises(rasterio.errors.RasterioIOError):
        rasterio.open(place)
