"""Which raster format a file is and whether it is whole, from its bytes: what GDAL does not check for us."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from weakseg.core.errors import DataError
from weakseg.raster.containers import check_virtual, database_driver, header_driver

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

RASTER_SUFFIXES: Final = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg"})
FURTHER_SUFFIXES: Final = frozenset({".jp2", ".j2k", ".mbtiles", ".bil", ".bip", ".bsq"})  # an import takes too
LONE_SUFFIXES: Final = frozenset({".vrt", ".gpkg", ".img", ".dat"})  # where a folder has none of these: often no images
COMPANION_SUFFIXES: Final = frozenset(  # what lies beside rasters and is none: sidecars, documents, labels' tables
    {".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".j2w", ".jp2w"}
    | {".wld", ".prj", ".qpj", ".xml", ".aux"}
    | {".ovr", ".msk", ".tab", ".txt", ".pdf", ".md", ".yaml", ".json"}
    | {".qml", ".clr"}  # styles of our own maps
)
DRIVERS: Final = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG", "MBTiles", "GPKG", "ENVI", "EHdr", "VRT")
"""GDAL's drivers that read what a user gives, for every door; no other is ever tried."""
_PNG: Final = b"\x89PNG"
_SIGNATURES: Final = {
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",  # BigTIFF
    b"MM\x00+": "GTiff",
    _PNG: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\xffO\xffQ": "JP2OpenJPEG",  # a bare codestream
}
_JP2: Final = b"\x00\x00\x00\x0cjP  "
_SQLITE: Final = b"SQLite format 3"
_WANTED: Final = "a GeoTIFF, PNG or JPEG, or one of JPEG 2000, MBTiles, GeoPackage, ENVI, EHdr, VRT"
_FOREIGN: Final = {"ECW": (".ecw",), "MrSID": (".sid",), "JPEG XL": (".jxl",)}  # readers that GDAL seldom comes with


def raster_driver(path: Path) -> str:
    """GDAL's name for the format of a file ("GTiff", "PNG", "JPEG", "JP2OpenJPEG", ...), whatever its suffix says.

    Asking the bytes keeps other formats out. A virtual raster, which can name any other file or address, comes in by
    its suffix alone, and only with files in its folder; a raw file only with a header beside it (``containers``).

    Raises:
        DataError: no such file, another format, or a PNG that ends early or fails its checksums (GDAL reads such a
            file without a word and fills the missing rows with whatever is in memory).
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
            refuse_foreign(path, head)
            if driver := _container(path, head):
                return driver
            return _driver_of(path, head[:4], head[4:] + file.read() if head[:4] == _PNG else b"")
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror or error}", expected="a raster file", cure="check the path and its permissions"
        ) from error


def plain_driver(path: Path) -> str:
    """:func:`raster_driver` where none but GeoTIFF, PNG and JPEG is taken."""
    driver = raster_driver(path)
    if driver not in ("GTiff", "PNG", "JPEG"):
        raise DataError(f"{path}: {driver}", expected="a GeoTIFF, PNG or JPEG", cure="convert it with gdal_translate")
    return driver


def _container(path: Path, head: bytes) -> str | None:
    if head.startswith(_JP2):
        return "JP2OpenJPEG"
    if head.startswith(_SQLITE):
        return database_driver(path)
    if head.lstrip().startswith(b"<VRT") and path.suffix.lower() == ".vrt":
        for file in dict.fromkeys(check_virtual(path)):
            raster_driver(file)  # GDAL would open any other format there
        return "VRT"
    if any(head.startswith(magic) for magic in _SIGNATURES):
        return None
    return header_driver(path)


def refuse_foreign(path: Path, head: bytes) -> None:
    """The error, in one sentence, for formats that have to be converted first."""
    suffix = path.suffix.lower()
    kind = next((name for name, endings in _FOREIGN.items() if suffix in endings), None)
    kind = "MrSID" if head.startswith(b"msid") else kind
    kind = "JPEG XL" if head.startswith((b"\xff\n", b"\x00\x00\x00\x0cJXL ")) else kind
    if kind is not None and not any(head.startswith(magic) for magic in _SIGNATURES):
        raise DataError(
            f"{path}: {kind}, which few builds of GDAL read",
            expected=_WANTED,
            cure=f"convert it where GDAL has its driver: gdal_translate {path.name} {path.stem}.tif -co TILED=YES "
            "-co COMPRESS=DEFLATE",
        )


def content_driver(name: str, content: bytes) -> str:
    """:func:`raster_driver` of a file in memory, GeoTIFF, PNG or JPEG; ``name`` is for the error."""
    head = content[:4]
    driver = _driver_of(name, head, content[4:] if head == _PNG else b"", "a GeoTIFF, PNG or JPEG")
    if driver not in ("GTiff", "PNG", "JPEG"):
        raise _no_raster(name, head, "a GeoTIFF, PNG or JPEG")
    if driver == "PNG" and not _has_all_rows(content):
        raise unreadable(name, "a PNG whose rows end early")
    return driver


def _driver_of(path: Path | str, head: bytes, body: bytes, wanted: str = _WANTED) -> str:
    driver = next((name for magic, name in _SIGNATURES.items() if head.startswith(magic)), None)
    if driver is None:
        raise _no_raster(path, head, wanted)
    if driver == "PNG" and not _png_is_whole(body):
        raise unreadable(path, "a PNG that ends early or fails its checksums")
    return driver


def _no_raster(path: Path | str, head: bytes, wanted: str) -> DataError:
    return DataError(f"{path}: starts with {head!r}", expected=wanted, cure="convert it with gdal_translate")


def unreadable(path: Path | str, reason: str, window: tuple[int, int, int, int] | None = None) -> DataError:
    """The error for a file whose pixels cannot be had, in a window (row, column, height, width) or at all."""
    where = ""
    if window is not None:
        row, column, height, width = window
        where = f" at row {row}, column {column}, {height}x{width} px, the rows above it were"
    return DataError(
        f"{path}: cannot be read{where} ({reason})",
        expected="a whole raster" if where else "a whole GeoTIFF, PNG or JPEG",
        cure="copy or download the file again",
    )


def broken_block(file: DatasetReader, read: Any, bands: Sequence[int]) -> tuple[int, int, int, int] | None:
    """The first block (row, column, height, width) of the file that cannot be read, None where each alone can be."""
    from rasterio.errors import RasterioError

    for _, box in file.block_windows(bands[0]):
        try:
            read(list(bands), window=box)
        except RasterioError:
            return box.row_off, box.col_off, box.height, box.width
    return None


_PASSES: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def check_png_rows(path: Path, driver: str) -> None:
    """Refuse (DataError) a PNG whose packed rows end early; GDAL fills the others with what is in memory.

    Nothing but their length is kept; each file is looked through once.
    """
    if driver == "PNG" and path.is_file():  # uploads are looked through as they come
        about = path.stat()
        _check_rows_of(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _check_rows_of(path: Path, size: int, changed: int) -> None:
    if not _has_all_rows(path.read_bytes()):
        raise unreadable(path, "a PNG whose rows end early")


def _has_all_rows(content: bytes) -> bool:
    """Whether the packed data of a whole PNG is as long as its header says."""
    width, height, depth, kind, interlaced = struct.unpack(">IIBBxxB", content[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 0)
    steps = _PASSES if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(height - row) // down), -(-(width - column) // across)) for row, column, down, across in steps]
    left = sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sides if rows > 0 and columns > 0)
    unpacker, at = zlib.decompressobj(), 8
    try:
        while left > 0 and at + 12 <= len(content):
            end = at + 8 + int.from_bytes(content[at : at + 4], "big")
            packed = content[at + 8 : end] if content[at + 4 : at + 8] == b"IDAT" else b""
            while packed and left > 0:
                left -= len(unpacker.decompress(packed, 1 << 20))
                packed = unpacker.unconsumed_tail
            at = end + 4
        while left > 0 and (rest := unpacker.flush(1 << 20)):
            left -= len(rest)
    except zlib.error:
        return False
    return bool(left <= 0)


@contextmanager
def gdal_sentences(path: Path | str) -> Iterator[None]:
    """GDAL's own errors, which rasterio lets through where a file is looked into after it was opened, as DataError."""
    from rasterio._err import CPLE_BaseError

    try:
        yield
    except CPLE_BaseError as error:
        raise unreadable(path, reason_of(error)) from error


def unwritable(path: Path | str, error: Exception) -> DataError:
    """The error for a raster that GDAL or the disk did not take."""
    return DataError(
        f"cannot write {path} ({reason_of(error)})", expected="a folder with room and permission", cure="make room"
    )


def reason_of(error: Exception) -> str:
    """GDAL's own words on one line: rasterio keeps them in the cause."""
    return " ".join(str(error.__cause__ or error).split())


def _png_is_whole(body: bytes) -> bool:
    """Whether all chunks of a PNG, given without its first 4 bytes, are there with right checksums, up to the last."""
    at = 4
    while at + 12 <= len(body):
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if zlib.crc32(memoryview(body)[at + 4 : end]) != int.from_bytes(body[end : end + 4], "big"):
            return False
        if body[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False
