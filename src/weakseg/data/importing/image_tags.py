"""Tags of whole images beside an import: which file says them, of which image, and as rows of the tag table.

One image is one area and one tag crop. Nothing is guessed: a source that holds tags in two forms, an image without an
entry and an entry without an image are refused, all of them in one report.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from weakseg.core.area_names import area_name, bare_name
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Entry, local_file
from weakseg.labels.box_reading import shorten
from weakseg.labels.class_map import ClassMap
from weakseg.labels.image_tags import TagFormat, find_tag_files, marks_of_folders, read_image_tags
from weakseg.labels.marks import Mark, Marks
from weakseg.labels.tag_files import Unmarked, unknown_classes
from weakseg.labels.tags import TagWindow

_WORDS: Final = {"csv": "a CSV", "coco": "COCO", "xml": "XML", "folders": "folders of the images"}
_LISTED: Final = 5


@dataclass(frozen=True)
class TagSource:
    """Where the tags of the images of an import stand.

    Attributes:
        source: a file, a folder of XML, or a folder that holds one of them; the images' own folder, where they lie in a
            folder per class.
        names: what the names in it are here.
        kind: its format; None: the one that is found.
        unmarked: what a class is that an image is not marked with; None: absent, unless every image has one class.
    """

    source: Path
    names: ClassMap
    kind: TagFormat | None = None
    unmarked: Unmarked | None = None


@dataclass(frozen=True)
class ImageTags:
    """Tags by area: (present, unknown) names of classes in the order of the scheme; and notes, a sentence each."""

    by_area: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    notices: tuple[str, ...] = ()

    def describe(self, scheme: ClassScheme) -> tuple[str, ...]:
        """How many images hold each class, and the notes."""
        counts = Counter(name for present, _ in self.by_area.values() for name in present)
        said = ", ".join(f"{name} {counts[name]}" for name in scheme.names if counts[name])
        never = [name for name in scheme.object_names if not counts[name]]
        lines = [f"tags of {len(self.by_area)} images: {said}"]
        lines += [f"in no image's tags: {shorten(never)}"] if never else []
        return (*lines, *self.notices)

    def rows(self, sizes: Mapping[str, tuple[int, int]]) -> list[TagWindow]:
        """A window over the whole image for each, px; ``sizes``: height and width by area."""
        return [TagWindow(area, 0, 0, *sizes[area], *self.by_area[area]) for area in sorted(self.by_area)]


def choose_format(tags: TagSource, images: Path, entries: Sequence[Entry]) -> tuple[TagFormat, list[Path]]:
    """The format of a source of tags and its files; DataError where there is none, or several and nobody says which."""
    found = find_tag_files(tags.source)
    if tags.source.resolve() == images.resolve() and any(entry.folders for entry in entries):
        found["folders"] = []
    kinds = [kind for kind in found if tags.kind in (None, kind)]
    if len(kinds) != 1:
        choices = " and ".join(_found_words(kind, found[kind], entries) for kind in kinds or found) or "none"
        raise DataError(
            f"{tags.source} holds {'tags in two ways' if kinds else 'no such tags'}: {choices}",
            expected="a CSV (image,tags), COCO JSON, XML of VOC or ImageNet DET, or, as the folder of the images, a "
            "folder per class",
            cure="say which one by --tags FILE or --tags-from csv, coco, xml or folders",
        )
    files = found[kinds[0]]
    if kinds[0] != "xml" and len(files) > 1:
        raise DataError(
            f"{tags.source} holds {len(files)} tables: {shorten(file.name for file in files)}",
            expected="one",
            cure="name it: --tags FILE",
        )
    return kinds[0], files


def _found_words(kind: TagFormat, files: Sequence[Path], entries: Sequence[Entry]) -> str:
    names = sorted({entry.folders[-1] for entry in entries if entry.folders}) if kind == "folders" else files
    return f"{_WORDS[kind]} ({shorten((Path(name).name for name in names), 3)})"


def merge_copies(entries: Sequence[Entry], problems: list[str]) -> tuple[list[Entry], dict[str, list[str]]]:
    """The images of folders per class, each once; and the paths of each, by its first: copies have several classes.

    Two images of one name that differ are a problem.
    """
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[PurePosixPath(entry.name).name].append(entry)
    for name, group in sorted(groups.items()):
        if len(group) > 1 and len({_digest(entry) for entry in group}) > 1:
            differ = DataError(
                f"{name} is another image in each of {shorten(entry.folders[-1] for entry in group if entry.folders)}",
                expected="one image of a name, whose copies lie in the folders of its classes",
                cure="rename them",
            )
            problems.append(str(differ))
    return [group[0] for group in groups.values()], {
        group[0].name: [entry.name for entry in group] for group in groups.values()
    }


def _digest(entry: Entry) -> bytes:
    with tempfile.TemporaryDirectory() as scratch, local_file(entry, Path(scratch) / "member") as path:
        return hashlib.blake2b(path.read_bytes()).digest()


def tags_of_images(
    tags: TagSource,
    chosen: tuple[TagFormat, list[Path]],
    images: Mapping[str, Entry],
    copies: Mapping[str, list[str]],
    *,
    masked: Collection[str],
    allow_untagged: bool,
    problems: list[str],
) -> ImageTags:
    """The tags of images by area; what is wrong with them is added to ``problems``.

    Args:
        chosen: of :func:`choose_format`.
        images: the image of every area. copies: of :func:`merge_copies`.
        masked: areas that have a mask, and need no tags.
        allow_untagged: others need none either.
    """
    kind, files = chosen
    paths = {area: copies.get(entry.name, [entry.name]) for area, entry in images.items()}
    try:
        marks = marks_of_folders(tags.source, paths) if kind == "folders" else read_image_tags(kind, files, tags.names)
        rest = _rest(marks, tags)
    except DataError as error:
        problems.append(str(error))
        return ImageTags({})
    before = len(problems)
    offered, notices = _offered(marks, tags.names, problems)
    placed = _place(marks, images, problems)
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    if len(problems) == before:
        for area, mark in placed.items():
            said = _states(mark, tags.names, offered, rest, problems)
            found |= {area: said} if said is not None else {}
    lacking = [area for area in images if area not in found and area not in masked]
    if lacking and not allow_untagged and len(problems) == before:
        problems.append(str(_untagged(lacking, images, tags.source)))
    elif lacking:
        notices.append(f"{len(lacking)} images without tags and mask are unlabelled")
    return ImageTags(found, tuple(notices))


def _untagged(lacking: Sequence[str], images: Mapping[str, Entry], source: Path) -> DataError:
    return DataError(
        f"{len(lacking)} images without tags in {source}, the first: {images[lacking[0]]}",
        expected="an entry for every image that has no mask",
        cure="add them, or take such images as unlabelled (--allow-unlabelled)",
    )


def _rest(marks: Marks, tags: TagSource) -> Unmarked:
    """What classes are that an image is not marked with."""
    if tags.unmarked is None and marks.several is False and all(len(mark.present) == 1 for mark in marks.rows):
        raise DataError(
            f"{marks.file}: every image has one class",
            expected="to know whether the other classes are absent or nothing was said of them",
            cure="say --unmarked absent, or --unmarked unknown",
        )
    return tags.unmarked or "absent"


def _offered(marks: Marks, names: ClassMap, problems: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The classes that were looked for, and notes; names that are no classes are a problem."""
    said = dict.fromkeys(name for mark in marks.rows for name in (*mark.present, *mark.unsure))
    if unknown := [name for name in said if not names.knows(name)]:
        problems.append(str(unknown_classes(marks.file, unknown, names)))
    if marks.offered is None:
        return names.scheme.object_names, []
    idle = [name for name in marks.offered if name not in said and not names.knows(name)]
    offered = names.classes_of(name for name in marks.offered if names.knows(name))
    notices = [f"{marks.file}: {shorten(idle)}: nothing is of it, left out"] if idle else []
    if others := [name for name in names.scheme.object_names if name not in offered]:
        notices.append(f"{marks.file} lists no {shorten(others)}: unknown in every image")
    return offered, notices


def _place(marks: Marks, images: Mapping[str, Entry], problems: list[str]) -> dict[str, Mark]:
    """The mark of each area; marks of no image, of several, and of one that has a mark already are problems."""
    index = _index(images)
    found: dict[str, Mark] = {}
    strays: list[str] = []
    for mark in marks.rows:
        areas = next((index[key] for key in _keys(mark.picture) if key in index), ())
        if len(areas) > 1:
            two = DataError(
                f"{mark.place}: {mark.picture} may be {shorten(sorted(areas))}",
                expected="one image",
                cure="write its path below the folder of the images",
            )
            problems.append(str(two))
        elif not areas:
            strays.append(f"{mark.picture} ({mark.place})")
        elif (area := next(iter(areas))) in found:
            twice = DataError(
                f"{mark.place}: {mark.picture} again, after {found[area].place}",
                expected="one entry per image",
                cure="join them",
            )
            problems.append(str(twice))
        else:
            found[area] = mark
    if strays:
        missing = DataError(
            f"{marks.file}: {len(strays)} entries of images that are not there: {shorten(strays, _LISTED)}",
            expected="images of the folder that is imported",
            cure="add the images, or take the entries out",
        )
        problems.append(str(missing))
    return found


def _index(images: Mapping[str, Entry]) -> dict[str, set[str]]:
    """Areas by all names that an entry may have."""
    index: dict[str, set[str]] = defaultdict(set)
    for area, entry in images.items():
        for key in (*_keys(entry.name), area):
            index[key].add(area)
    return index


def _keys(picture: str) -> Iterable[str]:
    """Names of an image, the most exact first: its path, its name with and without the suffix, and the area's."""
    path = PurePosixPath(picture.replace("\\", "/"))
    suffixed = path.suffix.casefold() in (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".jp2")
    stem = path.stem if suffixed else path.name
    return dict.fromkeys((str(path), path.name, stem, area_name(stem), bare_name(stem)))


def _states(
    mark: Mark, names: ClassMap, offered: Sequence[str], rest: Unmarked, problems: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Present and unknown classes of an image; None where its entry says nothing, or what is wrong with it."""
    scheme = names.scheme
    if scheme.background and any(names.class_of(name) == scheme.background for name in mark.unsure):
        problems.append(f"{mark.place}: {scheme.background}, the background, among the unknown: no tag speaks of it")
        return None
    present, unsure = names.classes_of(mark.present), names.classes_of(mark.unsure)
    silent = [name for name in scheme.object_names if name not in present and name not in offered]
    unknown = _in_order(scheme, {*unsure, *silent})
    if rest == "unknown":
        nothing = any(names.class_of(name) == scheme.background for name in mark.present) and not present
        unknown = () if nothing else _in_order(scheme, {*scheme.object_names} - {*present})
    if present or unknown:
        return present, unknown
    if scheme.background:
        return (scheme.background,), ()
    problems.append(
        str(
            DataError(
                f"{mark.place}: no class",
                expected="at least one where the scheme has no background",
                cure="name one, leave the entry out, or say `background: NAME` in classes.yaml",
            )
        )
    )
    return None


def _in_order(scheme: ClassScheme, chosen: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in scheme.object_names if name in chosen)
