"""Tags of images in "CVAT for images 1.1" (CVAT 1.0 to 2.49 write it so): annotations.xml, or the zip that holds it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final
from xml.parsers import expat

from weakseg.core.errors import DataError
from weakseg.core.reading import BROKEN_ZIP, MOST_BYTES
from weakseg.labels.marks import Mark, Marks

MEMBER: Final = "annotations.xml"
_SHAPES: Final = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


def read_cvat(file: Path) -> Marks:
    """What an export says; images without a tag are left out, nobody may have looked at them.

    The annotator is the assignee of the task, which is all that CVAT tells.

    Raises:
        DataError: no CVAT for images, no tag at all, XML with a DOCTYPE or entities (no export has them), or a zip that
            is none.
    """
    reader = _Reader(file)
    try:
        if file.suffix.lower() != ".zip":
            with file.open("rb") as stream:
                reader.read(stream)
        else:
            with zipfile.ZipFile(file) as archive, archive.open(_member(file, archive)) as stream:
                reader.read(stream)
    except (*BROKEN_ZIP, expat.ExpatError, LookupError) as error:
        raise DataError(
            f"{file}: not CVAT's XML ({' '.join(str(error).split())})",
            expected="an export as CVAT for images 1.1",
            cure="export it again",
        ) from error
    return reader.finish()


def _member(file: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if member.filename == MEMBER]
    if len(found) != 1 or found[0].file_size > MOST_BYTES:
        raise DataError(
            f"{file}: {len(found)} {MEMBER}" if len(found) != 1 else f"{file}: {MEMBER} larger than 1 GiB",
            expected=f"a zip with one {MEMBER}, an export as CVAT for images 1.1",
            cure="export it again",
        )
    return found[0]


class _Reader:
    """Reads element by element, so that memory is that of the tags."""

    def __init__(self, file: Path) -> None:
        self._marks = Marks(file)
        self._path: list[str] = []
        self._text = ""
        self._image: Mapping[str, str] = {}
        self._tags: list[Mapping[str, str]] = []
        self._drawn: list[str] = []
        self._labels: list[str] = []
        self._task: dict[str, str] = {}
        self._people: dict[str, str] = {}

    def read(self, stream: IO[bytes]) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse_entities
        parser.EntityDeclHandler = self._refuse_entities
        read = 0
        while block := stream.read(1 << 20):
            read += len(block)
            if read > MOST_BYTES:
                raise self._wrong("larger than 1 GiB", "an export of labels", "export it in parts")
            parser.Parse(block, False)
        parser.Parse(b"", True)

    def finish(self) -> Marks:
        if not self._marks.rows:
            raise self._wrong(
                "no tag of an image",
                "tags (Setup tag in CVAT)",
                "tag the images; boxes and polygons come in by COCO and `weakseg data boxes`",
            )
        self._marks.offered = tuple(dict.fromkeys(self._labels)) or None
        return self._marks

    def _wrong(self, found: str, expected: str, cure: str) -> DataError:
        return DataError(f"{self._marks.file}: {found}", expected=expected, cure=cure)

    def _refuse_entities(self, *_: Any) -> None:
        raise self._wrong("XML with a DOCTYPE or entities", "an export of CVAT, which has none", "export it again")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path.append(name)
        self._text = ""
        if len(self._path) == 1 and name != "annotations":
            raise self._wrong(f"XML of <{name[:40]}>", "<annotations> of CVAT for images 1.1", "export it again")
        if name == "track":
            raise self._wrong("tracks of a video", "CVAT for images 1.1", "export in that format")
        if name == "task" and self._path[1:2] == ["meta"]:
            self._task = {}
        if name == "image":
            self._image, self._tags, self._drawn = attributes, [], []
        elif name == "tag":
            self._tags.append(attributes)
        elif name in _SHAPES:
            self._marks.notes[f"{name} shape(s)"] += 1
            self._drawn.append(attributes.get("label", ""))

    def _characters(self, text: str) -> None:
        if self._path[1:2] == ["meta"] and len(self._text) < 1000:
            self._text += text

    def _end(self, name: str) -> None:
        inside = self._path[1:-1]
        text, self._text = self._text.strip(), ""
        self._path.pop()
        if name == "image":
            self._close_image()
        elif inside[:1] == ["meta"]:
            if name == "name" and inside[-1:] == ["label"]:
                self._labels.append(text)
            elif name == "type" and inside[-1:] == ["label"] and text not in ("any", "tag") and self._labels:
                self._labels.pop()  # it can be drawn alone, so an image without its tag says nothing of it
            elif name == "id" and inside[-1:] in (["task"], ["job"]):
                self._task["id"] = text
            elif name == "username" and inside[-1:] == ["assignee"] and text:
                self._people[self._task.get("id", "")] = text

    def _close_image(self) -> None:
        image = self._image
        if not self._tags:
            self._marks.notes["image(s) without a tag"] += 1
            return
        if not image.get("name") or not all(tag.get("label") for tag in self._tags):
            raise self._wrong(f"image {image.get('id')} without a name or label", "both", "export it again")
        numbers = [image.get("height", ""), image.get("width", "")]
        size = (int(numbers[0]), int(numbers[1])) if all(number.isdecimal() for number in numbers) else None
        people = dict.fromkeys(self._people.values())
        who = self._people.get(image.get("task_id", ""), next(iter(people)) if len(people) == 1 else "")
        names = tuple(dict.fromkeys(tag["label"] for tag in self._tags))
        self._marks.notes["tag(s) that CVAT's own models made"] += sum(
            tag.get("source") == "auto" for tag in self._tags
        )
        place = f"{self._marks.file}: image {image.get('id', '?')}"
        drawn = tuple(name for name in dict.fromkeys(self._drawn) if name in self._labels and name not in names)
        self._marks.rows.append(Mark(place, image["name"], names, unsure=drawn, annotator=who, size=size))
