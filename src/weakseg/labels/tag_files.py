"""Tags of other programs as answers: which program wrote a file, what its marks say, and of which crops."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from weakseg.core.class_names import did_you_mean
from weakseg.core.errors import DataError
from weakseg.core.reading import BROKEN_ZIP, read_json
from weakseg.labels.answers import Crop, TagAnswer, check_annotator
from weakseg.labels.box_reading import shorten
from weakseg.labels.class_map import ClassMap
from weakseg.labels.cvat import MEMBER, read_cvat
from weakseg.labels.fiftyone import FILES, is_fiftyone, read_fiftyone
from weakseg.labels.label_studio import is_label_studio, read_label_studio
from weakseg.labels.marks import Mark, Marks
from weakseg.labels.picture_names import crop_of
from weakseg.labels.tags import Window, check_inside
from weakseg.labels.via import is_via, read_via

Unmarked = Literal["absent", "unknown"]
"""What a class is that was not marked of a picture."""
PROGRAMS: Final = ("label-studio", "cvat", "via", "fiftyone")
LAYER: Final = "layer"
"""Features of a GIS program or of OpenStreetMap; ``layer_tags`` tells them apart."""

Sizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class ReadTags:
    """What files of tags say.

    Attributes:
        answers: without ids; those of one crop and annotator in the order of the files.
        notices: what was left out, and what could have been read in another way; a sentence each.
        problems: what must be mended, a line each.
    """

    answers: tuple[TagAnswer, ...]
    notices: tuple[str, ...]
    problems: tuple[str, ...]


def recognise(file: Path) -> tuple[str, ...]:
    """The programs that may have written a file, of :data:`PROGRAMS`, :data:`LAYER`, or none."""
    if file.is_dir():
        return ("fiftyone",) if any((file / name).is_file() for name in FILES) else ()
    suffix = file.suffix.lower()
    if suffix == ".xml" or (suffix == ".zip" and _holds(file, MEMBER)):
        return ("cvat",)
    if suffix in (".gpkg", ".shp", ".fgb"):
        return (LAYER,)
    if suffix not in (".json", ".geojson"):
        return ()
    content = read_json(file)
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return (LAYER,)
    tests = {"label-studio": is_label_studio, "via": is_via, "fiftyone": is_fiftyone}
    return tuple(name for name, test in tests.items() if test(content))


def _holds(file: Path, member: str) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return member in archive.namelist()
    except BROKEN_ZIP:
        return False


def read_marks(kind: str, file: Path, field: str | None = None) -> Marks:
    """The marks of a file of one of :data:`PROGRAMS`; DataError where it is none of that program.

    Args:
        field: which control, attribute or field holds the classes, where there are several.
    """
    if kind == "cvat":
        return read_cvat(file)
    if kind == "fiftyone" and file.is_dir():
        file = next((file / name for name in FILES if (file / name).is_file()), file / FILES[0])
    readers: dict[str, tuple[Callable[[Any], bool], Callable[..., Marks]]] = {
        "label-studio": (is_label_studio, read_label_studio),
        "via": (is_via, read_via),
        "fiftyone": (is_fiftyone, read_fiftyone),
    }
    test, read = readers[kind]
    content = read_json(file)
    if not test(content):
        raise DataError(f"{file} is no export of {kind}", expected="one", cure="export it again, or mend --from")
    return read(file, content, field)


def answers_of(
    marks: Marks, names: ClassMap, sizes: Sizes, *, kind: str, unmarked: Unmarked | None, annotator: str, time: str
) -> ReadTags:
    """What the marks of a file say of crops.

    Args:
        names: what the names of the file are here.
        sizes: height and width by area, px.
        unmarked: what a class is that was not marked; None: absent, where a picture could get several classes.
        annotator: who it was where the file names nobody.
        time: of marks that have none.
    """
    problems: list[str] = []
    notices = [f"{marks.file}: {count} {note} skipped" for note, count in marks.notes.items() if count]
    _check_names(marks, names, problems)
    rest = _rest(marks, unmarked, problems)
    offered = (
        names.scheme.object_names if marks.offered is None else names.classes_of(filter(names.knows, marks.offered))
    )
    answers, left_out, silent = [], Counter[str](), 0
    for mark in marks.rows if not problems else ():
        left_out.update(name for name in mark.present if names.class_of(name) is None)
        try:
            area, window = _crop(mark, sizes)
            said = _states(mark, names, offered if rest == "absent" else ())
            who = check_annotator(mark.annotator or annotator)
        except DataError as error:
            problems.append(f"{mark.place}: {error}")
            continue
        if not any(said):
            silent += 1
            continue
        mode = "crop" if mark.seconds else "file"
        answers.append(
            TagAnswer("", area, window, sizes[area], *said, who, mark.time or time, mark.seconds, mode=mode, batch=kind)
        )
    notices += [f"{marks.file}: {count} mark(s) of {name} left out" for name, count in left_out.items()]
    notices += [f"{marks.file}: {silent} picture(s) without a class skipped"] if silent else []
    notices += _never(marks, offered, answers) if rest == "absent" and marks.offered is None else []
    return ReadTags(tuple(answers), tuple(notices), tuple(problems))


def _check_names(marks: Marks, names: ClassMap, problems: list[str]) -> None:
    said = [name for mark in marks.rows for name in (*mark.present, *mark.unsure, *mark.absent)]
    unknown = [name for name in dict.fromkeys(said) if not names.knows(name)]
    if unknown:
        problems.append(str(unknown_classes(marks.file, unknown, names)))


def unknown_classes(file: Path, unknown: Sequence[str], names: ClassMap) -> DataError:
    """The error for names that are no classes."""
    where = f"lines of {names.file}" if names.file else "a file of lines"
    known = (*names.scheme.names, *names.stated)
    return DataError(
        f"{file}: classes {shorten(f'{name!r}{did_you_mean(name, known)}' for name in unknown)}",
        expected=f"classes of {', '.join(names.scheme.names)}",
        cure=f"say what they are by {where} such as `{unknown[0]}: {names.scheme.names[0]}` or `{unknown[0]}: null` "
        "(--map FILE)",
    )


def _rest(marks: Marks, unmarked: Unmarked | None, problems: list[str]) -> Unmarked:
    """What unmarked classes are; a problem where every picture has one class and that can be read in two ways."""
    if unmarked is not None:
        return unmarked
    most = max((len(mark.present) for mark in marks.rows), default=0)
    if marks.several is False or (marks.several is None and most <= 1):
        problems.append(
            str(
                DataError(
                    f"{marks.file}: every picture has one class",
                    expected="to know whether the other classes are absent or nothing was said of them",
                    cure="say --unmarked absent, or --unmarked unknown",
                )
            )
        )
    return "absent"


def _never(marks: Marks, offered: Iterable[str], answers: Sequence[TagAnswer]) -> list[str]:
    """A note on classes that nobody marked anywhere, and that count as absent."""
    marked = {name for answer in answers for name in (*answer.present, *answer.unsure)}
    never = [name for name in offered if name not in marked]
    if not never or not answers:
        return []
    return [
        f"{marks.file}: {', '.join(never)} marked nowhere, so absent everywhere; --unmarked unknown if nobody was asked"
    ]


def _states(
    mark: Mark, names: ClassMap, offered: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Present, absent and unsure classes; of a class marked twice the first of unsure, present and absent counts."""
    unsure = names.classes_of(mark.unsure)
    present = tuple(name for name in names.classes_of(mark.present) if name not in unsure)
    stated = {*names.classes_of(mark.absent), *offered}
    absent = tuple(name for name in names.scheme.object_names if name in stated and name not in (*unsure, *present))
    return present, absent, unsure


def _crop(mark: Mark, sizes: Sizes) -> Crop:
    """Area and window of a mark."""
    if mark.window is not None:
        crop = _stated(mark, mark.window, sizes)
    elif mark.picture:
        crop = crop_of(mark.picture, sizes)
    else:
        raise DataError("no picture and no window", expected="one of them", cure="export it again")
    area, window = crop
    shown = window[2:]
    if mark.size is not None and mark.size != shown:
        raise DataError(
            f"a picture of {mark.size[0]}x{mark.size[1]} px (height x width), its crop has {shown[0]}x{shown[1]}",
            expected="the same size",
            cure="annotate the pictures at their original size",
        )
    return (area, _part(window, mark.edges)) if mark.edges is not None else crop


def _stated(mark: Mark, window: Window, sizes: Sizes) -> Crop:
    """A crop that the file itself says."""
    if mark.area not in sizes:
        raise DataError(f"area {mark.area!r}", expected=f"one of {shorten(sizes)}", cure="import its image")
    size = sizes[mark.area]
    if mark.raster is not None and mark.raster != size:
        raise DataError(
            f"tags of a raster of {mark.raster[0]}x{mark.raster[1]} px, {mark.area} has {size[0]}x{size[1]} px",
            expected="tags of the raster that is imported",
            cure="bring it back, or tag the new one",
        )
    check_inside(window, *size)
    return mark.area, window


def _part(window: Window, edges: tuple[float, float, float, float]) -> Window:
    """A rectangle in a picture of a window, to whole px; DataError where it leaves the picture by more than one."""
    row, column, height, width = window
    left, top, right, bottom = (
        round(share * side) for share, side in zip(edges, (width, height, width, height), strict=True)
    )
    if min(left, top, width - right, height - bottom) < -1:  # one px is how programs round
        raise DataError(
            f"a rectangle of rows {top} to {bottom}, columns {left} to {right} in a picture of {width}x{height} px",
            expected="one inside the picture",
            cure="draw it inside, or check that the picture is the one that was tagged",
        )
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    part = row + top, column + left, bottom - top, right - left
    check_inside(part, row + height, column + width)
    return part
