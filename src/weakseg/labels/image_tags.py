"""Tags of whole images as other projects keep them: a CSV, folders per class, COCO, or XML of VOC and ImageNet DET.

All become ``Marks``, one per image with the names that the file has; of boxes and polygons the class names alone are
read. ``data/importing/image_tags.py`` pairs them with images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal
from xml.parsers import expat

from weakseg.core.class_names import EMPTY
from weakseg.core.errors import DataError
from weakseg.core.reading import MOST_BYTES, read_json
from weakseg.labels.class_lists import split_names
from weakseg.labels.class_map import ClassMap
from weakseg.labels.coco import id_text
from weakseg.labels.marks import Mark, Marks
from weakseg.labels.tag_columns import check_further, misspelt, read_header

TagFormat = Literal["csv", "coco", "xml", "folders"]
"""A table ``image,tags``; COCO JSON; an XML per image as Pascal VOC and ImageNet DET have; a folder per class."""

_COLUMNS: Final = ("image", "tags", "unknown")
_TABLES: Final = (".csv", ".tsv")
_OBJECT: Final = ("annotation", "object")


def find_tag_files(source: Path) -> dict[TagFormat, list[Path]]:
    """The files of tags that ``source`` is or holds, by format; XML counts in folders below it too.

    Raises:
        DataError: no such file or folder.
    """
    if not source.exists():
        raise DataError(f"no {source}", expected="a file or folder of tags", cure="check the path")
    files = [source] if source.is_file() else sorted(path for path in source.iterdir() if path.is_file())
    tables = [path for path in files if path.suffix.lower() in _TABLES and (path == source or "image" in _head(path))]
    coco = [path for path in files if path.suffix.lower() == ".json" and (path == source or _is_coco(path))]
    xml = sorted(path for path in source.rglob("*.xml")) if source.is_dir() else files
    # GDAL keeps .aux.xml beside rasters
    xml = [path for path in xml if path.suffix.lower() == ".xml" and not path.name.endswith(".aux.xml")]
    found: dict[TagFormat, list[Path]] = {"csv": tables, "coco": coco, "xml": xml}
    return {kind: paths for kind, paths in found.items() if paths}


def read_image_tags(kind: TagFormat, files: Sequence[Path], names: ClassMap) -> Marks:
    """What files of one format say of images; those of folders are :func:`marks_of_folders`.

    Args:
        files: one, or of "xml" any number.
        names: the names that cells of a CSV may hold.

    Raises:
        DataError: a file that is none of this format.
    """
    if kind == "xml":
        marks = Marks(files[0].parent, several=True)
        marks.rows += [_read_xml(file) for file in files]
        return marks
    return _read_csv(files[0], names) if kind == "csv" else _read_coco(files[0])


def marks_of_folders(source: Path, images: Mapping[str, Sequence[str]]) -> Marks:
    """Marks by the folders that images lie in: paths below ``source`` by area.

    An image that lies in the folders of two classes has both.
    """
    marks = Marks(source, several=False)
    for paths in images.values():
        folders = dict.fromkeys(PurePosixPath(path).parent.name for path in paths)
        if present := tuple(name for name in folders if name):  # an image beside the folders has no tags
            marks.rows.append(Mark(str(source / paths[0]), paths[0], present))
    return marks


def _wrong(file: Path, found: str, expected: str, cure: str) -> DataError:
    return DataError(f"{file}: {found}", expected=expected, cure=cure)


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(file, f"unreadable ({error})", "a CSV in UTF-8", "save it again") from error


def _head(file: Path) -> list[str]:
    return read_header(_text(file), _COLUMNS)[0]


def _read_csv(file: Path, names: ClassMap) -> Marks:
    text = _text(file)
    columns, delimiter, skipped = read_header(text, _COLUMNS)
    found = [columns.count(name) for name in _COLUMNS]
    strange = misspelt(columns, _COLUMNS, _COLUMNS[2:])
    if found[:2] != [1, 1] or found[2] > 1 or strange:
        shown = ", ".join(strange or columns)
        raise _wrong(file, f"columns {shown}", "image,tags and if need be unknown", "name the columns so")
    check_further(file, columns, _COLUMNS, names.scheme)
    known = (*names.scheme.names, *(name for name, _ in names.scheme.ignored), *names.stated)
    known = tuple(dict.fromkeys(known))
    marks, faults = Marks(file, several=True), list[str]()
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(rows.line_num, [cell.strip() for cell in row]) for row in rows]
    except csv.Error as error:
        raise _wrong(file, f"unreadable ({error})", "a CSV", "save it again") from error
    for line, cells in ((line, cells) for line, cells in lines[1 + skipped :] if any(cells)):
        try:
            mark = _row(f"{file}: line {line}", dict(zip(columns, cells, strict=False)), known)
            faults += [f"line {line}: more cells than columns"] if len(cells) > len(columns) else []
            faults += [f"line {line}: fewer cells than columns"] if "tags" in columns[len(cells) :] else []
        except DataError as error:
            faults.append(f"line {line}: {error.found}")
            continue
        if mark.present or mark.unsure:  # nobody has looked at an image without either
            marks.rows.append(mark)
    if faults:
        raise _wrong(
            file,
            f"{len(faults)} lines: {'; '.join(faults[:20])}",
            "an image and classes that can be read in one way",
            "mend the lines, put a semicolon behind each name, or say what names are by --map FILE",
        )
    return marks


def _row(place: str, cells: Mapping[str, str], known: Sequence[str]) -> Mark:
    image, tags, unknown = (cells.get(name, "") for name in _COLUMNS)
    present, unsure = _names(tags, known), _names(unknown, known)
    if both := [name for name in present if name in unsure]:
        raise DataError(f"{both[0]} in tags and in unknown", expected="one of them", cure="mend the line")
    if not image:
        raise DataError("no image", expected="its file", cure="name it")
    return Mark(place, image, present, unsure=unsure)


def _names(cell: str, known: Sequence[str]) -> tuple[str, ...]:
    return () if cell.casefold() in EMPTY and cell not in known else split_names(cell, known)


# ---- COCO ------------------------------------------------------------------------------------------------------------


def _is_coco(file: Path) -> bool:
    content = read_json(file)
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _read_coco(file: Path) -> Marks:
    """Of every image the categories of its annotations; those that the file lists were looked for in every image."""
    content = read_json(file)
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(_is_rows(content.get(part)) for part in parts):
        raise _wrong(file, "no COCO JSON", f"lists of {', '.join(parts)}", "export it again")
    images, annotations, categories = (content[part] for part in parts)
    names = {id_text(row.get("id")): row.get("name") for row in categories}
    here: dict[str | None, dict[str, None]] = {id_text(row.get("id")): {} for row in images}
    if len(names) < len(categories) or len(here) < len(images) or not all(isinstance(n, str) for n in names.values()):
        raise _wrong(file, "ids twice, or categories without a name", "each once", "export it again")
    for number, row in enumerate(annotations):
        image, category = id_text(row.get("image_id")), id_text(row.get("category_id"))
        if image not in here or category not in names:
            found = f"annotation {number} of image {row.get('image_id')} and category {row.get('category_id')}"
            raise _wrong(file, found, "ids that images and categories list", "export it again")
        here[image][str(names[category])] = None
    marks = Marks(file, several=True, offered=tuple(map(str, names.values())))
    for row in images:
        unsure = tuple(str(names.get(id_text(key))) for key in row.get("not_exhaustive_category_ids", ()))
        present = tuple(here[id_text(row.get("id"))])
        place = f"{file}: image {row.get('id')}"
        if not isinstance(row.get("file_name"), str):
            raise DataError(f"{place}: no file_name", expected="its name", cure="export it again")
        marks.rows.append(Mark(place, row["file_name"], present, tuple(n for n in unsure if n not in present)))
    return marks


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


# ---- XML of Pascal VOC and ImageNet DET ------------------------------------------------------------------------------


def _read_xml(file: Path) -> Mark:
    """The classes of an image's objects. What has only objects called difficult is neither present nor absent.

    The image is the one that the XML is named after; ``<filename>`` goes stale when files are renamed.
    """
    reader = _Objects(file)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise _wrong(file, "larger than 1 GiB", "annotations of one image", "export them again")
        reader.parser.Parse(file.read_bytes(), True)
    except (OSError, expat.ExpatError, ValueError, LookupError) as error:
        raise _wrong(file, f"not XML ({error})", "an annotation as Pascal VOC has it", "export it again") from error
    sure = tuple(dict.fromkeys(name for name, difficult in reader.objects if not difficult))
    unsure = tuple(dict.fromkeys(name for name, difficult in reader.objects if difficult and name not in sure))
    return Mark(str(file), file.stem, sure, unsure=unsure)


class _Objects:
    """Names of the objects directly below <annotation>, and whether they are difficult; their parts do not count."""

    def __init__(self, file: Path) -> None:
        self.objects: list[tuple[str, bool]] = []
        self._file, self._path, self._text = file, list[str](), ""
        self._name, self._difficult = "", False
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: Any) -> None:
        raise _wrong(self._file, "XML with a DOCTYPE or entities", "an annotation without them", "export it again")

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        self._path.append(name)
        self._text = ""
        if len(self._path) == 1 and name != "annotation":
            raise _wrong(self._file, f"XML of <{name[:40]}>", "<annotation> of one image", "take the file out")
        if tuple(self._path) == _OBJECT:
            self._name, self._difficult = "", False

    def _characters(self, text: str) -> None:
        if len(self._text) < 1000:
            self._text += text

    def _end(self, _: str) -> None:
        here, text = tuple(self._path), self._text.strip()
        self._path.pop()
        if here == (*_OBJECT, "name"):
            self._name = text
        elif here == (*_OBJECT, "difficult"):
            self._difficult = text not in ("", "0")
        elif here == _OBJECT:
            if not self._name:
                raise _wrong(self._file, "an object without a name", "the class of each object", "export it again")
            self.objects.append((self._name, self._difficult))
