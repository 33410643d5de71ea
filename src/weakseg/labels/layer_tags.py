"""Tags from layers of GIS programs: which crops a layer's polygons cover, its lines cross and its points lie in.

A layer says what is present. It says what is absent only where it is asked to (``unmarked``), and only inside the
rectangle around its features: nobody knows that its author has looked elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.reading import read_json
from weakseg.labels.answers import TagAnswer, check_annotator
from weakseg.labels.box_reading import BoxReading, shorten
from weakseg.labels.class_map import ClassMap
from weakseg.labels.crop_layer import attributes_of
from weakseg.labels.feature_boxes import CLASS_KEYS
from weakseg.labels.geojson import VECTOR_SUFFIXES, Feature, FeatureFile, PartsOf, read_geojson, read_vector, shapes_of
from weakseg.labels.label_studio import WINDOW
from weakseg.labels.osm_tags import OsmMap, is_osm
from weakseg.labels.projection import crs_of, project, shapes_in
from weakseg.labels.tag_files import ReadTags, Unmarked, unknown_classes
from weakseg.labels.tags import Window
from weakseg.raster.header import RasterInfo

LEAST: Final = 1.0  # px2 or px of a crop that a polygon must cover or a line run through
_ROUNDING: Final = 1e-6
_LOOKED_AT: Final = 1000  # features that show what a file is

Share = dict[str, float]
"""By class, the part of a crop that polygons cover, in [0, 1]; above 1 where a point or a line is in it."""


@dataclass(frozen=True)
class Layer:
    """Features whose classes are known.

    Attributes:
        source: the file.
        classes: of each feature.
        asked: classes that the layer could hold; only these can be absent.
        people: who drew each feature; empty where the file does not say.
        left_out: features without a class, by name.
    """

    source: FeatureFile
    classes: tuple[tuple[str, ...], ...]
    asked: tuple[str, ...]
    people: tuple[str, ...]
    left_out: Mapping[str, int]


def read_features(
    file: Path, reading: BoxReading, layer: str | None = None, parts_of: PartsOf = shapes_of
) -> FeatureFile:
    """Features with points, lines and polygons of GeoJSON, GeoPackage, Shapefile or FlatGeobuf.

    Args:
        layer: of a GeoPackage; all of them without it.
        parts_of: what of a geometry is kept.

    Raises:
        DataError: neither of these.
    """
    if file.suffix.lower() in VECTOR_SUFFIXES:
        return read_vector(file, reading, parts_of, layer=layer)
    content = read_json(file)
    if not isinstance(content, dict) or content.get("type") != "FeatureCollection":
        raise DataError(f"{file}: no FeatureCollection", expected="a layer of features", cure="export it as GeoJSON")
    return read_geojson(file, content, reading, parts_of)


def layer_kinds(file: Path, names: ClassMap, field: str | None) -> tuple[str, ...]:
    """What a file of features may be: "qgis" where a column holds classes, "osm" where its keys are OpenStreetMap's."""
    rows = attributes_of(file)[:_LOOKED_AT]
    columns = [field] if field is not None else [*CLASS_KEYS]
    said = [value for row in rows for key, value in row.items() if key.lower() in columns and value is not None]
    classed = {"area", *WINDOW} <= set(rows[0] if rows else ()) or any(names.knows(_text(value)) for value in said)
    found = {"qgis": classed or bool(field and said), "osm": any(map(is_osm, rows)) or _has_osm_ids(file)}
    return tuple(kind for kind, is_it in found.items() if is_it)


def _has_osm_ids(file: Path) -> bool:
    if file.suffix.lower() in VECTOR_SUFFIXES:
        return False
    content = read_json(file)
    features = content.get("features") if isinstance(content, dict) else None
    first = features[0] if isinstance(features, list) and features else {}
    return isinstance(first, dict) and is_osm({}, first.get("id"))


def class_column(source: FeatureFile, field: str | None) -> str:
    """The column with the classes: the one that is named, else the first of ``CLASS_KEYS`` that features have.

    Raises:
        DataError: there is none.
    """
    columns = dict.fromkeys(key for feature in source.features for key in feature.properties)
    wanted = [field.lower()] if field is not None else list(CLASS_KEYS)
    found = next((key for key in wanted if key in columns), None)
    if found is None:
        raise DataError(
            f"{source.file}: columns {shorten(columns) or 'none'}" + (f", none called {field}" if field else ""),
            expected=f"one with the class, such as {CLASS_KEYS[0]}",
            cure="name it by --field COLUMN, or say --from osm --map FILE for an extract of OpenStreetMap",
        )
    return found


def classed_layer(source: FeatureFile, names: ClassMap, field: str | None) -> Layer:
    """A layer with a column of classes; one called ``annotator`` says who drew a feature.

    Raises:
        DataError: no such column; a feature without a class; names that are no classes.
    """
    column = class_column(source, field)
    values = [feature.properties.get(column) for feature in source.features]
    missing = [feature.place for feature, value in zip(source.features, values, strict=True) if value is None]
    if missing:
        raise DataError(f"{missing[0]}: no {column}, as {len(missing)} in all", expected="a class", cure="enter it")
    said = [_text(value) for value in values]
    unknown = [name for name in dict.fromkeys(said) if not names.knows(name)]
    if unknown:
        raise unknown_classes(source.file, unknown, names)
    classes = tuple(names.classes_of([name]) for name in said)
    left_out = Counter(name for name, found in zip(said, classes, strict=True) if not found)
    people = tuple(_text(feature.properties.get("annotator", "")) for feature in source.features)
    asked = names.classes_of({*said, *names.stated})
    return Layer(source, classes, asked, people, left_out)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def osm_layer(source: FeatureFile, names: OsmMap) -> Layer:
    """Features of OpenStreetMap with the classes that their tags mean."""
    classes = tuple(names.classes_of(feature.properties) for feature in source.features)
    silent = sum(not found for found in classes)
    return Layer(source, classes, names.asked, ("",) * len(classes), {"other tags": silent} if silent else {})


def layer_answers(
    layer: Layer,
    areas: Mapping[str, RasterInfo],
    crops: Callable[[str], Sequence[Window]],
    *,
    kind: str,
    min_share: float,
    unmarked: Unmarked | None,
    annotator: str,
    time: str,
) -> ReadTags:
    """What a layer says of crops.

    A class is present in a crop where its polygons cover more than ``min_share`` percent of it (and a px at least),
    where a line of it runs through a px at least, or a point of it lies in it.

    Args:
        areas: header of every raster.
        crops: windows of an area that can be tagged.
        unmarked: "absent": classes without a feature are absent from crops inside the rectangle around all features.
        annotator: who it was where the layer names nobody.

    Raises:
        DataError: features without a place in an area; no CRS where areas have one.
    """
    answers: list[TagAnswer] = []
    placed: set[int] = set()
    for who in dict.fromkeys(layer.people):
        mine = [index for index, person in enumerate(layer.people) if person == who and layer.classes[index]]
        name = check_annotator(who or annotator)
        for area, numbers, shapes, searched in place_shapes(layer.source, mine, areas):
            placed.update(numbers)
            size = areas[area].height, areas[area].width
            classes = [layer.classes[number] for number in numbers]
            windows = list(crops(area))
            for window, shares in zip(windows, crop_shares(windows, shapes, classes), strict=True):
                present = tuple(n for n in layer.asked if shares.get(n, 0) > max(min_share / 100, _ROUNDING))
                inside = unmarked == "absent" and _inside(window, searched)
                absent = tuple(n for n in layer.asked if inside and n not in shares)
                if present or absent:
                    answer = TagAnswer("", area, window, size, present, absent, (), name, time, 0.0, "file", batch=kind)
                    answers.append(answer)
    file = layer.source.file
    notices = [f"{file}: {count} feature(s) of {name} left out" for name, count in layer.left_out.items()]
    outside = sum(bool(found) for found in layer.classes) - len(placed)
    if outside and not placed:
        raise _outside(layer.source)
    notices += [f"{file}: {outside} feature(s) outside the rasters skipped"] if outside else []
    return ReadTags(tuple(answers), tuple(notices), ())


def _inside(window: Window, box: tuple[float, float, float, float]) -> bool:
    row, column, height, width = window
    left, top, right, bottom = box
    across = left <= column + 0.5 and column + width <= right + 0.5
    return bool(across and top <= row + 0.5 and row + height <= bottom + 0.5)


def _outside(source: FeatureFile) -> DataError:
    return DataError(
        f"{source.file}: no feature of a class lies in an area of data/images",
        expected="a place inside a raster",
        cure="check the CRS of the layer and the order of its coordinates (x or longitude first)",
    )


# ---- where features lie ---------------------------------------------------------------------------------------------


def place_shapes(
    source: FeatureFile, numbers: Sequence[int], areas: Mapping[str, RasterInfo]
) -> Iterator[tuple[str, list[int], npt.NDArray[np.object_], tuple[float, float, float, float]]]:
    """For each area that features touch: their numbers, what of them lies in it, in px, and the box around all of them.

    Rasters that know no place take the coordinates as px, y down, or up below zero as QGIS shows them; only features
    whose property ``area`` names them, or whose file does, lie there.

    Args:
        numbers: of the features that count.

    Raises:
        DataError: no CRS where an area has one; degrees that are none.
    """
    from shapely import STRtree

    parts = [(number, part) for number in numbers for part in source.features[number].parts]
    if not parts:
        return
    check_crs(source, [part for _, part in parts], areas)
    shapes = np.array([part for _, part in parts], object)
    owners = np.array([number for number, _ in parts])
    own = source.file.stem if source.file.stem in areas else None
    moved: dict[str | None, tuple[Any, STRtree]] = {}
    for area, info in areas.items():
        named = np.array([_named(source.features[number], own, areas) == area for number in owners])
        if not info.georeferenced:
            if named.any():
                yield _in_pixels(area, info, owners[named], shapes[named])
            continue
        if info.crs not in moved:
            there = project(shapes.copy(), source.crs, info.crs)
            moved[info.crs] = there, STRtree(there)
        found, pixels = shapes_in(info, *moved[info.crs])
        if len(found):
            yield area, owners[found].tolist(), pixels, _extent(info, moved[info.crs][0])


def _named(feature: Feature, own: str | None, areas: Mapping[str, RasterInfo]) -> str | None:
    value = feature.properties.get("area")
    return value if isinstance(value, str) and value in areas else own


def _in_pixels(
    area: str, info: RasterInfo, numbers: npt.NDArray[np.intp], shapes: Any
) -> tuple[str, list[int], Any, tuple[float, float, float, float]]:
    import shapely

    _, bottom, _, top = shapely.total_bounds(shapes).tolist()
    if top <= _ROUNDING and bottom < 0:
        shapes = shapely.transform(shapes, lambda p: p * (1, -1))
    left, top, right, bottom = shapely.total_bounds(shapes).tolist()
    rim = shapely.box(0, 0, info.width, info.height)
    return area, numbers.tolist(), shapely.intersection(shapes, rim), (left, top, right, bottom)


def _extent(info: RasterInfo, shapes: Any) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of the rectangle around shapes in the CRS of a raster, in its px."""
    import shapely

    left, low, right, high = shapely.total_bounds(shapes).tolist()
    a, b, c, d, e, f = info.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    x, y = np.array([left, left, right, right]) - c, np.array([low, high, low, high]) - f
    across, down = (e * x - b * y) / (a * e - b * d), (a * y - d * x) / (a * e - b * d)
    return float(across.min()), float(down.min()), float(across.max()), float(down.max())


def check_crs(source: FeatureFile, shapes: Sequence[Any], areas: Mapping[str, RasterInfo]) -> None:
    """Refuse (DataError) a layer that does not say where it lies, or whose degrees are none."""
    if not any(info.crs for info in areas.values()):
        return
    if source.crs is None:
        raise DataError(
            f"{source.file}: no CRS",
            expected="one, as the rasters have one",
            cure="set it in the GIS program (QGIS: Layer, Layer CRS) and export again",
        )
    if not crs_of(source.crs).is_geographic:
        return
    import shapely

    left, bottom, right, top = shapely.total_bounds(list(shapes)).tolist()
    if max(abs(left), abs(right)) > 360 or max(abs(bottom), abs(top)) > 90 + 1e-9:
        given = f"its CRS, {source.crs}," if source.stated else "GeoJSON that names no crs"
        raise DataError(
            f"{source.file}: coordinates from ({left:g}, {bottom:g}) where {given} counts degrees of longitude and "
            "latitude",
            expected="a place on Earth",
            cure='write the CRS that they are of into the file ("crs"), or export it in EPSG:4326',
        )


# ---- which crops they are in ----------------------------------------------------------------------------------------


def crop_shares(
    windows: Sequence[Window], shapes: npt.NDArray[np.object_], classes: Sequence[Sequence[str]]
) -> list[Share]:
    """How much of each crop the shapes of each class cover; 2 where a line or a point of the class is in it.

    Args:
        windows: N crops.
        shapes: M points, lines and polygons, px.
        classes: of each shape.

    Returns:
        N times the classes with a shape in the crop: those that only touch it, or cover less than a px, have 0.
    """
    import shapely

    found: list[Share] = [{} for _ in windows]
    if not len(windows) or not len(shapes):
        return found
    boxes = _boxes(windows)
    pairs: dict[tuple[int, str], list[int]] = defaultdict(list)
    shape_numbers, box_numbers = shapely.STRtree(boxes).query(shapes, predicate="intersects")
    for shape, box in zip(shape_numbers.tolist(), box_numbers.tolist(), strict=True):
        for name in classes[shape]:
            pairs[box, name].append(shape)
    for (box, name), numbers in pairs.items():
        share = _share(windows[box], boxes[box], shapes[numbers])
        if share is not None:
            found[box][name] = share
    return found


def _boxes(windows: Sequence[Window]) -> Any:
    import shapely

    row, column, height, width = np.array(windows, np.float64).T
    return shapely.box(column, row, column + width, row + height)


def _share(window: Window, box: Any, shapes: Any) -> float | None:
    """The part of a crop that shapes cover; None where they only touch it."""
    import shapely

    kinds = shapely.get_dimensions(shapes)
    row, column, height, width = window
    points = shapely.get_coordinates(shapes[kinds == 0])
    inside = (points >= (column, row)) & (points < (column + width, row + height))
    lines = shapely.length(shapely.intersection(shapes[kinds == 1], box)).sum()
    if inside.all(1).any() or lines >= min(LEAST, height, width):
        return 2.0
    covered = float(shapely.area(shapely.intersection(shapely.union_all(shapes[kinds == 2]), box)))
    if covered <= _ROUNDING and lines <= _ROUNDING:
        return None
    return covered / (height * width) if covered >= LEAST - _ROUNDING else 0.0
