"""`weakseg areas`: how much of each class there is, on the whole map and in each polygon of a layer, with intervals."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.evaluation.class_areas import AdjustedAreas, adjust_for_areas, adjust_for_sample
from weakseg.evaluation.metrics import Confusion, to_json
from weakseg.evaluation.reports import order_among, read_evaluation
from weakseg.labels.projection import PIECE
from weakseg.maps.legend import read_legend
from weakseg.maps.vector_files import only_layer
from weakseg.raster.zones import crs_of, value_areas

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

WHOLE: Final = "whole map"
_MOST_POINTS: Final = 100_000  # a person can look at; a table of more is of pixels


@dataclass(frozen=True)
class ClassArea:
    """One class in one zone; m2, the hectares beside them are for readers. NaN where it cannot be told.

    Attributes:
        mapped: what the map shows.
        adjusted, error, low, high: what lies there when the map's errors are taken into account: estimate, standard
            error and 95 % interval.
    """

    zone: str
    name: str
    mapped: float
    adjusted: float = math.nan
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class AreaTable:
    """Everything that was found.

    Attributes:
        rows: of the whole map, then of each polygon, class after class.
        covered: share of each zone's own area that the map has data for; 1 for the whole map.
        notes: what a reader should know first.
    """

    rows: tuple[ClassArea, ...]
    covered: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """What is known of a map's errors: int64 (C, C) matrices, rows truth, of areas, or one of single points."""

    confusions: tuple[Confusion, ...]
    points: bool

    def adjust(self, mapped: npt.NDArray[np.float64]) -> AdjustedAreas:
        """Error-adjusted areas of a zone."""
        return (
            adjust_for_sample(mapped, self.confusions[0]) if self.points else adjust_for_areas(mapped, self.confusions)
        )


def measure_areas(
    map_file: Path, zones: Path | None = None, *, errors: Path | None = None, name: str | None = None
) -> AreaTable:
    """Class areas of a map that ``weakseg predict`` wrote.

    Args:
        zones: polygons in any format that GDAL reads, in any CRS.
        errors: reports/evaluate/SOURCE.json of the model, whose validation areas are the units, or a CSV of the
            confusion of points that were drawn at random and looked at (header and first column: class names; rows
            truth, columns map). Without it areas are those of the map.
        name: column of ``zones`` that names them; without it they are numbered from 1.

    Raises:
        DataError: a file that is not what it should be, or classes that do not fit.
    """
    names = read_legend(map_file).names
    reference = None if errors is None else read_reference(errors, names)
    shapes, titles, true_sizes = ([], [], []) if zones is None else read_zones(zones, map_file, name)
    found = value_areas(map_file, len(names), shapes)
    rows, notes = [], []
    for title, mapped in zip([WHOLE, *titles], found, strict=True):
        adjusted = reference.adjust(mapped) if reference is not None and mapped.sum() > 0 else None
        if adjusted is not None and adjusted.unseen:
            unseen = ", ".join(names[index] for index in adjusted.unseen)
            notes.append(f"{title}: not corrected, the reference has nothing that was mapped as {unseen}")
        rows += _rows(title, names, mapped, adjusted)
    if reference is None:
        notes.append("Areas are those of the map; pass --errors to correct them for its errors.")
    elif len(reference.confusions) == 1 and not reference.points:
        notes.append("One validation area leaves no interval.")
    shares = [mapped.sum() / size for mapped, size in zip(found[1:], true_sizes, strict=True)]
    return AreaTable(tuple(rows), {WHOLE: 1.0, **dict(zip(titles, map(float, shares), strict=True))}, tuple(notes))


def _rows(
    zone: str, names: Sequence[str], mapped: npt.NDArray[np.float64], adjusted: AdjustedAreas | None
) -> list[ClassArea]:
    if adjusted is None:
        return [ClassArea(zone, name, float(area)) for name, area in zip(names, mapped, strict=True)]
    columns = (mapped, adjusted.areas, adjusted.errors, adjusted.low, adjusted.high)
    return [ClassArea(zone, name, *map(float, values)) for name, *values in zip(names, *columns, strict=True)]


def read_reference(path: Path, names: Sequence[str]) -> Reference:
    """The confusion of a map with these classes, from a report of evaluate (.json) or a table of points (.csv).

    Raises:
        DataError, StageError: another file, or other classes.
    """
    if path.suffix.lower() == ".json":
        return Reference(tuple(read_evaluation(path).aligned_to(names, str(path)).confusions.values()), False)
    if path.suffix.lower() != ".csv":
        raise DataError(
            f"{path} is neither JSON nor CSV",
            expected="reports/evaluate/SOURCE.json, or a .csv of the confusion of points",
            cure="pass one of them",
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *lines = [line for line in csv.reader(file) if any(line)]
        table = {line[0]: [int(cell) for cell in line[1:]] for line in lines}
        counts = np.array(list(table.values()), np.int64)
        rows, columns = (order_among(each, names, str(path)) for each in (list(table), head[1:]))
        counts = counts[np.ix_(rows, columns)]
    except (ValueError, IndexError, OSError) as error:
        raise DataError(
            f"{path} is no confusion matrix ({error})",
            expected="class names in the first row and column, whole numbers elsewhere",
            cure="write rows as truth and columns as map",
        ) from error
    if counts.sum() > _MOST_POINTS:
        raise DataError(
            f"{path} counts {counts.sum()} units",
            expected=f"points that were drawn one by one, at most {_MOST_POINTS}",
            cure="for a table of pixels pass reports/evaluate/SOURCE.json, whose areas are the units",
        )
    return Reference((counts,), True)


def read_zones(path: Path, map_file: Path, column: str | None) -> tuple[list[Any], list[str], list[float]]:
    """(polygons in the CRS of the map, their names, their areas on the ground in m2) of a vector file.

    Raises:
        DataError: no such file or column, no CRS, no polygons, or two of one name.
    """
    import geopandas
    from pyogrio.errors import DataSourceError

    try:
        frame = geopandas.read_file(path, layer=only_layer(path))
    except (DataSourceError, OSError) as error:
        raise DataError(f"{path}: {error}", expected="a vector file that GDAL reads", cure="check the path") from error
    if frame.crs is None:
        raise DataError(
            f"{path} has no CRS", expected="one, to lay it over the map", cure="assign it with ogr2ogr -a_srs"
        )
    if frame.empty or not set(frame.geom_type) <= {"Polygon", "MultiPolygon"}:
        kinds = ", ".join(sorted(map(str, set(frame.geom_type)))) or "nothing"
        raise DataError(f"{path} holds {kinds}", expected="polygons", cure="leave the rest out with ogr2ogr -where")
    titles = _titles(frame, path, column)
    from pyproj import Geod

    earth = Geod(ellps="WGS84")
    sizes = [abs(earth.geometry_area_perimeter(shape)[0]) for shape in frame.to_crs("EPSG:4326").geometry]
    pieces = frame.make_valid().segmentize(PIECE[frame.crs.is_geographic])  # a straight side may be bent elsewhere
    crs = crs_of(map_file)
    return list(pieces if crs is None else pieces.to_crs(crs)), titles, sizes


def _titles(frame: GeoDataFrame, path: Path, column: str | None) -> list[str]:
    if column is None:
        return [str(number) for number in range(1, len(frame) + 1)]
    known = [name for name in frame.columns if name != frame.geometry.name]
    if column not in known:
        raise DataError(
            f"{path} has no column {column!r}", expected=f"one of {', '.join(known) or 'none'}", cure="mend --name"
        )
    titles = [str(value) for value in frame[column]]
    if twice := next((title for title in titles if titles.count(title) > 1 or title == WHOLE), None):
        raise DataError(
            f"{path}: {column} is {twice!r} more than once",
            expected="a name for each",
            cure="dissolve, or take another column",
        )
    return titles


def write_csv(path: Path, table: AreaTable) -> None:
    """A row per zone and class: m2, hectares beside them, empty where undefined."""
    columns = ("mapped", "adjusted", "error", "low", "high")
    head = ["zone", "covered", "class", *(f"{name}_{unit}" for unit in ("m2", "ha") for name in columns)]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(head)
        for row in table.rows:
            values = [getattr(row, name) for name in columns]
            cells = ["" if math.isnan(v) else f"{v / size:.4f}" for size in (1, 10_000) for v in values]
            out.writerow([row.zone, f"{table.covered[row.zone]:.4f}", row.name, *cells])


def write_json(path: Path, table: AreaTable, *, map_file: Path, errors: Path | None) -> None:
    """The same with its notes; areas in m2, null where undefined."""
    content = {
        "map": str(map_file),
        "errors": None if errors is None else str(errors),
        "notes": list(table.notes),
        "zones": [
            {
                "zone": zone,
                "covered": share,
                "classes": [
                    {key: value for key, value in asdict(row).items() if key != "zone"}
                    for row in table.rows
                    if row.zone == zone
                ],
            }
            for zone, share in table.covered.items()
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_json(content), indent=1) + "\n")


def table_text(table: AreaTable) -> str:
    """Markdown, hectares, for the terminal."""
    lines = ["| zone | class | mapped, ha | on the ground, ha | 95 % |", "| --- | --- | --- | --- | --- |"]
    for row in table.rows:
        adjusted = "-" if math.isnan(row.adjusted) else f"{row.adjusted / 1e4:.4g}"
        limits = "-" if math.isnan(row.low) else f"{row.low / 1e4:.4g} to {row.high / 1e4:.4g}"
        lines.append(f"| {row.zone} | {row.name} | {row.mapped / 1e4:.4g} | {adjusted} | {limits} |")
    partly = [f"{z}: the map covers {s:.0%} of it" for z, s in table.covered.items() if s < 0.99]
    return "\n".join([*lines, "", *table.notes, *partly])
