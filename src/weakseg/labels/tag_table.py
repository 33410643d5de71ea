"""Tags as a CSV: what weakseg writes, and what people, Excel and pandas make of it; all problems come in one report."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from weakseg.core.area_names import area_name, bare_name
from weakseg.core.class_names import EMPTY, did_you_mean
from weakseg.core.classes import ClassScheme, find_classes
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.labels.class_lists import join_names, split_names
from weakseg.labels.tag_columns import check_further, misspelt, read_header
from weakseg.labels.tags import TagWindow, check_inside
from weakseg.raster.header import read_info

Sizes = Mapping[str, tuple[int, int]]
"""Height and width of rasters by area, px."""

WINDOW: Final = ("row", "column", "height", "width")
REQUIRED: Final = ("area", *WINDOW, "tags")
SIZE: Final = ("area_height", "area_width")
COLUMNS: Final = (*REQUIRED, "unknown", *SIZE)
RASTERS: Final = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_WHOLE: Final = re.compile(r"[+-]?\d+([.,]0+)?")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2}[.,]000")
_LISTED: Final = 50

Record = dict[str, str]
Forms = Mapping[str, Sequence[str]]
"""Areas by their names as they may be written."""


def write_tags(path: Path, rows: Iterable[TagWindow], classes: ClassScheme, sizes: Sizes | None = None) -> None:
    """Write a CSV that :func:`read_tags` reads back.

    Args:
        classes: the scheme of the names, which ``class_lists.join_names`` joins by blanks, or by semicolons.
        sizes: of the rasters whose px the windows count. Where given they stand in ``area_height`` and ``area_width``,
            and tags cannot be mistaken for those of a raster of another size.
    """
    names = classes.names
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS if sizes is not None else COLUMNS[: -len(SIZE)])
        for row in rows:
            lists = join_names(row.present, names), join_names(row.unknown, names)
            writer.writerow([row.area, *row.window, *lists, *(sizes[row.area] if sizes is not None else ())])


def read_tags(
    path: Path | str, classes: ClassScheme | Path | str, areas: Sizes | Path | str | None = None
) -> list[TagWindow]:
    """Read a tag CSV, in file order: ``area,row,column,height,width,tags`` and, if there, ``unknown`` and raster sizes.

    ``tags`` and ``unknown`` hold class names (``class_lists.split_names``). Both empty: the window carries no tag
    (count the rows with ``not row.tagged`` and report them). ``tags`` empty but not ``unknown``: the other classes are
    absent. The background of a scheme stands in ``tags`` where there is no object, and may stand beside one. Commas,
    semicolons or tabs separate the cells; the names of the columns may stand in any order and in capital letters;
    further columns are left alone, and so is a first one without a name, as pandas writes its index. Rows without any
    content are no rows. An area may be named by its file; whole numbers may end in ``.0``.

    Args:
        path: the table.
        classes: a scheme, the path of a classes.yaml, or the name of one that weakseg has, e.g. ``isprs``.
        areas: the folder of the images, named like the areas; or height and width in px of each known area. None: the
            folder ``images`` beside the table's own, as in a workspace (data/tags/tags.csv and data/images).

    Raises:
        DataError: no image in that folder; or one error that lists every problem with its line: missing, repeated or
            misspelt column, unknown or repeated class, class both present and unknown, unknown area, a number that is
            none, window outside its area, tags of a raster of another size, repeated window, and whatever may mean two
            things.
    """
    path, problems = Path(path), list[str]()
    classes = classes if isinstance(classes, ClassScheme) else find_classes(str(classes))
    areas = areas if isinstance(areas, Mapping) else _sizes_in(path, areas)
    forms = _area_forms(areas)
    parsed = [
        _parse(f"line {line}", record, classes, (areas, forms), problems) for line, record in _records(path, classes)
    ]
    rows = [row for row in parsed if row is not None]
    repeats = Counter((row.area, row.window) for row in rows)
    problems += [f"area {area}: window {window} {n} times" for (area, window), n in repeats.items() if n > 1]
    if problems:
        rest = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise DataError(
            f"{path}: {len(problems)} problem{'s' * (len(problems) > 1)}: {', '.join(problems[:_LISTED])}{rest}",
            expected=f"windows inside known areas, once each, with classes from {', '.join(classes.names)}",
            cure="mend the lines",
        )
    return rows


def _sizes_in(table: Path, folder: Path | str | None) -> Sizes:
    images = table.parent.parent / "images" if folder is None else Path(folder)
    sizes = raster_sizes(images)
    if not sizes:
        raise DataError(
            f"no image in {images}",
            expected=f"the rasters ({', '.join(RASTERS)}) whose pixels {table.name} counts",
            cure="name their folder as `areas`",
        )
    return sizes


def check_kept_tags(path: Path, before: Sizes, after: Sizes) -> None:
    """Refuse (DataError) to keep a tag CSV where an area's raster is replaced by one of another size, px."""
    changed = [area for area in before if area in after and before[area] != after[area]]
    if not path.is_file() or not changed:
        return
    (old_height, old_width), (height, width) = before[changed[0]], after[changed[0]]
    raise DataError(
        f"{path} counts pixels of rasters that this import replaces by others of another size: {len(changed)} area(s), "
        f"first {changed[0]}, {old_height}x{old_width} px before and {height}x{width} px now",
        expected="tags of the rasters that are imported",
        cure="delete the file, or move it away, then import, and write the tags of the new rasters",
    )


def further_columns(path: Path) -> list[str]:
    """Names of the columns of a tag CSV that are the user's own, in small letters."""
    text = path.read_bytes().decode("utf-8-sig")
    return [name for name in _header(path, text)[0] if name and name not in COLUMNS]


def raster_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Height and width of every raster in a folder by area, px; nothing where there is no such folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.casefold() in RASTERS) if folder.is_dir() else []
    infos = {path.stem: read_info(path) for path in paths}
    return {area: (info.height, info.width) for area, info in infos.items()}


def _records(path: Path, classes: ClassScheme) -> list[tuple[int, Record]]:
    """(line number, stripped cells by column name) of each row with content."""
    if not path.is_file():
        raise DataError(
            f"no file {path}",
            expected="a CSV of tags",
            cure="run `weakseg tag` and then `weakseg tag --merge`, or `weakseg data tags`, or name the file",
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
        columns, delimiter, skipped = _header(path, text)
        check_further(path, columns, COLUMNS, classes)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is unreadable ({error})", expected="a CSV in UTF-8", cure="save it again") from error
    return [(line, _record(columns, cells)) for line, cells in rows[1 + skipped :] if any(cells)]


def _record(columns: Sequence[str], cells: Sequence[str]) -> Record:
    """Cells by column name, missing ones empty; ``further`` is not empty where a cell belongs to no column.

    Cells of columns without a name belong to none; but those of a first one may be the index of pandas. ``lacking``
    names the columns that a row has to have and that it ends before, as the last line of a cut file does.
    """
    record = dict.fromkeys(COLUMNS, "") | dict(zip(columns, cells, strict=False))
    nameless = [cell for name, cell in zip(columns[1:], cells[1:], strict=False) if not name]
    lacking = " ".join(name for name in columns[len(cells) :] if name in REQUIRED)
    return record | {"further": "".join([*nameless, *("surplus" for _ in cells[len(columns) :])]), "lacking": lacking}


def _header(path: Path, text: str) -> tuple[list[str], str, int]:
    """Column names in small letters, the delimiter of the cells, and lines before them."""
    columns, delimiter, skipped = read_header(text, COLUMNS)
    missing = [name for name in REQUIRED if name not in columns]
    twice = [f"{name} twice" for name in COLUMNS if columns.count(name) > 1]
    strange = misspelt(columns, COLUMNS, COLUMNS[len(REQUIRED) :])
    half = [name for name in SIZE if name not in columns] if any(name in columns for name in SIZE) else []
    if missing or half:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing + half)}",
            expected=",".join(COLUMNS[: -len(SIZE)]),
            cure="add a header line with these names",
        )
    if twice or strange:
        raise DataError(
            f"{path} has the columns {', '.join([*twice, *strange])}",
            expected=f"{','.join(COLUMNS)} once each, others under names of their own",
            cure="rename the columns",
        )
    return columns, delimiter, skipped


def _parse(
    place: str, record: Record, classes: ClassScheme, known: tuple[Sizes, Forms], problems: list[str]
) -> TagWindow | None:
    """One row, or None after noting its problems; ``known``: the areas, and these by their forms."""
    mine: list[str] = []
    areas = known[0]
    area = _area(record["area"], known[1], mine, hint=len(problems) < _LISTED)
    window = _numbers(WINDOW, record, mine)
    size = _numbers(SIZE, record, mine) if any(record[name] for name in SIZE) else None
    if area is not None and window is not None:
        mine += _misplaced(area, window, size, areas[area])
    present, unknown = (_names(record[column], classes, mine) for column in ("tags", "unknown"))
    if classes.background in unknown:
        mine.append(f"{classes.background}, the background, among the unknown: no tag speaks of it")
    mine += [f"class {name!r} 2 times, in tags and in unknown" for name in present if name in unknown]
    if record["further"]:
        mine.append("more cells than columns")
    if record["lacking"] and not mine:  # else one of them is said to be none already
        mine.append(f"fewer cells than columns: no {record['lacking']}")
    problems += [f"{place}: {problem}" for problem in mine]
    if mine or area is None or window is None:
        return None
    row, column, height, width = window
    return TagWindow(area, row, column, height, width, present, unknown)


def _area_forms(areas: Sizes) -> Forms:
    """Areas by their names with composed letters: of 100,000 rows each looks its own up."""
    forms: dict[str, list[str]] = {}
    for area in areas:
        forms.setdefault(unicodedata.normalize("NFC", area), []).append(area)
    return forms


def _area(text: str, areas: Forms, problems: list[str], *, hint: bool) -> str | None:
    """The area that is named so, or whose file is; None after noting why there is none, with a ``hint`` if asked."""
    file = PurePosixPath(text.replace("\\", "/"))
    stem = file.stem if file.suffix.casefold() in RASTERS else file.name
    forms = dict.fromkeys(unicodedata.normalize("NFC", form) for form in (text, stem, area_name(stem), bare_name(stem)))
    found = sorted({area for form in forms for area in areas.get(form, ())})
    if text in found and text == file.name and file.suffix.casefold() not in RASTERS:
        found = [text]
    if len(found) == 1:
        return found[0]
    if found:
        problems.append(f"area {text!r} may mean {' or '.join(found)}")
    else:
        names = [area for mine in areas.values() for area in mine] if hint else []
        listed = f" (of {', '.join(names[:5])}{', ...' * (len(names) > 5)})" if names else ""
        choices = did_you_mean(text, names) or listed
        problems.append(f"unknown area {text!r}{choices}")
    return None


def _numbers(columns: Sequence[str], record: Record, problems: list[str]) -> list[int] | None:
    """Whole numbers, or None after noting what is none."""
    cells = [record[name] for name in columns]
    if not all(_WHOLE.fullmatch(cell) for cell in cells):
        found = " ".join(map(repr, cells))
        problems.append(f"{', '.join(columns[:-1])} and {columns[-1]} must be whole numbers, not {found}")
        return None
    unclear = [cell for cell in cells if _THOUSANDS.fullmatch(cell)]
    if unclear:
        whole = re.split("[.,]", unclear[0])[0]
        problems.append(f"{unclear[0]!r} may mean {whole} or {whole}000")
        return None
    return [int(re.split("[.,]", cell)[0]) for cell in cells]


def _misplaced(area: str, window: Sequence[int], size: Sequence[int] | None, raster: tuple[int, int]) -> list[str]:
    """Why a window cannot be one of a raster of that size."""
    if size is not None and tuple(size) != raster:
        return [f"tags of a raster of {size[0]}x{size[1]} px, {area} has {raster[0]}x{raster[1]} px"]
    try:
        row, column, height, width = window
        check_inside((row, column, height, width), *raster)
    except DataError as error:
        return [f"{error.found} is not {error.expected}"]
    return []


def _names(text: str, classes: ClassScheme, problems: list[str]) -> tuple[str, ...]:
    """Class names in scheme order; none after noting what is wrong."""
    if text not in classes.names and text.casefold() in EMPTY:
        return ()
    try:
        return tuple(sorted(split_names(text, classes.names), key=classes.names.index))
    except DataError as error:
        problems.append(error.found)
        return ()
