"""Rasters that never touch the disk: the body of a request as a ``streaming.Source``, read as any other raster is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.data.formats import content_driver
from weakseg.data.streaming import UPLOAD_DRIVERS, Source, gdal_settings, inspect_source
from weakseg.errors import DataError

_SUFFIXES: Final = {driver: suffix for suffix, driver in UPLOAD_DRIVERS.items()}


@contextmanager
def open_upload(
    content: bytes, name: str, bands: tuple[int, ...] | None = None, stretch: tuple[float, float] | None = None
) -> Iterator[Source]:
    """A GeoTIFF, PNG or JPEG file given as bytes, as a source that lasts as long as the block.

    Only its header is read here; ``bands`` and ``stretch`` are those of ``streaming.inspect_source``. Errors inside
    the block call the raster by ``name``.

    Raises:
        DataError: another format, a file that ends early, not uint8 and no ``stretch``, or not three bands and no
            ``bands``.
    """
    from rasterio.io import MemoryFile

    driver = content_driver(name, content)
    with gdal_settings(), MemoryFile(content, ext=_SUFFIXES[driver]) as memory:
        try:
            yield inspect_source(Path(memory.name), bands, stretch)
        except DataError as error:
            if memory.name not in error.found:
                raise
            found = error.found.replace(memory.name, name)
            raise DataError(found, expected=error.expected, cure=error.cure) from error


def encode_pixels(pixels: Any, name: str) -> bytes:
    """Nested lists or an array (H, W, bands) of whole numbers in 0..255 -> a GeoTIFF, for :func:`open_upload`.

    Raises:
        DataError: another shape, other numbers, or no numbers at all.
    """
    from rasterio.io import MemoryFile

    image = _as_image(pixels, name)
    layout = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": "uint8"}
    with gdal_settings(sidecars=False), MemoryFile() as memory:
        with memory.open(driver="GTiff", interleave="pixel", **layout) as file:
            file.write(np.moveaxis(image, -1, 0))
        content: bytes = memory.read()
        return content


def _as_image(pixels: Any, name: str) -> npt.NDArray[np.uint8]:
    try:
        image = np.asarray(pixels)
    except ValueError:  # rows of different lengths
        image = np.empty(0)
    whole = image.dtype.kind in "iu" and image.ndim == 3 and image.size > 0
    if not whole or image.min() < 0 or image.max() > 255:
        found = f"shape {image.shape} of {image.dtype}" if image.size else "rows of different lengths, or none"
        raise DataError(
            f"{name}: {found}" + (f", {image.min()} to {image.max()}" if whole else ""),
            expected="height x width x bands of whole numbers from 0 to 255",
            cure="send one image as nested lists, or as a PNG file",
        )
    return image.astype(np.uint8)
