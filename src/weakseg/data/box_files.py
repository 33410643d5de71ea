"""Box files of other programs, checked: COCO JSON and GeoJSON; all problems come in one report.

COCO JSON counts pixels of the image that it names; its categories are the classes that every image was searched for,
but for an image's ``not_exhaustive_category_ids`` (LVIS). GeoJSON lies on the ground: without a ``crs`` member its
coordinates are longitude and latitude (RFC 7946), with one (the older GeoJSON of GIS programs) they are of that system;
an area whose raster names no CRS takes them as its own map units, or as pixels (x right, y down) where it has no place.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from weakseg.classes import ClassScheme
from weakseg.data.boxes import Box, BoxTable, fit_window, write_boxes
from weakseg.data.geojson import read_features
from weakseg.data.importing import ImportProblems
from weakseg.data.pairing import area_name
from weakseg.data.raster import RasterInfo
from weakseg.errors import DataError

SLACK: Final = 1.0  # px by which a box may leave its raster: rounding of annotation programs
_LISTED: Final = 200
Problems = list[str]


def import_boxes(
    sources: Sequence[Path],
    target: Path,
    scheme: ClassScheme,
    areas: Mapping[str, RasterInfo],
    *,
    replace: bool = False,
) -> BoxTable:
    """Check box files and write them as one COCO JSON, or report every problem and write nothing.

    Args:
        sources: COCO JSON or GeoJSON files, or folders of them (``*.json``, ``*.geojson``).
        target: usually data/boxes/boxes.json.
        scheme: the classes that boxes may name.
        areas: header of every raster that boxes may lie in.
        replace: give up the boxes that are there.

    Raises:
        ImportProblems: anything wrong with the sources, a line each.
        DataError: ``target`` exists and ``replace`` is off.
    """
    if target.exists() and not replace:
        raise DataError(f"{target} is there", expected="no boxes yet", cure="say --replace, or keep them")
    problems: Problems = []
    files = [file for source in sources for file in _files(source, problems)]
    tables = [_read(file, scheme, areas, problems) for file in files]
    named = {name for table in tables for names in table.searched.values() for name in names}
    order = tuple(name for name in scheme.names if name in named)
    boxes = tuple(box for table in tables for box in table.boxes)
    searched: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for area, names in table.searched.items():
            searched[area] = tuple(n for n in order if n in {*searched.get(area, ()), *names})
    repeats = Counter((box.area, box.window, box.name) for box in boxes)
    problems += [f"area {a}: box {w} of {n} {count} times" for (a, w, n), count in repeats.items() if count > 1]
    if files and not problems and not boxes and not searched:
        problems.append(str(DataError("no box", expected="one at least", cure="name files that hold boxes")))
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ImportProblems([*problems[:_LISTED], *more])
    found = BoxTable(boxes, searched)
    write_boxes(target, found, scheme, {area: (info.height, info.width) for area, info in areas.items()})
    return found


def read_boxes(path: Path, scheme: ClassScheme, sizes: Mapping[str, tuple[int, int]]) -> BoxTable:
    """Read a COCO JSON that weakseg has written; ``sizes``: height and width of each area, px.

    Raises DataError with the first problems where the file has been changed by hand and is wrong now.
    """
    problems: Problems = []
    areas = {area: RasterInfo(height, width, 3, "uint8") for area, (height, width) in sizes.items()}
    if not path.is_file():
        raise DataError(
            f"no file {path}", expected="boxes", cure="run `weakseg data boxes`, or set boxes.source: masks"
        )
    table = _read(path, scheme, areas, problems)
    if problems:
        raise DataError(
            f"{path}: {len(problems)} problem(s), first {problems[0]}",
            expected="boxes as `weakseg data boxes` writes them",
            cure="import them again",
        )
    return table


def _files(source: Path, problems: Problems) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(p for p in source.glob("*") if p.suffix.lower() in (".json", ".geojson")) if source.is_dir() else []
    if not found:
        problems.append(str(DataError(f"{source}: no box file", expected=".json or .geojson", cure="mend the path")))
    return found


def _read(file: Path, scheme: ClassScheme, areas: Mapping[str, RasterInfo], problems: Problems) -> BoxTable:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        problems.append(str(DataError(f"{file}: not JSON ({error})", expected="JSON in UTF-8", cure="export it again")))
        return BoxTable()
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return read_features(file, content, scheme, areas, problems)
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content):
        return _read_coco(file, content, scheme, areas, problems)
    wanted = "a GeoJSON FeatureCollection, or COCO with images, annotations and categories"
    problems.append(str(DataError(f"{file}: neither GeoJSON nor COCO", expected=wanted, cure="export it again")))
    return BoxTable()


def _read_coco(
    file: Path, content: dict[str, Any], scheme: ClassScheme, areas: Mapping[str, RasterInfo], problems: Problems
) -> BoxTable:
    before = len(problems)
    names = _categories(file, content["categories"], scheme, problems)
    places: dict[Any, str] = {}
    searched: dict[str, tuple[str, ...]] = {}
    for number, image in enumerate(_rows(file, content, "images", problems)):
        area = _image_area(f"{file}: image {number}", image, areas, problems)
        if area is None:
            continue
        if area in searched or image["id"] in places:
            problems.append(f"{file}: image {number}: area {area} or id {image['id']} twice")
        places[image["id"]] = area
        partly = image.get("not_exhaustive_category_ids") or []
        if not isinstance(partly, list):
            problems.append(f"{file}: image {number}: not_exhaustive_category_ids is no list")
            continue
        searched[area] = tuple(name for key, name in names.items() if key not in partly)
    boxes = []
    complained = len(problems) > before  # images or categories are wrong: annotations need not repeat it
    for number, row in enumerate(_rows(file, content, "annotations", problems)):
        box = _coco_box(f"{file}: annotation {number}", row, places, names, areas, complained, problems)
        boxes += [box] if box is not None else []
    return BoxTable(tuple(boxes), searched)


def _rows(file: Path, content: dict[str, Any], key: str, problems: Problems) -> list[dict[str, Any]]:
    rows = content[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        problems.append(f"{file}: {key} is not a list of objects")
        return []
    return rows


def _categories(file: Path, rows: Any, scheme: ClassScheme, problems: Problems) -> dict[Any, str]:
    """Class name by category id."""
    if not isinstance(rows, list) or not all(isinstance(r, dict) and {"id", "name"} <= set(r) for r in rows):
        problems.append(f"{file}: categories is not a list of objects with id and name")
        return {}
    unknown = [str(row["name"]) for row in rows if row["name"] not in scheme.names]
    if unknown:
        known = DataError(
            f"{file}: categories {', '.join(unknown)}",
            expected=f"classes of {', '.join(scheme.names)}",
            cure="rename or remove them",
        )
        problems.append(str(known))
    return {_key(row["id"]): row["name"] for row in rows if row["name"] in scheme.names}


def _key(value: Any) -> Any:
    return value if isinstance(value, int | str) else repr(value)


def _image_area(place: str, image: dict[str, Any], areas: Mapping[str, RasterInfo], problems: Problems) -> str | None:
    name = image.get("file_name")
    if not isinstance(name, str) or not isinstance(image.get("id"), int | str):
        problems.append(f"{place}: no id or file_name")
        return None
    stem = Path(name.replace("\\", "/")).stem
    area = stem if stem in areas else area_name(stem)
    if area not in areas:
        problems.append(f"{place}: {name} is no image of data/images")
        return None
    size, given = (areas[area].height, areas[area].width), (image.get("height"), image.get("width"))
    if given != (None, None) and given != size:
        problems.append(f"{place}: {name} of {given[0]}x{given[1]} px, its raster has {size[0]}x{size[1]}")
    return area


def _coco_box(
    place: str,
    row: dict[str, Any],
    places: Mapping[Any, str],
    names: Mapping[Any, str],
    areas: Mapping[str, RasterInfo],
    complained: bool,
    problems: Problems,
) -> Box | None:
    image, category = _key(row.get("image_id")), _key(row.get("category_id"))
    if image not in places or category not in names:
        if not complained:
            problems.append(f"{place}: image {image} or category {category} is not listed")
        return None
    numbers = row.get("bbox")
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(_finite(n) for n in numbers):
        problems.append(f"{place}: bbox {numbers} is not four numbers [x, y, width, height]")
        return None
    x, y, width, height = (float(n) for n in numbers)
    area = places[image]
    info = areas[area]
    window = fit_window((x, y, x + width, y + height), (info.height, info.width), slack=SLACK)
    if isinstance(window, str):
        problems.append(f"{place}: {window}")
        return None
    return Box(area, *window, names[category], bool(row.get("iscrowd", 0)))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
