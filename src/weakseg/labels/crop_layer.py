"""Crops as a layer of a GIS program: a GeoPackage that QGIS opens with colours and a form, and the way back.

A row is a crop: ``area,row,column,height,width`` say which; ``is_CLASS`` is ``yes``, ``no``, ``unknown`` or empty, and
people change it in QGIS's form; the polygon is for the eye alone. Crops of rasters without a CRS lie in a layer of
their own: in px below zero, where QGIS shows rasters without a place, or in their map units.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.core.reading import read_json
from weakseg.labels.answers import Crop
from weakseg.labels.crop_style import crop_style
from weakseg.labels.geojson import VECTOR_SUFFIXES
from weakseg.labels.label_studio import WINDOW
from weakseg.labels.layer_styles import add_layer_styles
from weakseg.labels.marks import Mark, Marks
from weakseg.labels.opinions import Opinion
from weakseg.labels.projection import crs_of, project, to_ground
from weakseg.raster.header import RasterInfo
from weakseg.raster.whole import vector_errors

LAYER: Final = "crops"
PLACELESS: Final = "crops_px"
WORDS: Final[Mapping[str, bool | None]] = {"yes": True, "no": False, "unknown": None}
_PREFIX: Final = "is_"


@dataclass(frozen=True)
class CropRow:
    """A crop with what is known of it: states by class (those that are missing are not tagged), and a model's guess."""

    crop: Crop
    states: Opinion
    guess: Mapping[str, float]


# ---- out ------------------------------------------------------------------------------------------------------------


def write_crop_layer(path: Path, rows: Sequence[CropRow], areas: Mapping[str, RasterInfo], scheme: ClassScheme) -> None:
    """Write a GeoPackage with a style, whole or not at all.

    Args:
        path: .gpkg.
        areas: header of the raster of every area of the rows.

    Raises:
        DataError: another suffix, no crop, or classes that differ in capitals alone, as columns must not.
    """
    folded = [name.casefold() for name in scheme.names]
    if path.suffix.lower() != ".gpkg" or not rows or len(set(folded)) < len(folded):
        raise DataError(
            f"{path} of {len(rows)} crops of classes {', '.join(scheme.names)}",
            expected="a name that ends in .gpkg, crops, and classes that differ in more than capitals",
            cure="mend it",
        )
    there = [row for row in rows if areas[row.crop[0]].crs is not None]
    nowhere = [row for row in rows if areas[row.crop[0]].crs is None]
    with vector_errors(path), atomic_path(path) as temporary:
        for layer, mine in ((LAYER, there), (PLACELESS, nowhere)):
            if mine:
                _write(temporary, layer, mine, areas, scheme)
        style = crop_style(scheme, {name: _PREFIX + name for name in scheme.object_names}, list(WORDS))
        layers = [name for name, mine in ((LAYER, there), (PLACELESS, nowhere)) if mine]
        add_layer_styles(temporary, dict.fromkeys(layers, style))


def _write(
    path: Path, layer: str, rows: Sequence[CropRow], areas: Mapping[str, RasterInfo], scheme: ClassScheme
) -> None:
    import shapely
    from pyogrio import raw

    infos = [areas[row.crop[0]] for row in rows]
    systems = list(dict.fromkeys(info.crs for info in infos))
    target = systems[0] if len(systems) == 1 else "EPSG:4326"
    polygons = np.array([_outline(row, info) for row, info in zip(rows, infos, strict=True)], object)
    for system in systems if len(systems) > 1 else ():
        mine = np.array([info.crs == system for info in infos])
        polygons[mine] = project(polygons[mine], system, target)
    columns = _columns(rows, infos, scheme)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pyogrio's, of a layer without a CRS
        raw.write(
            path,
            shapely.to_wkb(polygons),
            [
                np.array(values, object if isinstance(values[0], str | None) else np.int64)
                for values in columns.values()
            ],
            list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=crs_of(target).to_wkt() if target is not None else None,
            append=path.exists(),
            dataset_options={"VERSION": "1.2"},  # what older programs read without a warning
        )


def _outline(row: CropRow, info: RasterInfo) -> Any:
    import shapely

    top, left, height, width = row.crop[1]
    box = shapely.box(left, top, left + width, top + height)
    if not info.georeferenced:
        return shapely.transform(box, lambda p: p * (1, -1))
    return shapely.transform(box, lambda p: to_ground(info, p))


def _columns(rows: Sequence[CropRow], infos: Sequence[RasterInfo], scheme: ClassScheme) -> dict[str, list[Any]]:
    words = {state: word for word, state in WORDS.items()}
    columns: dict[str, list[Any]] = {"area": [row.crop[0] for row in rows]}
    columns |= {name: [row.crop[1][index] for row in rows] for index, name in enumerate(WINDOW)}
    columns |= {"area_height": [info.height for info in infos], "area_width": [info.width for info in infos]}
    for name in scheme.object_names:
        columns[_PREFIX + name] = [words[row.states[name]] if name in row.states else None for row in rows]
    guesses = [", ".join(f"{name} {share:.2f}" for name, share in row.guess.items() if share >= 0.5) for row in rows]
    return columns | {"annotator": [None] * len(rows), "guess": [text or None for text in guesses]}


# ---- in -------------------------------------------------------------------------------------------------------------


def read_crop_layer(file: Path) -> Marks | None:
    """The tags of a layer that :func:`write_crop_layer` wrote, or of what a GIS program made of it; None of others.

    Rows whose ``is_CLASS`` are all empty are left out: nobody has tagged them.

    Raises:
        DataError: a word that is none, numbers that are none, or a file that cannot be read.
    """
    rows = [row for row in attributes_of(file) if {"area", *WINDOW} <= set(row)]
    flags = [key for key in (rows[0] if rows else {}) if key.startswith(_PREFIX)]
    if not rows or not flags:
        return None
    marks = Marks(file, several=True, offered=())
    for number, row in enumerate(rows):
        place = f"{file}: row {number + 1}"
        states = {key.removeprefix(_PREFIX): _state(place, key, row[key]) for key in flags if row.get(key)}
        if not states:
            marks.notes["crop(s) nobody has tagged"] += 1
            continue
        said = {state: tuple(name for name, one in states.items() if one is state) for state in WORDS.values()}
        area, window = str(row["area"]), _window(place, row)
        size = row.get("area_height"), row.get("area_width")
        raster = (int(size[0]), int(size[1])) if isinstance(size[0], int) and isinstance(size[1], int) else None
        who = str(row.get("annotator") or "")
        marks.rows.append(Mark(place, "", said[True], said[None], said[False], who, area, window, raster=raster))
    return marks


def attributes_of(file: Path) -> list[dict[str, Any]]:
    """Columns by name of every row of every layer, without geometry."""
    if file.suffix.lower() not in VECTOR_SUFFIXES:
        content = read_json(file)
        features = content.get("features") if isinstance(content, dict) else None
        listed = features if isinstance(features, list) else []
        rows = [row.get("properties") for row in listed if isinstance(row, dict)]
        return [row for row in rows if isinstance(row, dict)]
    from pyogrio import list_layers, raw
    from pyogrio.errors import DataLayerError, DataSourceError

    found: list[dict[str, Any]] = []
    try:
        for layer, kind in list_layers(file):
            if kind is not None:
                meta, _, _, columns = raw.read(file, layer=layer, read_geometry=False)
                table = [column.tolist() for column in columns]
                found += [dict(zip(meta["fields"], row, strict=True)) for row in zip(*table, strict=True)]
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise DataError(
            f"{file}: {' '.join(str(error).split())}", expected="a layer of a GIS program", cure="export it again"
        ) from error
    return found


def _state(place: str, key: str, word: Any) -> bool | None:
    if not isinstance(word, str) or word not in WORDS:
        raise DataError(f"{place}: {key} {word!r}", expected="yes, no, unknown or empty", cure="mend it")
    return WORDS[word]


def _window(place: str, row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    numbers = [row[name] for name in WINDOW]
    if not all(isinstance(number, int) or (isinstance(number, float) and number.is_integer()) for number in numbers):
        raise DataError(f"{place}: window {numbers}", expected="four whole numbers", cure="leave these columns alone")
    top, left, height, width = (int(number) for number in numbers)
    return top, left, height, width
