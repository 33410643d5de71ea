"""Rasters that never touch the disk: the body of a request as a ``streaming.Source``, read as any other raster is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.errors import DataError
from weakseg.raster.band_names import BandChoice
from weakseg.raster.formats import content_driver
from weakseg.raster.orientation import orientation_in
from weakseg.raster.stream import UPLOAD_DRIVERS, Source, gdal_settings, inspect_source

_SUFFIXES: Final = {driver: suffix for suffix, driver in UPLOAD_DRIVERS.items()}


@contextmanager
def open_upload(
    content: bytes,
    name: str,
    bands: tuple[int, ...] | BandChoice | None = None,
    stretch: tuple[float, float] | None = None,
    wanted: Bands = PLAIN,
) -> Iterator[Source]:
    """A GeoTIFF, PNG or JPEG file given as bytes, as a source that lasts as long as the block.

    Only its header is read here; ``bands``, ``stretch`` and ``wanted`` are those of ``streaming.inspect_source``.
    Errors inside the block call the raster by ``name``.

    Raises:
        DataError: another format, a file that ends early, not uint8 and no ``stretch``, or not three bands and no
            ``bands``.
    """
    from rasterio.io import MemoryFile

    driver = content_driver(name, content)
    with gdal_settings(), MemoryFile(content, ext=_SUFFIXES[driver]) as memory:
        try:
            source = inspect_source(Path(memory.name), bands, stretch, wanted)
            yield source.turned(orientation_in(io.BytesIO(content)))
        except DataError as error:
            if memory.name not in error.found:
                raise
            found = error.found.replace(memory.name, name)
            raise DataError(found, expected=error.expected, cure=error.cure) from error


def encode_pixels(pixels: Any, name: str, wanted: Bands = PLAIN) -> bytes:
    """Nested lists or an array (H, W, bands) of whole numbers in 0..255 -> a GeoTIFF, for :func:`open_upload`.

    Of a model of other bands than three of 8 bits: of numbers that fit the dtype of ``wanted``, in its order.

    Raises:
        DataError: another shape, other numbers, or no numbers at all.
    """
    from rasterio.io import MemoryFile

    image = _as_image(pixels, name) if wanted.plain else _as_bands(pixels, name, wanted)
    layout = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype.name}
    with gdal_settings(sidecars=False), MemoryFile() as memory:
        with memory.open(driver="GTiff", interleave="pixel", **layout) as file:
            file.write(np.moveaxis(image, -1, 0))
            if not wanted.plain:
                file.descriptions = wanted.names  # else GDAL would call a fourth band of 8 bits alpha
        content: bytes = memory.read()
        return content


def decode_file(value: Any, name: str) -> bytes:
    """The bytes of a file that came as bytes, as base64 or as a data URI.

    Both alphabets of base64 are read, with or without padding and line breaks; a string of anything else is refused.

    Raises:
        DataError: neither bytes nor base64, or nothing.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        if _base64(content) is None:  # no image file is base64
            return _some(content, name)
    elif isinstance(value, str):
        content = _payload(value.strip(), name).encode(errors="replace")
    else:
        content = b"@"
    decoded = _base64(content)
    if decoded is None:
        raise DataError(
            f"{name}: file is neither bytes nor base64"
            + (f" ({len(value)} characters)" if isinstance(value, str) else ""),
            expected="the bytes of a file in base64",
            cure="encode it again",
        )
    return _some(decoded, name)


def _payload(text: str, name: str) -> str:
    """What follows the header of a data URI; all of any other text."""
    if text[:5].lower() != "data:":
        return text
    header, comma, payload = text.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise DataError(
            f"{name}: a data URI that is not in base64 ({header[:40]})",
            expected="data:image/png;base64,...",
            cure="encode the file in base64",
        )
    return unquote(payload)


def _base64(content: bytes) -> bytes | None:
    """Decoded; None where it is no base64, or one alphabet's and the other's characters at once."""
    text = b"".join(content.split()).rstrip(b"=")
    if b"-" in text or b"_" in text:
        if b"+" in text or b"/" in text:
            return None
        text = text.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _some(content: bytes, name: str) -> bytes:
    if not content:
        raise DataError(f"{name}: an empty file", expected="a GeoTIFF, PNG or JPEG", cure="send the bytes of a file")
    return content


def _as_image(pixels: Any, name: str) -> npt.NDArray[np.uint8]:
    try:
        image = np.asarray(pixels)
    except ValueError:  # rows of different lengths
        image = np.empty(0)
    problem = _problem(image)
    if problem is not None:
        found, cure = problem
        raise DataError(f"{name}: {found}", expected="height x width x bands of whole numbers from 0 to 255", cure=cure)
    return image.astype(np.uint8)


def _as_bands(pixels: Any, name: str, wanted: Bands) -> npt.NDArray[Any]:
    try:
        image = np.asarray(pixels)
    except ValueError:  # rows of different lengths
        image = np.empty(0)
    fits = image.size and image.ndim == 3 and image.dtype.kind in "iuf" and image.shape[2] == len(wanted)
    if not fits or not np.array_equal(np.asarray(image, np.float64), image.astype(wanted.dtype), equal_nan=True):
        raise DataError(
            f"{name}: shape {image.shape} of {image.dtype}"
            if image.size
            else f"{name}: rows of different lengths, or none",
            expected=f"height x width x {len(wanted)} ({', '.join(wanted.names)}) of {wanted.dtype}",
            cure="send them as the training images were, or a GeoTIFF",
        )
    return image.astype(wanted.dtype)


def _problem(image: npt.NDArray[Any]) -> tuple[str, str] | None:
    """What is wrong with an array that should be an image, and the cure; None where it can be taken as it is."""
    shape, kind = f"shape {image.shape} of {image.dtype}", image.dtype.kind
    if not image.size:
        return "rows of different lengths, or none", "send one image as nested lists, or as a PNG file"
    if kind not in "iuf" or image.ndim != 3:
        return shape, "send one image as nested lists, or as a PNG file"
    if image.shape[0] <= 4 < image.shape[2]:
        return f"{shape}, which looks like channels first", "transpose it to height x width x bands, or send a GeoTIFF"
    if not np.isfinite(image).all():
        return f"{shape} with NaN or infinity", "send a GeoTIFF with nodata, or whole numbers"
    low, high = image.min(), image.max()
    if kind == "f" and low >= 0 and high <= 1:
        cure = (
            "send them times 255 and rounded if 1 is white, as integers if they are 0 to 255, or a GeoTIFF with stretch"
        )
        return f"{shape}, {low:g} to {high:g}, which may be shares of white or very dark", cure
    if low < 0 or high > 255 or (kind == "f" and (image != np.rint(image)).any()):
        return f"{shape}, {low:g} to {high:g}", "scale them as the training images were, or send a GeoTIFF with stretch"
    return None
