"""Tags in and out of the programs that people use: files of other programs become answers, and these the tag table.

What comes in goes the way of `weakseg tag`: each answer is kept with its annotator, disputes stay unknown, and nothing
that the table knows from elsewhere is changed unasked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import DataError, ImportProblems, ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.labels.answer_file import AnswerFile, read_answers
from weakseg.labels.answers import Crop, TagAnswer, now
from weakseg.labels.box_reading import BoxReading
from weakseg.labels.class_map import ClassMap, read_class_map
from weakseg.labels.crop_layer import read_crop_layer
from weakseg.labels.layer_tags import classed_layer, layer_answers, layer_kinds, osm_layer, read_features
from weakseg.labels.opinions import Opinion, opinions_of
from weakseg.labels.osm_tags import read_osm_map
from weakseg.labels.tag_files import LAYER, PROGRAMS, ReadTags, Unmarked, answers_of, read_marks, recognise
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.labels.tags import TagWindow, Window, check_share
from weakseg.raster.header import RasterInfo, read_info
from weakseg.tagging.merging import merge_tags, try_merge
from weakseg.tagging.proposals import area_crops, find_image
from weakseg.tagging.server import only_server

KINDS: Final = (*PROGRAMS, "qgis", "osm")
_LISTED: Final = 200


@dataclass(frozen=True)
class TagImport:
    """How files of tags are read.

    Attributes:
        kind: the program, of :data:`KINDS`; None: as the files show.
        field: control, attribute, field or column that holds the classes, where there are several.
        names: a file that says which class a name is (:mod:`weakseg.labels.class_map`).
        unmarked: what a class is that was not marked: "absent" or "unknown"; None: as the program means it.
        annotator: who it was, where the file names nobody; else the program's name.
        replace: let these tags win over what the table knows from elsewhere.
        layer: of a GeoPackage; None: all of them.
        size: side of crops, px, where an area of a layer has none; None: that of params.yaml.
        min_share: percent of a crop that polygons of a layer must cover; 0: a px.
    """

    kind: str | None = None
    field: str | None = None
    names: Path | None = None
    unmarked: Unmarked | None = None
    annotator: str | None = None
    replace: bool = False
    layer: str | None = None
    size: int | None = None
    min_share: float = 0.0


def import_tags(root: Path, files: Sequence[Path], how: TagImport) -> str:
    """Read tags of other programs into the answers and the tag table of a workspace; returns what was done.

    Importing a file again changes nothing; a later export of it changes what its people have changed.

    Raises:
        ImportProblems: anything wrong with the files; nothing has been written.
        DataError: tags that contradict what the table knows from elsewhere, without ``how.replace``.
        StageError: `weakseg tag` serves the workspace.
    """
    layout = Layout(root)
    scheme = load_classes(layout.classes)
    found = _read_all(layout, scheme, files, how)
    with only_server(root):
        before = read_answers(layout.answers, scheme)
        fresh = _changes(before, found.answers)
        try_merge(layout, [*before, *fresh], replace=how.replace)
        with AnswerFile(layout.answers, scheme) as kept:
            kept.add(fresh)
        people = len({answer.annotator for answer in found.answers})
        crops = len({answer.crop for answer in found.answers})
        said = f"{crops} crops by {people} annotator(s), {len(fresh)} new answers in {layout.answers}"
        return "\n".join([said, *(f"note: {one}" for one in found.notices), merge_tags(root, replace=how.replace)])


def _read_all(layout: Layout, scheme: ClassScheme, files: Sequence[Path], how: TagImport) -> ReadTags:
    """The answers of all files in the order of their times, or ImportProblems."""
    check_share(how.min_share)
    reader = _Reader(layout, scheme, how)
    answers: list[TagAnswer] = []
    notices: list[str] = []
    problems: list[str] = []
    for file in files:
        try:
            read = reader.read(file)
        except DataError as error:
            problems.append(str(error))
            continue
        answers += read.answers
        notices += read.notices
        problems += read.problems
    problems += _doubles(answers)
    if not answers and not problems:
        problems.append(str(DataError("no tag", expected="one at least", cure="name files that hold tags")))
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ImportProblems([*problems[:_LISTED], *more])
    return ReadTags(tuple(sorted(answers, key=lambda answer: answer.time)), tuple(notices), ())


class _Reader:
    """Reads files of one import."""

    def __init__(self, layout: Layout, scheme: ClassScheme, how: TagImport) -> None:
        self._layout, self._scheme, self._how = layout, scheme, how
        self._sizes, self._time = raster_sizes(layout.images), now()

    def read(self, file: Path) -> ReadTags:
        """What a file says, whoever wrote it; DataError where it cannot be read."""
        how = self._how
        kind = kind_of(file, how.kind)
        if kind == LAYER:
            kind = _one_of(file, layer_kinds(file, self._names, how.field))
        about = {"kind": kind, "unmarked": how.unmarked, "annotator": how.annotator or kind, "time": self._time}
        marks = (
            read_crop_layer(file) if kind == "qgis" else read_marks(kind, file, how.field) if kind != "osm" else None
        )
        if marks is not None:
            return answers_of(marks, self._names, self._sizes, **about)  # type: ignore[arg-type]
        reading = BoxReading(self._scheme, self._areas)
        source = read_features(file, reading, how.layer)
        if reading.problems:
            return ReadTags((), (), tuple(reading.problems))
        if kind == "osm":
            layer = osm_layer(source, read_osm_map(how.names, self._scheme))
        else:
            layer = classed_layer(source, self._names, how.field)
        read = layer_answers(layer, self._areas, self._crops, min_share=how.min_share, **about)  # type: ignore[arg-type]
        return replace(read, notices=(*reading.notices, *read.notices))

    @cached_property
    def _names(self) -> ClassMap:
        return read_class_map(self._how.names, self._scheme)

    @cached_property
    def _areas(self) -> dict[str, RasterInfo]:
        return {area: read_info(find_image(self._layout.images, area)) for area in self._sizes}

    @cached_property
    def _tagged(self) -> tuple[list[TagWindow], set[Crop], int]:
        """Rows of the table, crops with answers, and the side of others, px."""
        table, tiles = self._layout.tags_csv, load_params(self._layout.params).tiles
        rows = read_tags(table, self._scheme, self._sizes) if table.is_file() else []
        answered = {answer.crop for answer in read_answers(self._layout.answers, self._scheme)}
        return rows, answered, self._how.size or max(1, round(tiles.tag_size / tiles.scale))

    def _crops(self, area: str) -> list[Window]:
        rows, answered, side = self._tagged
        return area_crops(area, self._sizes[area], side, rows, answered)


def kind_of(file: Path, kind: str | None) -> str:
    """The program that wrote a file: the one that is named, else the one that it shows; or "layer".

    Raises:
        ParamsError: a name that is none.
        DataError: no file, no program known here, or more than one that may have written it.
    """
    if kind is not None and kind not in KINDS:
        raise ParamsError(f"--from {kind}", expected=f"one of {', '.join(KINDS)}", cure="mend it")
    if not file.exists():
        raise DataError(f"no file {file}", expected="an export of labels", cure="mend the path")
    return kind if kind is not None else _one_of(file, recognise(file))


def _one_of(file: Path, found: Sequence[str]) -> str:
    if len(found) != 1:
        raise DataError(
            f"{file} may be of {' or '.join(found)}" if found else f"{file}: no export that is known here",
            expected=f"a file of {', '.join(KINDS)}",
            cure="say which by --from KIND",
        )
    return found[0]


def _doubles(answers: Iterable[TagAnswer]) -> list[str]:
    """A problem for each crop about which one annotator says two things at one time."""
    said: dict[tuple[object, str, str], TagAnswer] = {}
    found = {}
    for answer in answers:
        first = said.setdefault((answer.crop, answer.annotator, answer.time), answer)
        if _states(first) != _states(answer):
            found[answer.crop] = answer
    return [
        str(
            DataError(
                f"{answer.annotator} says two things about {answer.area} at row {answer.window[0]}, column "
                f"{answer.window[1]}",
                expected="one answer of each annotator",
                cure="import the files of different people one at a time, each with --annotator NAME",
            )
        )
        for answer in found.values()
    ]


def _states(answer: TagAnswer) -> Opinion:
    sure = dict.fromkeys(answer.present, True) | dict.fromkeys(answer.absent, False)
    return {**sure, **dict.fromkeys(answer.unsure)}


def _changes(before: Sequence[TagAnswer], answers: Sequence[TagAnswer]) -> list[TagAnswer]:
    """The last answers of each annotator about each crop that say something new, with ids."""
    held = opinions_of(before)
    files = {batch: opinions_of(one for one in before if one.batch == batch) for batch in {a.batch for a in answers}}
    fresh = []
    for answer in {(answer.crop, answer.annotator): answer for answer in answers}.values():
        mine = held.get(answer.crop, {}).get(answer.annotator, {})
        earlier = files[answer.batch].get(answer.crop, {}).get(answer.annotator, {})
        gone = [
            name for name in earlier if name not in answer.asked
        ]  # what a file says no longer is not known any more
        latest = replace(answer, unsure=(*answer.unsure, *gone))
        if any(name not in mine or mine[name] is not state for name, state in _states(latest).items()):
            fresh.append(replace(latest, id=_id(latest, mine)))
    return fresh


def _id(answer: TagAnswer, before: Opinion) -> str:
    """The same for the same change, so that two imports at a time add it once."""
    text = json.dumps([answer.to_json(), before], sort_keys=True, default=str)
    return f"{answer.batch}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
