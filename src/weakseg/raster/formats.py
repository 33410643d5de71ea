"""Which raster format a file is and whether it is whole, from its bytes: what GDAL does not check for us."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

from weakseg.core.errors import DataError

RASTER_SUFFIXES: Final = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg"})
COMPANION_SUFFIXES: Final = frozenset(  # what lies beside rasters and is none: sidecars, documents, labels' tables
    {".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".wld", ".prj", ".qpj", ".xml", ".aux"}
    | {".ovr", ".msk", ".tab", ".txt", ".pdf", ".md", ".yaml", ".json"}
    | {".qml", ".clr"}  # styles of our own maps
)
_PNG: Final = b"\x89PNG"
_SIGNATURES: Final = {
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",  # BigTIFF
    b"MM\x00+": "GTiff",
    _PNG: "PNG",
    b"\xff\xd8\xff": "JPEG",
}


def raster_driver(path: Path) -> str:
    """GDAL's name for the format of a file ("GTiff", "PNG" or "JPEG"), whatever its suffix says.

    Asking the bytes keeps other formats out, among them virtual rasters, which can name any other file or address.

    Raises:
        DataError: no such file, another format, or a PNG that ends early or fails its checksums (GDAL reads such a
            file without a word and fills the missing rows with whatever is in memory).
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            return _driver_of(path, head, file.read() if head == _PNG else b"")
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror or error}", expected="a raster file", cure="check the path and its permissions"
        ) from error


def content_driver(name: str, content: bytes) -> str:
    """:func:`raster_driver` of a file in memory; ``name`` is for the error."""
    head = content[:4]
    return _driver_of(name, head, content[4:] if head == _PNG else b"")


def _driver_of(path: Path | str, head: bytes, body: bytes) -> str:
    driver = next((name for magic, name in _SIGNATURES.items() if head.startswith(magic)), None)
    if driver is None:
        raise DataError(
            f"{path}: starts with {head!r}", expected="a GeoTIFF, PNG or JPEG", cure="convert it with gdal_translate"
        )
    if driver == "PNG" and not _png_is_whole(body):
        raise unreadable(path, "a PNG that ends early or fails its checksums")
    return driver


def unreadable(path: Path | str, reason: str) -> DataError:
    """The error for a file whose pixels cannot be had."""
    return DataError(
        f"{path}: cannot be read ({reason})",
        expected="a whole GeoTIFF, PNG or JPEG",
        cure="copy or download the file again",
    )


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
