"""Formats that a few bytes alone do not tell, or that name other files: databases of tiles, raw files with a header
beside them, virtual rasters. What is let in is listed here; nothing is left to whatever GDAL would try.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree

from weakseg.core.errors import DataError

RAW_SUFFIXES: Final = (".bil", ".bip", ".bsq", ".img", ".dat", ".raw", ".bin", "")
_MOST_XML: Final = 16 << 20  # bytes
_ELEMENTS: Final = frozenset(  # of a virtual raster that only lays files side by side
    {"VRTDataset", "SRS", "GeoTransform", "VRTRasterBand", "ColorInterp", "NoDataValue", "ColorTable", "Entry"}
    | {"SimpleSource", "ComplexSource", "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect"}
    | {"NODATA", "Metadata", "MDI", "Description", "MaskBand", "OpenOptions", "OOI", "BlockXSize", "BlockYSize"}
    | {"OverviewList", "UseMaskBand", "HideNoDataValue", "UnitType", "Offset", "Scale"}
)


def database_driver(path: Path) -> str:
    """ "GPKG" or "MBTiles": which of them an SQLite file is, by its tables."""
    try:
        with sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True) as file:
            tables = {
                name for (name,) in file.execute("select name from sqlite_master where type in ('table', 'view')")
            }
            kinds = set()
            if "gpkg_contents" in tables:
                kinds = {str(kind) for (kind,) in file.execute("select data_type from gpkg_contents")}
        file.close()
    except sqlite3.Error as error:
        raise DataError(f"{path}: a damaged database ({error})", expected="a whole file", cure="copy it") from error
    if {"metadata", "tiles"} <= tables:
        return "MBTiles"
    if kinds & {"tiles", "2d-gridded-coverage"}:
        return "GPKG"
    raise DataError(
        f"{path}: an SQLite database with {'vectors' if kinds else 'other tables'}",
        expected="tiles of a raster, as MBTiles and GeoPackage have them",
        cure="name a raster; boxes come in by `weakseg data boxes`",
    )


def header_driver(path: Path) -> str | None:
    """ "ENVI" or "EHdr" by the header beside a raw file, None without one."""
    if path.suffix.lower() not in RAW_SUFFIXES:
        return None
    for header in (path.with_name(f"{path.name}.hdr"), path.with_suffix(".hdr"), path.with_suffix(".HDR")):
        if header.is_file():
            text = header.read_bytes()[:4096]
            if text.lstrip().startswith(b"ENVI"):
                return "ENVI"
            if b"NROWS" in text.upper() and b"NCOLS" in text.upper():
                return "EHdr"
    return None


def check_virtual(path: Path) -> list[Path]:
    """The files of a virtual raster.

    Raises:
        DataError: it does anything but lay files side by side which are below its folder.
    """

    def refuse(found: str) -> DataError:
        return DataError(
            f"{path}: {found}",
            expected="a virtual raster of files in its folder, as gdalbuildvrt makes it",
            cure="write it as a GeoTIFF with gdal_translate",
        )

    text = path.read_bytes()[: _MOST_XML + 1]
    if len(text) > _MOST_XML or b"<!" in text.replace(b"<!--", b""):
        raise refuse("a document type of its own, or above 16 MiB")
    try:
        root = ElementTree.fromstring(text)  # no entities: they need a <! that was looked for
    except ElementTree.ParseError as error:
        raise refuse(f"no XML ({error})") from error
    strange = sorted({element.tag for element in root.iter()} - _ELEMENTS)
    if strange or root.get("subClass"):
        raise refuse(f"a virtual raster with {', '.join(strange) or root.get('subClass')}")
    names = [(element.text or "", element.get("relativeToVRT")) for element in root.iter("SourceFilename")]
    folder = path.absolute().parent
    if not names:
        raise refuse("a virtual raster without files")
    found = []
    for name, relative in names:
        place = folder / name if relative == "1" else Path(name)
        inside = place.is_absolute() and place.resolve().is_relative_to(folder.resolve())
        if not inside or not place.is_file() or place.suffix.lower() == ".vrt":
            raise refuse(f"a virtual raster of {name!r}")
        found.append(place)
    return found
