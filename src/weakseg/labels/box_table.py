"""Bounding boxes: each is filled somewhere by one class; from masks, as class constraints, as COCO JSON.

A box says that its class occurs in it. Where every object of a class has its box (an area was *searched* for it), the
class is absent outside all its boxes: that is a constraint on pixels, like an absent tag.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from weakseg.core.class_sets import EVERY_CLASS, Allowed, SetTable, intersect
from weakseg.core.classes import ClassScheme, Mask
from weakseg.core.files import atomic_path
from weakseg.labels.tags import Window

ROUNDING: Final = 1e-3  # px that projections and decimals may be off: an edge so near a pixel's rim lies on it


@dataclass(frozen=True)
class Box:
    """One rectangle of an area.

    Attributes:
        area: name of the area.
        row, column, height, width: px, row 0 and column 0 at the upper left.
        name: the class.
        crowd: the class may be anywhere in the rectangle or nowhere (COCO's ``iscrowd``): it keeps the class possible
            there and is evidence of nothing.
    """

    area: str
    row: int
    column: int
    height: int
    width: int
    name: str
    crowd: bool = False

    @property
    def window(self) -> Window:
        """(row, column, height, width)."""
        return self.row, self.column, self.height, self.width


@dataclass(frozen=True)
class BoxTable:
    """Boxes of some areas.

    Attributes:
        boxes: of all areas.
        searched: area -> classes of which every object in it has a box or lies in a crowd region. An area that was
            searched and holds nothing is named here and has no box.
    """

    boxes: tuple[Box, ...] = ()
    searched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, area: str) -> tuple[Box, ...]:
        """The boxes of one area."""
        return self._by_area.get(area, ())

    @cached_property
    def _by_area(self) -> dict[str, tuple[Box, ...]]:
        """Of 100,000 areas each is asked for its own."""
        found: dict[str, list[Box]] = {}
        for box in self.boxes:
            found.setdefault(box.area, []).append(box)
        return {area: tuple(mine) for area, mine in found.items()}

    def count(self, areas: Iterable[str] | None = None) -> int:
        """Boxes that somebody has drawn: crowd regions do not count."""
        chosen = None if areas is None else set(areas)
        return sum(not box.crowd and (chosen is None or box.area in chosen) for box in self.boxes)

    def select(self, areas: Iterable[str], classes: Iterable[str]) -> BoxTable:
        """The part of the table that is about these areas and classes."""
        asked, names = dict.fromkeys(areas), set(classes)
        boxes = self.of(*asked) if len(asked) == 1 else tuple(box for box in self.boxes if box.area in asked)
        return BoxTable(
            tuple(box for box in boxes if box.name in names),
            {a: tuple(n for n in self.searched[a] if n in names) for a in asked if a in self.searched},
        )


def join_boxes(tables: Iterable[BoxTable]) -> BoxTable:
    """One table of several; an area comes from one of them."""
    parts = list(tables)
    searched = {area: names for part in parts for area, names in part.searched.items()}
    return BoxTable(tuple(box for part in parts for box in part.boxes), searched)


def boxes_from_mask(
    area: str, mask: Mask, scheme: ClassScheme, classes: Sequence[str], *, min_pixels: int = 1
) -> BoxTable:
    """The boxes that a mask implies: one around each connected component (8 neighbours) of the classes.

    Touching objects share a box, as they would not for an annotator. Components below ``min_pixels`` become crowd
    regions: nobody draws a box around a speck, yet the class must not be called absent there.

    Args:
        area: name of the area.
        mask: uint8 (H, W), 255 = ignore. One without a labelled pixel says nothing: an empty table.
        scheme: the classes of the mask.
        classes: names to draw boxes for; an unknown one raises DataError.
        min_pixels: px.
    """
    indices = [scheme.index(name) for name in classes]
    if not (mask < len(scheme)).any():
        return BoxTable()
    boxes = []
    for name, index in zip(classes, indices, strict=True):
        plane = (np.asarray(mask) == index).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        for left, top, width, height, pixels in stats[1:].tolist():  # row 0 is everything else
            boxes.append(Box(area, top, left, height, width, name, pixels < min_pixels))
    return BoxTable(tuple(boxes), {area: tuple(classes)})


def allowed_by_boxes(
    height: int, width: int, boxes: Sequence[Box], complete: Sequence[str], scheme: ClassScheme
) -> Allowed:
    """What the boxes let occur at each of height x width px.

    A class in ``complete`` may occur inside the boxes and crowd regions of that class and nowhere else; all others may
    everywhere.
    """
    allowed = Allowed.everywhere(height, width, len(scheme))
    for name in complete:
        inside = np.full((height, width), 1, np.int32)
        for box in boxes:
            if box.name == name:
                inside[box.row : box.row + box.height, box.column : box.column + box.width] = 0
        others = np.arange(len(scheme)) != scheme.index(name)
        table = SetTable(len(scheme), [others])
        renumber = np.array([EVERY_CLASS, table.number(others)], np.int32)
        allowed = intersect(allowed, Allowed(renumber[inside], table.sets))
    return allowed


def fit_window(edges: tuple[float, float, float, float], size: tuple[int, int], *, slack: float) -> Window | str:
    """Left, upper, right and lower edge in px -> the whole pixels of the raster that they touch, or what is wrong.

    Args:
        edges: in px of the raster, 0 at its left and upper rim.
        size: height and width of the raster, px.
        slack: px by which the box may leave the raster; what lies outside is cut off.
    """
    left, top, right, bottom = edges
    height, width = size
    text = f"box x {left:.1f} to {right:.1f}, y {top:.1f} to {bottom:.1f}"
    if not all(math.isfinite(edge) for edge in edges) or right <= left or bottom <= top:
        return f"{text} has no width or height"
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return f"{text} lies outside its raster of {width}x{height} px"
    if left < -slack or top < -slack or right > width + slack or bottom > height + slack:
        return f"{text} leaves its raster of {width}x{height} px"
    first = min(width - 1, math.floor(max(0.0, left) + ROUNDING))
    upper = min(height - 1, math.floor(max(0.0, top) + ROUNDING))
    last, lower = math.ceil(min(float(width), right) - ROUNDING), math.ceil(min(float(height), bottom) - ROUNDING)
    return upper, first, max(1, lower - upper), max(1, last - first)


def scale_boxes(table: BoxTable, scale: float, sizes: Mapping[str, tuple[int, int]]) -> BoxTable:
    """Boxes in px of the raw rasters -> px of the resampled ones; never smaller than what they enclose.

    Args:
        scale: of the resampling, 0.5 halves the side.
        sizes: height and width of each raw raster, px.
    """
    return BoxTable(tuple(_scale(box, scale, sizes[box.area]) for box in table.boxes), table.searched)


def _scale(box: Box, scale: float, size: tuple[int, int]) -> Box:
    limits = [max(1, round(length * scale)) for length in size]
    top, bottom = _span(box.row, box.row + box.height, scale, limits[0])
    left, right = _span(box.column, box.column + box.width, scale, limits[1])
    return replace(box, row=top, column=left, height=bottom - top, width=right - left)


def _span(start: int, stop: int, scale: float, limit: int) -> tuple[int, int]:
    first = min(limit - 1, math.floor(start * scale + 1e-6))
    return first, max(first + 1, min(limit, math.ceil(stop * scale - 1e-6)))


def check_kept_boxes(path: Path, sizes: Mapping[str, tuple[int, int]]) -> str:
    """A sentence where boxes that stay count pixels of areas whose rasters now have other sizes, else "".

    Args:
        path: a COCO JSON of :func:`write_boxes`. sizes: height and width of the new rasters by area, px.
    """
    if not path.is_file():
        return ""
    cure = "import the boxes of the new rasters with `weakseg data boxes --replace`"
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        before = {Path(row["file_name"]).stem: (row["height"], row["width"]) for row in images}
    except (ValueError, KeyError, TypeError):
        return f"{path} holds no boxes as weakseg writes them; {cure}"
    changed = [area for area in before if area in sizes and sizes[area] != before[area]]
    if not changed:
        return ""
    area = changed[0]
    (tall, wide), (height, width) = before[area], sizes[area]
    return (
        f"{path} counts pixels of rasters of another size: {len(changed)} area(s), first {area}, {tall}x{wide} px "
        f"before and {height}x{width} px now; {cure}"
    )


def write_boxes(path: Path, table: BoxTable, scheme: ClassScheme, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Write the table as COCO JSON, whole or not at all; equal tables give equal bytes.

    ``images`` are the searched areas and those with boxes; ``categories`` the classes of the table;
    ``not_exhaustive_category_ids`` of an image (a field of the LVIS format) the categories it was not searched for.

    Args:
        sizes: height and width of each area, px.
    """
    used = {box.name for box in table.boxes}.union(*table.searched.values())
    numbers = {name: index + 1 for index, name in enumerate(n for n in scheme.names if n in used)}
    areas = sorted({box.area for box in table.boxes} | set(table.searched))
    images = [_image(number, area, sizes[area], numbers, table) for number, area in enumerate(areas, 1)]
    places = {area: number for number, area in enumerate(areas, 1)}
    ordered = sorted(table.boxes, key=lambda box: (places[box.area], box.window, box.name))
    content = {
        "images": images,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [_annotation(i, box, places, numbers) for i, box in enumerate(ordered, 1)],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def _image(
    number: int, area: str, size: tuple[int, int], numbers: Mapping[str, int], table: BoxTable
) -> dict[str, Any]:
    unsearched = [n for name, n in numbers.items() if name not in table.searched.get(area, ())]
    return {
        "id": number,
        "file_name": f"{area}.tif",
        "height": size[0],
        "width": size[1],
        "not_exhaustive_category_ids": unsearched,
    }


def _annotation(number: int, box: Box, places: Mapping[str, int], numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": places[box.area],
        "category_id": numbers[box.name],
        "bbox": [box.column, box.row, box.width, box.height],
        "area": box.width * box.height,
        "iscrowd": int(box.crowd),
    }
