"""A list of tag crops in the order in which they are wanted: what `weakseg next` writes and `weakseg tag` serves."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.labels.answers import Crop
from weakseg.labels.class_lists import split_names
from weakseg.labels.tags import check_inside

COLUMNS: Final = ("area", "row", "column", "height", "width")
ASKS: Final = "asks"  # a further column: the classes that are asked about; all where it is empty
_CORNERS: Final = {"row": "y", "column": "x"}  # either pair of names


def write_order(path: Path, crops: Iterable[Crop], further: Mapping[str, Iterable[object]] | None = None) -> None:
    """Write a CSV ``area,row,column,height,width``, best first, px of the raster in data/images.

    Args:
        further: more columns by name, one value per crop, such as a score.
    """
    more = further or {}
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *more])
        for (area, window), *values in zip(crops, *more.values(), strict=True):
            writer.writerow([area, *window, *values])


def read_order(path: Path, areas: Mapping[str, tuple[int, int]], classes: ClassScheme) -> dict[Crop, tuple[str, ...]]:
    """Read a CSV of crops, in its order; ``x,y`` may stand for ``column,row``.

    Args:
        areas: height and width in px of each known area.
        classes: of the names in the column ``asks``; all further columns are left alone.

    Returns:
        Each crop with the classes that are asked about it, in the order of ``classes``; () for all of them.

    Raises:
        DataError: no such file, columns missing or named both ways, and, with its line, an unknown area, numbers that
            are none, a window outside its area, or one twice, or an unknown class.
    """
    if not path.is_file():
        raise DataError(f"no file {path}", expected="a CSV of crops", cure="run `weakseg next`, or check the path")
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        names = _columns(path, reader.fieldnames or ())
        lines = [(reader.line_num, [record[name] or "" for name in names], record.get(ASKS) or "") for record in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is unreadable ({error})", expected="a CSV in UTF-8", cure="write it again") from error
    crops: dict[Crop, int] = {}
    found: dict[Crop, tuple[str, ...]] = {}
    for line, cells, asks in lines:
        crop = _crop(f"{path}, line {line}", cells, areas)
        if crop in crops:
            again = f"{path}, line {line}: the crop of line {crops[crop]} again"
            raise DataError(again, expected="each crop once", cure="take one of the lines out")
        crops[crop] = line
        found[crop] = _asks(f"{path}, line {line}", asks, classes)
    return found


def _asks(place: str, text: str, classes: ClassScheme) -> tuple[str, ...]:
    try:
        names = split_names(text, classes.object_names)
    except DataError as error:
        raise DataError(f"{place}, {ASKS}: {error.found}", expected=error.expected, cure=error.cure) from error
    return tuple(name for name in classes.object_names if name in names)


def _columns(path: Path, found: Iterable[str]) -> list[str]:
    there = set(found)
    both = [f"{name} and {other}" for name, other in _CORNERS.items() if {name, other} <= there]
    names = [name if name in there else next(iter({_CORNERS.get(name, name)} & there), name) for name in COLUMNS]
    missing = [name for name in names if name not in there]
    if both or missing:
        raise DataError(
            f"{path} has the columns {', '.join(both)}" if both else f"{path} lacks the columns {', '.join(missing)}",
            expected=f"{','.join(COLUMNS)}, or x,y for column,row",
            cure="mend the header line",
        )
    return names


def _crop(place: str, cells: list[str], areas: Mapping[str, tuple[int, int]]) -> Crop:
    area, *numbers = (cell.strip() for cell in cells)
    if area not in areas:
        listed = ", ".join(list(areas)[:5])
        raise DataError(f"{place}: unknown area {area!r}", expected=f"one of {listed}, ...", cure="mend the line")
    try:
        row, column, height, width = (int(cell) for cell in numbers)
    except ValueError as error:
        raise DataError(
            f"{place}: {', '.join(map(repr, numbers))}", expected="four whole numbers", cure="mend the line"
        ) from error
    try:
        check_inside((row, column, height, width), *areas[area])
    except DataError as error:
        raise DataError(f"{place}: {error.found}", expected=error.expected, cure=error.cure) from error
    return area, (row, column, height, width)
