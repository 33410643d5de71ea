"""Files beside a raster that say where it lies, as far as GDAL leaves them out.

GDAL itself reads ``NAME.png.aux.xml`` and most world files (``.tfw``, ``.pgw``, ``.wld``, of either case). Left to this
module: ``NAME.aux.xml``, upper-case ``.AUX.XML``, world files whose ending GDAL does not expect (``.tifw`` beside a
``.tiff``) or that it passes over, and the ``.prj`` beside a world file, which names its CRS.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from weakseg.core.errors import DataError
from weakseg.raster.one_place import Statement, check_units, contradiction

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

WORLD_SUFFIXES: Final = frozenset(
    {".tfw", ".tifw", ".tiffw", ".pgw", ".pngw", ".jgw", ".jpgw", ".jpegw", ".j2w", ".jp2w", ".wld"}
)
_TIED: Final = ("GTiff", "JP2OpenJPEG")  # formats with tie points, of a px's corner or its centre
_SILENT: Final = ("PNG", "JPEG")  # formats that have no place of their own
_RASTERS: Final = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k")  # that may share a name
MAX_BYTES: Final = 64 << 20  # of a sidecar; they hold a few kB, with histograms some MB


_OGC: Final = re.compile(r"https?://www\.opengis\.net/def/crs/")
_FILE: Final = re.compile(r"[./~\\]|[A-Za-z]:[/\\]|file:|/vsi", re.IGNORECASE)


def names_elsewhere(text: str) -> bool:
    """Whether GDAL would fetch a link, or open a file, for a text that is to name a CRS; OGC's names are links too."""
    return ("://" in text and not _OGC.match(text)) or bool(_FILE.match(text))


def place_of(path: Path, file: DatasetReader) -> tuple[CRS | None, Affine | None]:
    """CRS and transform of an open raster: what GDAL found, and what it did not find from the files beside ``path``.

    A ``.prj`` counts only for a raster that has a transform: it may as well belong to a shapefile of the same name.

    Raises:
        DataError: a sidecar that cannot be read, or is larger than ``MAX_BYTES``; or one that contradicts the file or
            another one, or a place that its CRS cannot mean (``one_place``).
    """
    crs = file.crs or None
    transform = None if file.transform.is_identity else file.transform
    if crs is None or transform is None:
        other_crs, other_transform = _read_aux(path)
        crs, transform = crs or other_crs, transform or other_transform or _read_world(path)
    if crs is None and transform is not None:
        crs = next((_read_prj(beside) for beside in _present(path, [path.stem], ".prj")), None)
    if transform is not None and not (all(map(math.isfinite, transform)) and transform.determinant):
        raise DataError(
            f"{path}: its place on Earth is {tuple(transform)[:6]}",
            expected="six numbers by which a px has an area",
            cure="mend the world file or the georeference (gdal_edit.py -a_ullr), or remove it",
        )
    if transform is not None and (said := _statements(path)):
        _check_one_place(path, file, [Statement("", crs, transform), *said])
    if crs is not None and transform is not None:
        check_units(path, crs, transform, file.height, file.width)
    return crs, transform


def _check_one_place(path: Path, file: DatasetReader, said: Sequence[Statement]) -> None:
    """Of ``said`` the first is what counts; what the file itself says is asked for where that may be another thing."""
    hidden = any(one.name.lower().endswith(".aux.xml") for one in said)
    if hidden or contradiction(path, said, file.height, file.width) is not None:
        fault = contradiction(path, [_own_statement(path, file), *said[1:]], file.height, file.width)
        if fault is not None:
            raise fault


def _own_statement(path: Path, file: DatasetReader) -> Statement:
    """What a file says without all that lies beside it."""
    import rasterio

    if file.driver in _SILENT:
        return Statement("the file itself")
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_GEOREF_SOURCES="INTERNAL"),
        rasterio.open(path.absolute(), driver=file.driver) as bare,
    ):
        transform = None if bare.transform.is_identity else bare.transform
        return Statement("the file itself", bare.crs or None, transform, tied=file.driver in _TIED)


def _statements(path: Path) -> list[Statement]:
    """What the files beside a raster say of its place. Those that cannot be read say nothing.

    What may belong to another file of the same name counts only where there is none: a ``.prj`` to a Shapefile, a
    ``.wld`` and a ``NAME.aux.xml`` to another raster.
    """
    if not path.parent.is_dir():  # a raster in memory
        return []
    beside = _names_in(path.parent, path.parent.stat().st_mtime_ns)
    stem, whole = _key(path.stem), _key(path.name)
    keys = [f"{whole}.aux.xml", *(f"{stem}{suffix}" for suffix in (".aux.xml", *_worlds_of(path), ".prj"))]
    found = []
    for key in keys:
        if key in beside and not _of_another(key, stem, whole, beside):
            found += [one for name in beside[key] if (one := _statement(path.with_name(name))) is not None]
    return found


def _of_another(key: str, stem: str, whole: str, beside: Mapping[str, Sequence[str]]) -> bool:
    if key.endswith(".prj"):
        return f"{stem}.shp" in beside
    if key in (f"{stem}.wld", f"{stem}.aux.xml"):
        return any(f"{stem}{suffix}" in beside for suffix in _RASTERS if f"{stem}{suffix}" != whole)
    return False


def _statement(beside: Path) -> Statement | None:
    suffix = beside.suffix.lower()
    try:
        if beside.stat().st_size > MAX_BYTES:
            return None
        if suffix == ".xml":
            content = beside.read_bytes()  # most hold statistics alone
            crs, transform = _parse_aux(beside) if b"<SRS" in content or b"<GeoTransform" in content else (None, None)
        elif suffix == ".prj":
            crs, transform = _read_prj(beside), None
        else:
            crs, transform = None, _parse_world(beside)
    except (DataError, OSError):
        return None
    return (
        None
        if crs is None and transform is None
        else Statement(beside.name, crs, transform, world=suffix in WORLD_SUFFIXES)
    )


def sidecar_name(raster: str, name: str) -> str | None:
    """Under which name a file beside ``raster`` (both bare names) says something about it; None where it does not.

    The name is one that GDAL or :func:`place_of` looks for, whatever case the file itself is written in, and whether
    its accents are letters of their own or not.

    >>> sidecar_name("a.png", "A.PNG.AUX.XML"), sidecar_name("a.png", "a.PGW"), sidecar_name("a.png", "b.pgw")
    ('a.png.aux.xml', 'a.pgw', None)
    """
    stem = Path(raster).stem
    key, whole = _key(name), _key(raster)
    if key in (f"{whole}.aux.xml", f"{_key(stem)}.aux.xml"):
        return f"{raster}.aux.xml" if key.startswith(f"{whole}.") else f"{stem}.aux.xml"
    if key == f"{whole}.msk":
        return f"{raster}.msk"
    suffix = Path(key).suffix
    fits = Path(key).stem == _key(stem) and suffix in WORLD_SUFFIXES | {".prj"}
    return f"{stem}{suffix}" if fits else None


def _present(path: Path, stems: Sequence[str], suffix: str) -> Iterator[Path]:
    """Files beside ``path`` with one of these names, in any case and encoding of accents; its own spelling first."""
    names = [f"{stem}{suffix}" for stem in stems]
    names += [name for stem in stems for name in (f"{stem}{suffix.upper()}", f"{stem}{suffix}".upper())]
    if path.parent.is_dir():  # not so for a raster in memory
        beside = _names_in(path.parent, path.parent.stat().st_mtime_ns)
        names += [name for stem in stems for name in beside.get(_key(f"{stem}{suffix}"), ())]
    for candidate in map(path.with_name, dict.fromkeys(names)):
        if candidate.is_file():
            if candidate.stat().st_size > MAX_BYTES:
                raise _unusable(candidate, f"{candidate.stat().st_size} bytes")
            yield candidate


@lru_cache(maxsize=16)
def _names_in(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder by :func:`_key`, sorted; read once until it has ``changed`` (a time), for folders of many."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        found.setdefault(_key(name), []).append(name)
    return found


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _read_aux(path: Path) -> tuple[CRS | None, Affine | None]:
    """What a GDAL sidecar says that GDAL does not look for."""
    for beside in _present(path, [path.name, path.stem], ".aux.xml"):
        crs, transform = _parse_aux(beside)
        if crs is not None or transform is not None:
            return crs, transform
    return None, None


def _parse_aux(beside: Path) -> tuple[CRS | None, Affine | None]:
    try:
        root = ElementTree.parse(beside).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise _unusable(beside, str(error)) from error
    text, numbers = root.findtext("SRS"), root.findtext("GeoTransform")
    return _parse_crs(beside, text) if text else None, _parse_transform(beside, numbers) if numbers else None


def _worlds_of(path: Path) -> Sequence[str]:
    """Endings of world files of a raster's format: "a.tfw" beside "a.jpg" is that of another raster, "a.tif"."""
    return _worlds_of_suffix(path.suffix.lower())


@lru_cache
def _worlds_of_suffix(suffix: str) -> tuple[str, ...]:
    jpeg_2000 = suffix.startswith((".jp2", ".j2"))
    own = (world for world in WORLD_SUFFIXES if world[1] == suffix[1:2] and ("2" in world) == jpeg_2000)
    return (*sorted(own), ".wld")


def _read_world(path: Path) -> Affine | None:
    """The transform of a world file of the raster's format: six lines, of the centre of the first px."""
    for suffix in _worlds_of(path):
        for beside in _present(path, [path.stem], suffix):
            return _parse_world(beside)
    return None


def _parse_world(beside: Path) -> Affine:
    from affine import loadsw

    try:
        return loadsw(beside.read_text())
    except ValueError as error:
        raise _unusable(beside, "no world file of six numbers") from error


def _parse_transform(beside: Path, text: str) -> Affine:
    from rasterio import Affine

    try:
        return Affine.from_gdal(*(float(number) for number in re.split(r"[,\s]+", text.strip())))
    except (ValueError, TypeError) as error:
        raise _unusable(beside, f"GeoTransform {text.strip()!r}") from error


def _read_prj(beside: Path) -> CRS:
    return _parse_crs(beside, beside.read_text(errors="replace"))


def _parse_crs(beside: Path, text: str) -> CRS:
    from rasterio.errors import CRSError

    try:
        return _crs_of(text)
    except (CRSError, ValueError) as error:  # EPSG:x is a ValueError
        raise _unusable(beside, "no coordinate reference system that PROJ knows") from error


@lru_cache(64)
def _crs_of(text: str) -> CRS:
    """Of the text of a sidecar; a folder of many has the same one again and again."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if "[" in text:
        return CRS.from_wkt(text.strip(), morph_from_esri_dialect=True)
    if names_elsewhere(text.strip()):
        raise CRSError("a link, or a file")
    return CRS.from_user_input(text.strip())


def _unusable(beside: Path, reason: str) -> DataError:
    return DataError(
        f"{beside}: cannot be used ({reason})",
        expected="a sidecar that says where its raster lies",
        cure="mend it, or move it away",
    )
