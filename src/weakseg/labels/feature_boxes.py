"""From features to boxes: which rasters a polygon lies in, and the upright hull of what lies in each.

Polygons are moved into the CRS of each raster, then into its pixels (rotated and sheared ones included), cut at its
rim, and only then enclosed: a hull is never moved, so that it is no larger than the object and no smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from weakseg.core.class_names import did_you_mean
from weakseg.core.errors import DataError
from weakseg.labels.box_reading import BoxReading, read_flag, shorten
from weakseg.labels.box_table import ROUNDING, Box, BoxTable, fit_window
from weakseg.labels.geojson import Feature, FeatureFile
from weakseg.labels.projection import Shapes, crs_of, project, shapes_in
from weakseg.raster.header import RasterInfo

if TYPE_CHECKING:
    from shapely import Polygon

CLASS_KEYS: Final = ("class", "label", "category", "name")  # properties that may name the class, first match
SLACK: Final = 1.0  # px by which a box in pixels may leave its raster: rounding of annotation programs


@dataclass(frozen=True, eq=False)
class _Object:
    """A polygon with what its feature says.

    Attributes:
        feature: where it comes from.
        shape: valid; in the CRS of the file.
        name: the class.
        crowd: a region, not an object.
        area: the one that the property or the file names, or None.
        stray: a property ``area`` that names no raster.
    """

    feature: Feature
    shape: Polygon
    name: str
    crowd: bool
    area: str | None
    stray: str | None


def place_features(source: FeatureFile, reading: BoxReading) -> BoxTable:
    """Boxes of the features of a file; problems and notices are added to ``reading``.

    Each polygon is one object, with the class in the property ``class``, ``label``, ``category`` or ``name``; ``crowd``
    makes it a crowd region. It lies in the raster that the property ``area`` or the file's name says, or else in every
    raster that it touches, cut at their rims. Searched areas: those with a box, the one the file is named after, and
    the member ``areas``; searched classes: those of the features and of the member ``classes``.
    """
    objects = [found for feature in source.features for found in _objects(feature, source, reading)]
    try:
        boxes = _place(_on_earth(objects, source, reading), source, reading)
    except DataError as error:
        reading.problems.append(f"{source.file}: {error}")
        boxes = []
    more = {"areas": source.areas, "classes": source.classes}
    for key, known in (("areas", set(reading.areas)), ("classes", set(reading.scheme.names))):
        strays = [name for name in more[key] if name not in known]
        reading.problems += [
            f"{source.file}: {key} names {name!r}, which is unknown{did_you_mean(name, sorted(known))}"
            for name in strays
        ]
        more[key] = tuple(name for name in more[key] if name in known)
    own = [area for area in [reading.find_area(source.file.stem)] if area is not None]
    named = {found.name for found in objects} | set(more["classes"])
    classes = tuple(name for name in reading.scheme.names if name in named)
    return BoxTable(tuple(boxes), dict.fromkeys([*own, *more["areas"], *(box.area for box in boxes)], classes))


def _objects(feature: Feature, source: FeatureFile, reading: BoxReading) -> list[_Object]:
    properties = feature.properties
    name = next((properties[key] for key in CLASS_KEYS if key in properties), None)
    if str(name) in reading.skip_classes:
        reading.left_out[str(name)] += 1
        return []
    try:
        if name not in reading.scheme.names:
            raise DataError(
                f"class {name!r}{did_you_mean(str(name), reading.scheme.names) if name else ''}",
                expected=f"a property {CLASS_KEYS[0]} of {', '.join(reading.scheme.names)}",
                cure=f"mend it, or leave the class out (--skip-classes {name})" if name else "name the class",
            )
        crowd = read_flag(properties.get("crowd"))
        if crowd is None:
            raise DataError(f"crowd {properties['crowd']!r}", expected="true or false", cure="mend the property")
        area, stray = _named_area(properties, source, reading)
    except DataError as error:
        reading.problems.append(f"{feature.place}: {error}")
        return []
    return [_Object(feature, part, str(name), crowd, area, stray) for part in feature.parts]


def _named_area(
    properties: Mapping[str, Any], source: FeatureFile, reading: BoxReading
) -> tuple[str | None, str | None]:
    """The area that a feature names, and a text in its property ``area`` that names none.

    A number there is a size (m2) of GIS programs; a text that names nothing (``area=yes`` of OpenStreetMap) is passed
    over where the raster's place decides.
    """
    value, own = properties.get("area"), reading.find_area(source.file.stem)
    if not isinstance(value, str) or (_is_number(value) and reading.find_area(value) is None):
        return own, None
    area = reading.find_area(value)
    if area is not None:
        return area, None
    if own is not None and reading.areas[own].georeferenced:
        return own, value
    if own is not None or not any(info.georeferenced for info in reading.areas.values()):
        raise _unknown_area(value, reading)
    return None, value


def _unknown_area(value: str, reading: BoxReading) -> DataError:
    return DataError(
        f"area {value!r}",
        expected=f"one of {shorten(reading.areas)}, or a place inside a raster that knows where it lies",
        cure="mend the property area, or remove it",
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False


def _on_earth(objects: list[_Object], source: FeatureFile, reading: BoxReading) -> list[_Object]:
    """Objects less those that cannot be where the file says: metres in a file of degrees are a problem each.

    Raises DataError where the file names no CRS, or one that nobody knows, and a raster has one.
    """
    if not objects or not any(info.crs for info in reading.areas.values()):
        return objects
    if source.crs is None:
        raise DataError(
            "no CRS", expected="one, as the rasters have one", cure="set it in the GIS program and export again"
        )
    if not crs_of(source.crs).is_geographic:
        return objects
    wrong = [found for found in objects if not _in_degrees(found, reading)]
    given = f"its CRS, {source.crs}," if source.stated else "GeoJSON that names no crs"
    for found in {found.feature.place: found for found in reversed(wrong)}.values():
        left, bottom, *_ = found.shape.bounds
        reading.refuse(
            f"{found.feature.place}: coordinates ({left:g}, {bottom:g}) "
            f"where {given} counts degrees of longitude and latitude",
            expected="a place on Earth",
            cure='write the CRS that they are of into the file ("crs"), or export it in EPSG:4326',
        )
    return [found for found in objects if _in_degrees(found, reading)] if wrong else objects


def _in_degrees(found: _Object, reading: BoxReading) -> bool:
    if found.area is not None and reading.areas[found.area].crs is None:
        return True  # in map units or pixels of its raster
    left, bottom, right, top = found.shape.bounds
    return bool(max(abs(left), abs(right)) <= 360 and max(abs(bottom), abs(top)) <= 90 + 1e-9)


def _place(objects: list[_Object], source: FeatureFile, reading: BoxReading) -> list[Box]:
    """Boxes of the objects in all rasters; what lies in none is counted, or a problem."""
    from shapely import STRtree

    boxes: list[Box] = []
    settled: set[int] = set()  # objects that have a box, or a problem of their own
    shapes = np.array([found.shape for found in objects], object)
    systems: dict[str | None, tuple[Shapes, STRtree]] = {}
    for area, info in reading.areas.items():
        if not info.georeferenced:
            mine = [index for index, found in enumerate(objects) if found.area == area]
            settled.update(mine)
            boxes += _pixel_boxes(area, [objects[index] for index in mine], reading)
            continue
        if info.crs not in systems:
            moved = project(shapes, source.crs, info.crs)
            systems[info.crs] = moved, STRtree(moved)
        for index, window in _windows_in(info, *systems[info.crs]):
            found = objects[index]
            home = found.area in (None, area)
            (boxes if home else reading.reaching).append(Box(area, *window, found.name, found.crowd or not home))
            settled.update([index] if home else [])
    _report_outside(objects, settled, source, reading)
    fresh = [box for box in dict.fromkeys(boxes) if box not in reading.placed]
    reading.placed.update(fresh)
    if len(fresh) < len(boxes):
        reading.notices.append(f"{source.file}: {len(boxes) - len(fresh)} box(es) of polygons that others have as well")
    return fresh


def _pixel_boxes(area: str, objects: list[_Object], reading: BoxReading) -> list[Box]:
    """Boxes of polygons that are in pixels already, of a raster without a place."""
    boxes = []
    for found in objects:
        window = fit_window(found.shape.bounds, reading.size(area), slack=SLACK)
        if isinstance(window, str):
            reading.problems.append(f"{found.feature.place}: {window}")
        else:
            boxes.append(Box(area, *window, found.name, found.crowd))
    return boxes


def _windows_in(info: RasterInfo, shapes: Shapes, tree: Any) -> list[tuple[int, tuple[int, int, int, int]]]:
    """(number of the shape, its window) of all shapes that have pixels in a raster; shapes in its CRS."""
    import shapely

    numbers, pixels = shapes_in(info, shapes, tree)
    parts = shapely.bounds(pixels)
    found = []
    for number, (left, top, right, bottom) in zip(numbers.tolist(), parts.tolist(), strict=True):
        if right - left > ROUNDING and bottom - top > ROUNDING:  # else it touches the rim from outside
            window = fit_window((left, top, right, bottom), (info.height, info.width), slack=SLACK)
            found += [(number, window)] if not isinstance(window, str) else []
    return found


def _report_outside(objects: list[_Object], settled: set[int], source: FeatureFile, reading: BoxReading) -> None:
    """Count the objects that lie in no raster; refuse them where all do, or where a raster may be theirs."""
    inside = {objects[index].feature.place for index in settled}
    placeless = [area for area, info in reading.areas.items() if not info.georeferenced]
    outside = []
    for index, found in enumerate(objects):
        if index in settled:
            continue
        problem = None
        if found.stray is not None:
            problem = _unknown_area(found.stray, reading)
        elif found.area is not None and "area" in found.feature.properties and found.feature.place not in inside:
            problem = DataError(f"outside {found.area}", expected="a place in it", cure="mend the property area")
        elif found.area is None and placeless:
            problem = DataError(
                f"in no raster that knows where it lies ({shorten(placeless)} do not)",
                expected="a property area, or a file named after its area",
                cure="name the area, or remove the feature",
            )
        if problem is None:
            outside.append(found)
        else:
            reading.problems.append(f"{found.feature.place}: {problem}")
    strays = [found.stray for found in objects if found.stray is not None]
    if strays:
        reading.notices.append(
            f"{source.file}: {len(strays)} polygon(s) with a property area that names no raster (first {strays[0]!r}) "
            "placed by their coordinates"
        )
    if outside and len(outside) == len(objects):
        left, bottom, *_ = outside[0].shape.bounds
        reading.refuse(
            f"{source.file}: all {len(outside)} polygon(s) lie outside the rasters, "
            f"the first at ({left:g}, {bottom:g}) in {source.crs or 'map units'}",
            expected="a place inside a raster",
            cure="check the crs of the file and the order of its coordinates (x or longitude first)",
        )
    elif outside:
        reading.notices.append(
            f"{source.file}: {len(outside)} of {len(objects)} polygon(s) outside the rasters skipped, "
            f"the first: {_number(outside[0])}"
        )


def _number(found: _Object) -> str:
    return found.feature.place.rpartition(": ")[2]
