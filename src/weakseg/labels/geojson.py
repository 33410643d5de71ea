"""Features of GeoJSON, GeoPackage, Shapefile and FlatGeobuf: properties, polygons one by one, and their CRS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from weakseg.core.errors import DataError
from weakseg.labels.box_reading import BoxReading

if TYPE_CHECKING:
    from shapely import Geometry, Polygon

LONGITUDE_LATITUDE: Final = "OGC:CRS84"  # what RFC 7946 prescribes where no crs is named
_FARTHEST: Final = 1e9  # degrees, metres, feet or px: no place on Earth has such coordinates
VECTOR_SUFFIXES: Final = (".gpkg", ".shp", ".fgb")
PartsOf = Callable[[Any], tuple[tuple[Any, ...], int]]
"""Geometry -> the parts of it that are kept, and how many others were dropped."""


@dataclass(frozen=True)
class Feature:
    """One feature that has a place.

    Attributes:
        place: file and number, for messages.
        properties: keys in lower case; those without a value are left out.
        parts: its polygons, each one object, valid and with an area; or what else the reader was asked for.
    """

    place: str
    properties: Mapping[str, Any]
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class FeatureFile:
    """A file of features.

    Attributes:
        file: its path.
        crs: what its coordinates are of, as a text that GDAL knows; None where a file that should name one does not.
        stated: whether the file says so itself.
        features: those with a place.
        areas, classes: names in the members ``areas`` and ``classes`` of a GeoJSON collection.
    """

    file: Path
    crs: str | None
    stated: bool
    features: tuple[Feature, ...]
    areas: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def read_geojson(
    file: Path, content: dict[str, Any], reading: BoxReading, parts_of: PartsOf | None = None
) -> FeatureFile:
    """Features of a GeoJSON FeatureCollection, of RFC 7946 or with the older member ``crs``.

    ``parts_of``: what of a geometry is kept, and how many others are dropped; :func:`polygons_of` without it.
    """
    rows = content.get("features")
    if not isinstance(rows, list):
        reading.problems.append(f"{file}: features is not a list")
        rows = []
    shapes: list[tuple[dict[str, Any], Geometry | None]] = []
    numbers = []
    for number, row in enumerate(rows):
        try:
            shapes.append(_parse(row))
            numbers.append(number)
        except DataError as error:
            reading.problems.append(f"{file}: feature {number}: {error}")
    crs = None
    try:
        crs = crs_name(content.get("crs"))
    except DataError as error:
        reading.problems.append(f"{file}: {error}")
    features = _features(file, numbers, shapes, reading, parts_of or polygons_of)
    areas, classes = (_listed(content.get(key)) for key in ("areas", "classes"))
    return FeatureFile(file, crs or LONGITUDE_LATITUDE, crs is not None, features, areas, classes)


def read_vector(
    file: Path, reading: BoxReading, parts_of: PartsOf | None = None, *, layer: str | None = None
) -> FeatureFile:
    """Features of all layers of a GeoPackage, Shapefile or FlatGeobuf; layers of more than one CRS are refused.

    Args:
        parts_of: as in :func:`read_geojson`.
        layer: the only one that is read.
    """
    import shapely
    from pyogrio import list_layers, raw
    from pyogrio.errors import DataLayerError, DataSourceError

    shapes: list[tuple[dict[str, Any], Geometry | None]] = []
    systems: set[str | None] = set()
    try:
        layers = [name for name, kind in list_layers(file) if kind is not None]  # None: a table without places
        if layer is not None and layer not in layers:
            reading.refuse(f"{file}: no layer {layer}", expected=f"one of {', '.join(layers)}", cure="mend --layer")
        for name in layers:
            if layer in (None, name):
                meta, _, outlines, columns = raw.read(file, layer=name)
                systems.add(meta["crs"])
                rows = zip(*(column.tolist() for column in columns), strict=True) if columns else ((),) * len(outlines)
                keyed = (dict(zip(meta["fields"], row, strict=True)) for row in rows)
                shapes += zip(keyed, shapely.from_wkb(outlines), strict=True)
    except (DataSourceError, DataLayerError, shapely.errors.ShapelyError, ValueError) as error:
        reading.refuse(f"{file}: {' '.join(str(error).split())}", expected="polygons", cure="export it again")
    if len(systems) > 1:
        reading.refuse(f"{file}: layers in {len(systems)} CRSs", expected="one CRS", cure="export a layer of its own")
    crs = next(iter(systems), None)
    features = _features(file, range(len(shapes)), shapes, reading, parts_of or polygons_of)
    return FeatureFile(file, crs, crs is not None, features)


def crs_name(member: Any) -> str | None:
    """The CRS that a member ``crs`` names, or None without one; its kinds name, EPSG and OGC, a bare text or number.

    >>> crs_name({"type": "EPSG", "properties": {"code": 25832}}), crs_name("EPSG:3857")
    ('EPSG:25832', 'EPSG:3857')
    """
    properties = member.get("properties") if isinstance(member, dict) else {"name": member}
    properties = properties if isinstance(properties, dict) else {}
    if member is None:
        return None
    for key in ("name", "code", "urn"):
        value = properties.get(key)
        if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdigit()):
            return f"EPSG:{value}"
        if isinstance(value, str) and value.strip():
            return value.strip()
    raise DataError(
        f"crs {member}",
        expected='{"type": "name", "properties": {"name": "EPSG:25832"}}',
        cure="name the CRS like this",
    )


def _parse(row: Any) -> tuple[dict[str, Any], Geometry | None]:
    """Properties and geometry of a GeoJSON feature."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    properties = (row.get("properties") or {}) if isinstance(row, dict) else None
    geometry = row.get("geometry") if isinstance(row, dict) else None
    if not isinstance(properties, dict) or not isinstance(geometry, dict | None):
        raise DataError("no object with properties and geometry", expected="a Feature", cure="export the file again")
    if geometry is None:
        return properties, None
    kind = geometry.get("type")
    if not (geometry.get("coordinates") or geometry.get("geometries")):
        raise DataError(f"geometry {kind} without coordinates", expected="corners", cure="draw it, or remove it")
    if geometry.get("type") != "GeometryCollection" and not _are_numbers(geometry.get("coordinates")):
        raise DataError(
            f"a corner that is none in geometry {kind}",
            expected="rings of pairs of numbers",
            cure="export the file again",
        )
    try:
        with np.errstate(invalid="ignore"):  # corners that are no numbers are refused later
            return properties, shape(geometry)
    except (ShapelyError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise DataError(
            f"a corner that is none in geometry {kind} ({' '.join(str(error).split())})",
            expected="rings of pairs of numbers",
            cure="export the file again",
        ) from error


def _are_numbers(coordinates: Any) -> bool:
    """Whether nested lists hold numbers alone: a text or false would become one without a word."""
    if isinstance(coordinates, list):
        return all(map(_are_numbers, coordinates))
    return type(coordinates) in (int, float)


def _features(
    file: Path,
    numbers: Sequence[int],
    shapes: Sequence[tuple[dict[str, Any], Geometry | None]],
    reading: BoxReading,
    parts_of: PartsOf,
) -> tuple[Feature, ...]:
    features, placeless, others = [], 0, 0
    for number, (properties, geometry) in zip(numbers, shapes, strict=True):
        place = f"{file}: feature {number}"
        if geometry is None:
            placeless += 1
            continue
        try:
            parts, dropped = parts_of(geometry)
            features.append(Feature(place, _lower_keys(properties), parts))
            others += dropped
        except DataError as error:
            reading.problems.append(f"{place}: {error}")
    if placeless:
        reading.notices.append(f"{file}: {placeless} feature(s) without a geometry skipped")
    if others:
        reading.notices.append(f"{file}: {others} point(s) and line(s) of geometry collections skipped")
    return tuple(features)


def polygons_of(geometry: Geometry) -> tuple[tuple[Polygon, ...], int]:
    """Valid polygons of a Polygon, MultiPolygon or GeometryCollection, and how many other parts were dropped.

    A ring that crosses itself becomes the polygons that it encloses, still one object: a MultiPolygon in its place.
    """
    import shapely

    whole, pieces = _pieces(geometry)
    polygons = [piece for piece in pieces if piece.geom_type == "Polygon" and not piece.is_empty]
    if not polygons:
        kind = "no corners in geometry" if whole.is_empty else "geometry"
        raise DataError(
            f"{kind} {geometry.geom_type}", expected="a Polygon or MultiPolygon with corners", cure="draw a rectangle"
        )
    valid = [part if part.is_valid else shapely.make_valid(part, method="structure") for part in polygons]
    flat = next((part for part, mended in zip(polygons, valid, strict=True) if mended.area <= 0), None)
    if flat is not None:
        left, top, right, bottom = flat.bounds
        raise DataError(
            f"a polygon without an area, x {left:g} to {right:g}, y {top:g} to {bottom:g}",
            expected="width and height",
            cure="draw it again, or remove it",
        )
    return tuple(valid), len(pieces) - len(polygons)


def shapes_of(geometry: Geometry) -> tuple[tuple[Any, ...], int]:
    """Valid points, lines and polygons of any geometry; nothing is dropped.

    A polygon without an area is the line around it.
    """
    import shapely

    _, pieces = _pieces(geometry)
    kept = [piece for piece in pieces if not piece.is_empty]
    if not kept:
        raise DataError(f"no corners in geometry {geometry.geom_type}", expected="a place", cure="draw it again")
    return tuple(part if part.is_valid else shapely.make_valid(part, method="structure") for part in kept), 0


def _pieces(geometry: Geometry) -> tuple[Any, list[Any]]:
    """A geometry in two dimensions, whole and as its single parts."""
    import shapely

    whole = shapely.force_2d(geometry)
    corners = shapely.get_coordinates(whole)
    if not (np.abs(corners) < _FARTHEST).all():  # NaN is not
        far = corners[~(np.abs(corners) < _FARTHEST)][0]
        said = f"{far:g}" if math.isfinite(far) else "not finite"
        raise DataError(
            f"a corner that is none ({said})", expected="degrees, metres or px", cure="export the file again"
        )
    pieces = [whole]
    while any(hasattr(piece, "geoms") for piece in pieces):
        pieces = [part for piece in pieces for part in (piece.geoms if hasattr(piece, "geoms") else [piece])]
    return whole, pieces


def _lower_keys(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in lower case, values that are null, NaN or empty left out; two spellings of a key must agree."""
    found: dict[str, Any] = {}
    for key, value in properties.items():
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        small = str(key).lower()
        if small in found and found[small] != value:
            raise DataError(f"{key} {value!r} beside {small} {found[small]!r}", expected="one", cure="remove one")
        found[small] = value
    return found


def _listed(member: Any) -> tuple[str, ...]:
    values = member if isinstance(member, list) else [member] if member else []
    return tuple(str(value) for value in values)
