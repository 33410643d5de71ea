"""Boxes of COCO JSON as CVAT, Label Studio and Roboflow export it, and as weakseg writes it.

Its pixels are those of the image that it names; its categories are the classes that every image was searched for, but
for an image's ``not_exhaustive_category_ids`` (LVIS).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weakseg.core.area_names import area_name, bare_name
from weakseg.core.class_names import did_you_mean
from weakseg.core.errors import DataError
from weakseg.labels.box_reading import BoxReading, read_flag, shorten
from weakseg.labels.box_table import Box, BoxTable, fit_window
from weakseg.labels.coco_shapes import Edges, is_finite, outline_edges, turned_edges
from weakseg.labels.picture_names import earlier_names

SLACK: Final = 1.0  # px by which a box may leave its raster or an outline its box: rounding of annotation programs
Rows = list[dict[str, Any]]


@dataclass
class _Places:
    """What ids of a file mean: images are areas, categories are classes (None: left out)."""

    images: dict[str, str] = field(default_factory=dict)
    categories: dict[str, str | None] = field(default_factory=dict)
    complete: bool = True  # False: some are wrong, so annotations need not repeat it


def read_coco(file: Path, content: dict[str, Any], reading: BoxReading) -> BoxTable:
    """Boxes of a COCO file; problems and notices are added to ``reading``."""
    before = len(reading.problems)
    rows = {key: _rows(file, content, key, reading) for key in ("images", "annotations", "categories")}
    places = _Places(categories=_categories(file, rows["categories"], rows["annotations"], reading))
    searched: dict[str, tuple[str, ...]] = {}
    for number, image in enumerate(rows["images"]):
        _read_image(f"{file}: image {number}", image, places, searched, reading)
    places.complete = len(reading.problems) == before
    boxes = _boxes(file, rows["annotations"], places, reading)
    return BoxTable(tuple(boxes), searched)


def _boxes(file: Path, rows: Rows, places: _Places, reading: BoxReading) -> list[Box]:
    """The boxes of the annotations, less those whose category is left out."""
    boxes, crowds = [], 0
    for number, row in enumerate(rows):
        image, category = str(id_text(row.get("image_id"))), str(id_text(row.get("category_id")))
        area, name = places.images.get(image), places.categories.get(category)
        if category in places.categories and name is None:
            continue
        if area is None or name is None:
            if places.complete:
                text = f"image {row.get('image_id')} or category {row.get('category_id')} is not listed"
                reading.problems.append(f"{file}: annotation {number}: {text}")
            continue
        try:
            boxes.append(_read_annotation(row, area, name, reading))
        except DataError as error:
            reading.problems.append(f"{file}: annotation {number}: {error}")
            continue
        crowds += boxes[-1].crowd
    if crowds and not reading.single_objects:
        reading.notices.append(
            f"{file}: {crowds} annotation(s) with iscrowd or ignore are read as regions that may hold their class, "
            "no objects; if each with iscrowd is one object (masks of CVAT and Label Studio), say --single-objects"
        )
    return boxes


def _rows(file: Path, content: dict[str, Any], key: str, reading: BoxReading) -> Rows:
    rows = content[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        reading.problems.append(f"{file}: {key} is not a list of objects")
        return []
    return rows


def id_text(value: Any) -> str | None:
    """An id as a text: 7, 7.0 and "7" are the same; None where it is none.

    >>> id_text(7), id_text("7"), id_text(None)
    ('7', '7', None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


# ---- categories -----------------------------------------------------------------------------------------------------


def _categories(file: Path, rows: Rows, annotations: Rows, reading: BoxReading) -> dict[str, str | None]:
    """Class by category id; None for those that are left out: asked for, or the unused root of a tree (Roboflow)."""
    if not all(id_text(row.get("id")) is not None and isinstance(row.get("name"), str) for row in rows):
        reading.problems.append(f"{file}: categories is not a list of objects with id and name")
        return {}
    uses = Counter(id_text(row.get("category_id")) for row in annotations)
    found: dict[str, str | None] = {}
    unknown: list[str] = []
    for row in rows:
        key, name = str(id_text(row["id"])), row["name"]
        if key in found:
            reading.problems.append(f"{file}: categories: id {key} twice")
        if name in reading.skip_classes:
            reading.left_out[name] += uses[key]
            found[key] = None
        elif not uses[key] and _is_root(row, rows):
            reading.notices.append(f"{file}: category {name!r}, above others and without annotations, skipped")
            found[key] = None
        elif name in reading.scheme.names:
            found[key] = name
        else:
            unknown.append(name)
    if unknown:
        reading.refuse(
            f"{file}: categories {', '.join(name + did_you_mean(name, reading.scheme.names) for name in unknown)}",
            expected=f"classes of {', '.join(reading.scheme.names)}",
            cure=f"rename them, or leave them and their annotations out (--skip-classes {','.join(unknown)})",
        )
    return found


def _is_root(row: dict[str, Any], rows: Rows) -> bool:
    return any(other is not row and other.get("supercategory") == row["name"] for other in rows)


# ---- images ---------------------------------------------------------------------------------------------------------


def _read_image(
    place: str, image: dict[str, Any], places: _Places, searched: dict[str, tuple[str, ...]], reading: BoxReading
) -> None:
    """Add an image to ``places`` and ``searched``, or a problem."""
    name, key = image.get("file_name"), id_text(image.get("id"))
    if not isinstance(name, str) or key is None:
        reading.problems.append(f"{place}: no id or file_name")
        return
    try:
        area = _image_area(name, image, reading)
    except DataError as error:
        reading.problems.append(f"{place}: {error}")
        return
    _check_size(place, name, area, image, reading)
    if area in searched or key in places.images:
        reading.refuse(
            f"{place}: area {area} or id {key} twice",
            expected="one",
            cure="export without augmented copies, or remove one",
        )
    places.images[key] = area
    partly = image.get("not_exhaustive_category_ids") or []
    if not isinstance(partly, list):
        reading.problems.append(f"{place}: not_exhaustive_category_ids is no list")
        return
    apart = {places.categories.get(str(id_text(number))) for number in partly}
    names = dict.fromkeys(name for name in places.categories.values() if name is not None and name not in apart)
    searched[area] = tuple(names)


def _image_area(name: str, image: dict[str, Any], reading: BoxReading) -> str:
    """The area of an image: its own name if there is such a raster, else the name that it had before its upload."""
    own = Path(name.replace("\\", "/")).stem
    for stem in (own, area_name(own), bare_name(own)):
        area = reading.find_area(stem)
        if area is not None:
            return area
    extra = image.get("extra")
    stems = [*earlier_names(name)]
    if isinstance(extra, dict) and isinstance(extra.get("name"), str):
        stems += [Path(extra["name"]).stem, extra["name"], *earlier_names(extra["name"])]
    parts = [(stem, part) for stem in stems for part in (stem, area_name(stem), bare_name(stem))]
    found = {area: stem for stem, part in parts if (area := reading.find_area(part))}
    if len(found) > 1:
        raise DataError(f"{name} is {' or '.join(found)}", expected="one image", cure="write file_name as it was")
    if not found:
        raise DataError(
            f"{name} is no image of data/images",
            expected=f"one of {shorten(reading.areas)}",
            cure="import it, rename it, or remove it from the file",
        )
    return next(iter(found))


def _check_size(place: str, name: str, area: str, image: dict[str, Any], reading: BoxReading) -> None:
    size, given = reading.size(area), (image.get("height"), image.get("width"))
    if given != (None, None) and (id_text(given[0]), id_text(given[1])) != (str(size[0]), str(size[1])):
        reading.refuse(
            f"{place}: {name} of {given[0]}x{given[1]} px, its raster has {size[0]}x{size[1]} (height x width)",
            expected="the same size",
            cure="export at the original size (Roboflow: without Resize), or import the images that were annotated",
        )


# ---- annotations ----------------------------------------------------------------------------------------------------


def _read_annotation(row: dict[str, Any], area: str, name: str, reading: BoxReading) -> Box:
    flags = [read_flag(row.get(key)) for key in ("iscrowd", "ignore")]
    if None in flags:
        raise DataError(f"iscrowd {row.get('iscrowd')!r}", expected="0 or 1", cure="export it again")
    window = fit_window(_edges_of(row, reading.size(area)), reading.size(area), slack=SLACK)
    if isinstance(window, str):
        raise DataError(window, expected="[x, y, width, height] in px of the raster", cure=_cure(row))
    return Box(area, *window, name, bool((flags[0] and not reading.single_objects) or flags[1]))


def _cure(row: Mapping[str, Any]) -> str:
    return "write width and height, not the second corner" if row.get("bbox") else "draw it inside the image"


def _edges_of(row: dict[str, Any], size: tuple[int, int]) -> Edges:
    """Left, upper, right and lower edge, px, from ``bbox``, and from ``segmentation`` where there is none.

    Where both are there they must agree: a bbox of corners or of fractions, which nothing else tells, does not.
    """
    outline, numbers = outline_edges(row.get("segmentation"), size), row.get("bbox")
    if not numbers and outline is not None:
        return outline
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(is_finite(number) for number in numbers):
        raise DataError(
            f"bbox {numbers} is not four numbers [x, y, width, height]",
            expected="them, or a segmentation",
            cure="export it again",
        )
    x, y, width, height = (float(number) for number in numbers)
    if 0 <= x <= 1 and 0 <= y <= 1 and 0 < width < 1 and 0 < height < 1:
        raise DataError(f"bbox {numbers}, fractions of the image", expected="px", cure="multiply by width and height")
    edges = x, y, x + width, y + height
    attributes = row.get("attributes")
    turn = attributes.get("rotation") if isinstance(attributes, dict) else None
    if is_finite(turn) and turn and outline is None:  # CVAT keeps the box before the turn
        left, top, right, bottom = turned_edges(edges, float(turn))
        return max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom)
    if outline is not None and max(edges[0] - outline[0], edges[1] - outline[1]) > SLACK:
        raise _disagree(numbers, outline)
    if outline is not None and max(outline[2] - edges[2], outline[3] - edges[3]) > SLACK:
        raise _disagree(numbers, outline)
    if outline is not None and _loose(edges, outline):
        raise _disagree(numbers, outline)
    return edges


def _loose(edges: Edges, outline: Edges) -> bool:
    """Whether a box is its outline's corners, read as position and size."""
    corners = edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]
    reads = max(abs(a - b) for a, b in zip(corners, outline, strict=True)) <= SLACK
    return reads and max(abs(a - b) for a, b in zip(edges, outline, strict=True)) > SLACK


def _disagree(numbers: list[float], outline: Edges) -> DataError:
    return DataError(
        f"bbox {numbers}, whose segmentation spans x {outline[0]:.1f} to {outline[2]:.1f}, y {outline[1]:.1f} to "
        f"{outline[3]:.1f}",
        expected="[x, y, width, height] in px around it",
        cure="export it again, or remove bbox: it then comes from the segmentation",
    )
