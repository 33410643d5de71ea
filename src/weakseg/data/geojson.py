"""Boxes from GeoJSON features: polygons on the ground, or in pixels, become upright rectangles of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from weakseg.classes import ClassScheme
from weakseg.data.boxes import Box, BoxTable, fit_window
from weakseg.data.raster import RasterInfo
from weakseg.errors import DataError

CLASS_KEYS: Final = ("class", "label", "category", "name")  # properties that may name the class, first match
LONGITUDE_LATITUDE: Final = "OGC:CRS84"  # what RFC 7946 prescribes where no crs is named
Points = list[tuple[float, float]]
Edges = tuple[float, float, float, float]
Problems = list[str]


@dataclass(frozen=True)
class _Source:
    """A feature collection as it is read: its file, its crs (None: none named), the rasters and the problems so far."""

    file: Path
    crs: str | None
    areas: Mapping[str, RasterInfo]
    problems: Problems


def read_features(
    file: Path, content: dict[str, Any], scheme: ClassScheme, areas: Mapping[str, RasterInfo], problems: Problems
) -> BoxTable:
    """Boxes of a FeatureCollection; problems are appended, each with the number of its feature.

    A feature is one object: a Polygon or MultiPolygon (its upright hull is the box, cut at the rim of the raster), with
    the class in the property ``class``, ``label``, ``category`` or ``name``; ``crowd: true`` makes it a crowd region.
    Its area is the property ``area``, or else the area that the file is named after, or else the one whose raster holds
    the middle of the box. Searched areas: those with a feature, the one the file is named after, and those of a member
    ``areas`` of the collection; searched classes: those of the features and of a member ``classes``.
    """
    source = _Source(file, _crs_name(content), areas, problems)
    rows = content.get("features")
    if not isinstance(rows, list):
        problems.append(f"{file}: features is not a list")
        return BoxTable()
    boxes = [box for number, row in enumerate(rows) if (box := _feature_box(number, row, source, scheme)) is not None]
    more = {key: content.get(key) or [] for key in ("areas", "classes")}
    for key, known in (("areas", set(areas)), ("classes", set(scheme.names))):
        listed = [str(name) for name in (more[key] if isinstance(more[key], list) else [more[key]])]
        problems += [f"{file}: {key} names {name!r}, which is unknown" for name in listed if name not in known]
        more[key] = [name for name in listed if name in known]
    own = [file.stem] if file.stem in areas else []
    named = {box.name for box in boxes} | set(more["classes"])
    classes = tuple(name for name in scheme.names if name in named)
    return BoxTable(tuple(boxes), dict.fromkeys([*own, *more["areas"], *(box.area for box in boxes)], classes))


def _crs_name(content: dict[str, Any]) -> str | None:
    member = content.get("crs")
    try:
        return str(member["properties"]["name"]) if member else None
    except (TypeError, KeyError):
        return str(member)  # refused when it is used


def _feature_box(number: int, row: Any, source: _Source, scheme: ClassScheme) -> Box | None:
    place = f"{source.file}: feature {number}"
    properties = (row.get("properties") or {}) if isinstance(row, dict) else None
    geometry = (row.get("geometry") or {}) if isinstance(row, dict) else None
    if not isinstance(properties, dict) or not isinstance(geometry, dict):
        source.problems.append(f"{place}: no object with properties and geometry")
        return None
    name = next((properties[key] for key in CLASS_KEYS if properties.get(key) is not None), None)
    if name not in scheme.names:
        known = ", ".join(scheme.names)
        source.problems.append(f"{place}: class {name!r}; expected a property {CLASS_KEYS[0]} of {known}")
        return None
    try:
        points = list(_points(geometry))
        if not points:
            raise DataError("no corners", expected="a polygon", cure="draw a rectangle")
        area = _area_of(properties, points, source)
        info = source.areas[area]
        edges = _to_pixels(_project(points, source.crs, info.crs), info)
    except DataError as error:
        source.problems.append(f"{place}: {error}")
        return None
    window = fit_window(edges, (info.height, info.width), slack=math.inf if info.georeferenced else 1.0)
    if isinstance(window, str):
        source.problems.append(f"{place}: {window}")
        return None
    return Box(area, *window, str(name), bool(properties.get("crowd", False)))


def _points(geometry: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """The corners of a Polygon or MultiPolygon."""
    kind, rings = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon") or not isinstance(rings, list) or not rings:
        raise DataError(f"geometry {kind}", expected="a Polygon or MultiPolygon with corners", cure="draw a rectangle")
    try:
        rings = [ring for polygon in rings for ring in polygon] if kind == "MultiPolygon" else rings
        for ring in rings:
            for x, y, *_ in ring:
                if not (math.isfinite(x) and math.isfinite(y)):
                    raise ValueError(f"({x}, {y})")
                yield float(x), float(y)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"a corner that is none ({error})", expected="pairs of numbers", cure="export it again"
        ) from error


def _area_of(properties: dict[str, Any], points: Points, source: _Source) -> str:
    named = properties.get("area")
    if named is not None or source.file.stem in source.areas:
        area = source.file.stem if named is None else str(named)
        if area not in source.areas:
            raise DataError(f"area {area!r}", expected="an area of data/images", cure="mend the property area")
        return area
    moved: dict[str | None, Points] = {}  # rasters of one survey share their crs
    for area, info in source.areas.items():
        if info.georeferenced:
            if info.crs not in moved:
                moved[info.crs] = _project(points, source.crs, info.crs)
            left, top, right, bottom = _to_pixels(moved[info.crs], info)
            column, row = (left + right) / 2, (top + bottom) / 2
            if 0 <= column < info.width and 0 <= row < info.height:
                return area
    raise DataError(
        "in no raster",
        expected="a property area, a file named after its area, or a place inside a raster that knows where it lies",
        cure="name the area, and check the crs of the file",
    )


def _to_pixels(points: Points, info: RasterInfo) -> Edges:
    """Left, upper, right and lower edge, px of the raster, of corners in its map units (px where it has no place)."""
    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    determinant = a * e - b * d
    columns = [(e * (x - c) - b * (y - f)) / determinant for x, y in points]
    rows = [(a * (y - f) - d * (x - c)) / determinant for x, y in points]
    return min(columns), min(rows), max(columns), max(rows)


def _project(points: Points, source: str | None, target: str | None) -> Points:
    """Corners in the crs of the file (None: longitude and latitude) -> in that of a raster (None: they are already)."""
    if target is None:
        return points
    from rasterio.warp import transform

    source = source or LONGITUDE_LATITUDE
    try:
        xs, ys = transform(_crs(source), _crs(target), *zip(*points, strict=True))[:2]
    except Exception as error:  # rasterio passes errors of GDAL and PROJ on that have no public class
        raise DataError(
            f"coordinates {points[0]} in {source} ({' '.join(str(error).split())})",
            expected="a place on Earth, in a crs that GDAL knows",
            cure="name the file's crs; without one they are longitude and latitude",
        ) from error
    moved = list(zip(xs, ys, strict=True))
    if not all(math.isfinite(value) for point in moved for value in point):
        raise DataError(f"coordinates {points[0]} in {source}", expected="a place on Earth", cure="name the file's crs")
    return moved


@lru_cache(maxsize=64)
def _crs(text: str) -> Any:
    from rasterio.crs import CRS

    return CRS.from_user_input(text)
