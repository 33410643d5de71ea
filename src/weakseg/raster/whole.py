"""Files that GDAL writes, rasters and vectors, whole or not at all.

GDAL writes much of a raster when it closes it, and neither it nor rasterio tells of an error of that: where the disk
was full for a moment a file is left that looks written and lacks its end. So the end is looked for before the file gets
its name: every strip and tile that a TIFF speaks of must lie in it, and a PNG's checksums must be right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.raster.formats import raster_driver, unwritable

_PLACES: Final = ((273, 279), (324, 325))  # tags: offsets and byte counts of strips, of tiles
_TYPES: Final = {3: "u2", 4: "u4", 16: "u8"}  # of the numbers in these tags


@contextmanager
def whole_raster(path: Path) -> Iterator[Path]:
    """:func:`weakseg.core.files.atomic_path` for a file that is opened with rasterio, written and closed in the block.

    Raises:
        DataError: the file cannot be written; what was there before is whole.
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with atomic_path(path) as temporary:
            yield temporary
            if not _is_whole(temporary):
                raise OSError("the disk took a part of it")
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise unwritable(path, error) from error


@contextmanager
def vector_errors(path: Path) -> Iterator[None]:
    """What pyogrio and SQLite raise while the vector file ``path`` is written, as a DataError that says so."""
    import sqlite3

    import pyogrio

    refusals = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.GeometryError)
    try:
        yield
    except (*refusals, sqlite3.Error, OSError) as error:
        raise unwritable(path, error) from error


def _is_whole(path: Path) -> bool:
    try:
        return raster_driver(path) != "GTiff" or tiff_is_whole(path)
    except DataError:  # a PNG without its end, or nothing at all
        return False


def tiff_is_whole(path: Path) -> bool:
    """Whether all directories, strips and tiles of a TIFF or BigTIFF lie in the file. No pixels are read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\x00", b"\x00+")
        if len(head) < 16:
            return False
        (place,) = struct.unpack(f"{order}{'Q' if big else 'I'}", head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while place and place not in seen:
            seen.add(place)
            directory = _read_directory(file, place, order, big=big)
            if directory is None or not _data_inside(file, directory[0], size, order, big=big):
                return False
            place = directory[1]
        return bool(seen)


Entry = tuple[int, int, bytes]
"""Type, count and the field that holds the values or their place."""


def _read_directory(file: Any, place: int, order: str, *, big: bool) -> tuple[dict[int, Entry], int] | None:
    """The entries of a directory by tag, and the place of the next one; None if it does not lie in the file."""
    file.seek(place)
    long, counter = (8, "Q") if big else (4, "H")
    head = file.read(struct.calcsize(counter))
    if len(head) < struct.calcsize(counter):
        return None
    (number,) = struct.unpack(order + counter, head)
    each = 4 + 2 * long
    body = file.read(number * each + long)
    if len(body) < number * each + long:
        return None
    entries = {}
    for at in range(0, number * each, each):
        tag, kind, count = struct.unpack(f"{order}HH{'Q' if big else 'I'}", body[at : at + 4 + long])
        entries[tag] = (kind, count, body[at + 4 + long : at + each])
    return entries, int.from_bytes(body[number * each :], "little" if order == "<" else "big")


def _data_inside(file: Any, entries: dict[int, Entry], size: int, order: str, *, big: bool) -> bool:
    for offsets, counts in _PLACES:
        if offsets in entries:
            begins, lengths = (_numbers(file, entries[tag], order, big=big) for tag in (offsets, counts))
            if begins is None or lengths is None or len(begins) != len(lengths):
                return False
            if begins.size and int((begins + lengths).max()) > size:
                return False
    return True


def _numbers(file: Any, entry: Entry, order: str, *, big: bool) -> npt.NDArray[np.uint64] | None:
    kind, count, field = entry
    dtype = np.dtype(f"{order}{_TYPES[kind]}")
    length = count * dtype.itemsize
    if length > len(field):
        (place,) = struct.unpack(f"{order}{'Q' if big else 'I'}", field)
        file.seek(place)
        field = file.read(length)
    return np.frombuffer(field[:length], dtype).astype(np.uint64) if len(field) >= length else None
