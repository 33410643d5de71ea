"""The orientation that a JPEG, PNG or TIFF names for itself: which turn shows its pixels as people see them.

Cameras store pixels as the sensor has them and write the turn into the EXIF tag 274; viewers and annotation tools apply
it, GDAL does not. EXIF is a small TIFF wherever it occurs, so one reader of TIFF directories serves all three formats.
(Pillow decodes all pixels to find an eXIf chunk behind them, and reads no big-endian BigTIFF.)
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError

Window = tuple[int, int, int, int]

_TAG: Final = 274
_SWAPPED: Final = (5, 6, 7, 8)  # rows become columns
_ROWS_REVERSED: Final = (3, 4, 7, 8)  # once swapped
_COLUMNS_REVERSED: Final = (2, 3, 6, 7)


def orientation_of(path: Path) -> int:
    """The EXIF orientation of a raster file, 1 to 8; 1 (as stored) where there is none, or none that can be read.

    1 as stored, 2 mirrored, 3 upside down, 4 flipped, 5 transposed, 6 to be turned right, 7 transposed and upside down,
    8 to be turned left; the pixels are not looked at.

    Raises:
        DataError: no such file.
    """
    try:
        with path.open("rb") as file:
            return orientation_in(file)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror or error}", expected="a raster file", cure="check the path and its permissions"
        ) from error


def orientation_in(file: BinaryIO) -> int:
    """:func:`orientation_of` an open file that stands at its start."""
    head = file.read(4)
    file.seek(0)
    find: Callable[[BinaryIO], int] | None = next((f for magic, f in _READERS.items() if head.startswith(magic)), None)
    try:
        found = find(file) if find else 1
    except struct.error:  # cut off, or offsets that lead nowhere: viewers show such a file as it is stored
        return 1
    return found if 1 <= found <= 8 else 1


def turn(layers: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Stored pixels (..., H, W) as people see them: (..., H, W), or (..., W, H) for orientations 5 to 8; a view."""
    seen = layers.swapaxes(-1, -2) if orientation in _SWAPPED else layers
    rows, columns = (-1 if orientation in which else 1 for which in (_ROWS_REVERSED, _COLUMNS_REVERSED))
    return np.asarray(seen[..., ::rows, ::columns])


def seen_shape(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Height and width of the turned raster."""
    return (width, height) if orientation in _SWAPPED else (height, width)


def stored_window(window: Window, height: int, width: int, orientation: int) -> Window:
    """Where the pixels of a window (row, column, height, width) of the turned raster are stored.

    ``height`` and ``width`` are those of the stored raster; what is read there needs :func:`turn`.
    """
    row, column, rows, columns = window
    seen_height, seen_width = seen_shape(height, width, orientation)
    row = seen_height - row - rows if orientation in _ROWS_REVERSED else row
    column = seen_width - column - columns if orientation in _COLUMNS_REVERSED else column
    return (column, row, columns, rows) if orientation in _SWAPPED else (row, column, rows, columns)


def ambiguous_place(path: Path, orientation: int) -> DataError:
    """The error for a file with a place on Earth too: GDAL means the stored pixels by it, other programs the turned."""
    return DataError(
        f"{path}: has both EXIF orientation {orientation} and a place on Earth",
        expected="one of them, because the place may be meant for the stored or for the turned pixels",
        cure="remove the orientation if it is for the stored ones (exiftool -Orientation= FILE), or else the place",
    )


_TIFF_HEADS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _in_tiff(file: BinaryIO) -> int:
    """The tag in the first directory of a TIFF, BigTIFF, or EXIF block."""
    head = file.read(16)
    if head[:4] not in _TIFF_HEADS:  # other programs see no EXIF there either
        return 1
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    file.seek(min(start, (1 << 63) - 1))
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    size = 20 if big else 12
    for _ in range(min(count, 1 << 16)):
        entry = file.read(size)
        tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), entry)
        if tag == _TAG and (values != 1 or kind not in (3, 4)):
            return 1  # not one whole number: other programs pass it over
        if tag == _TAG:
            return int(struct.unpack_from(order + ("I" if kind == 4 else "H"), entry, size - (8 if big else 4))[0])
    return 1


def _in_png(file: BinaryIO) -> int:
    file.seek(8)
    while True:
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"eXIf":
            return _in_tiff(io.BytesIO(file.read(length)))
        file.seek(length + 4, io.SEEK_CUR)


def _in_jpeg(file: BinaryIO) -> int:
    file.seek(2)
    while True:
        mark, kind = struct.unpack("BB", file.read(2))
        while kind == 0xFF:  # fill bytes
            (kind,) = struct.unpack("B", file.read(1))
        if mark != 0xFF or kind in (0xDA, 0xD9):  # the pixels begin, or the file ends
            return 1
        (length,) = struct.unpack(">H", file.read(2))
        block = file.read(length - 2) if length >= 2 else b""
        if kind == 0xE1 and block.startswith(b"Exif\0\0"):
            return _in_tiff(io.BytesIO(block[6:]))


_READERS: Final[dict[bytes, Callable[[BinaryIO], int]]] = {
    b"II": _in_tiff,
    b"MM": _in_tiff,
    b"\x89PNG": _in_png,
    b"\xff\xd8\xff": _in_jpeg,
}
