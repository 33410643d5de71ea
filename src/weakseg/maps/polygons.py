"""A map of classes as polygons: patches outlined block by block, whole across blocks, neighbours on shared edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.maps.blocks import Labels, Patches, label_patches, rows_of_blocks
from weakseg.maps.ground import ground_areas
from weakseg.maps.legend import read_legend
from weakseg.maps.outlines import outline_block
from weakseg.maps.patches import SIDE, MapReader, find_patches, open_map
from weakseg.maps.regular import regularise
from weakseg.maps.vector_files import check_suffix, polygon_file
from weakseg.raster.georeference import ground_distance

_FULL: Final = 254  # pixel value of a confidence of 1
_SMALL: Final = 16  # px, of the smallest polygon unless asked
_BATCH: Final = 20_000  # polygons that are written at a time


@dataclass(frozen=True)
class PolygonOptions:
    """How a map becomes polygons.

    Attributes:
        tolerance: of the simplification, px: the root of the area of the triangles that may go; 0 keeps every corner.
        min_area: m2 (px where the map has no CRS); smaller patches go to the neighbour that they touch most; None is
            16 px, 0 keeps all.
        min_gap: m2 (px); smaller holes without data are filled by the neighbour that they touch most.
        regular: classes whose polygons get right angles; these no longer share edges with their neighbours.
    """

    tolerance: float = 1.0
    min_area: float | None = None
    min_gap: float = 0.0
    regular: tuple[str, ...] = ()


def write_polygons(
    classes: Path,
    target: Path,
    *,
    confidence: Path | None = None,
    options: PolygonOptions | None = None,
    side: int = SIDE,
) -> int:
    """Write the patches of a map as polygons; returns their number.

    Columns: ``value`` (index of the class), ``name``, ``area_m2`` (on the ground; ``area_px`` where the map has no
    CRS), ``confidence`` (mean over the pixels, 0 to 1, if asked for). Memory does not grow with the map but with the
    number of its patches and the length of the outlines that reach over several rows of blocks.

    Args:
        classes: a map that ``weakseg predict`` wrote; pixels without data are in no polygon.
        target: .gpkg (layer ``classes``), .parquet, .fgb or .geojson.
        confidence: the layer that was predicted with the map.
        side: of the blocks, px.

    Raises:
        DataError: a map or confidence that is none.
        ParamsError: another suffix or option.
    """
    chosen = options or PolygonOptions()
    check_suffix(target)
    scheme = read_legend(classes)
    _check(chosen, scheme)
    with open_map(classes, confidence, side=side) as reader:
        pixel = ground_distance(reader.crs, reader.transform, reader.height, reader.width) or 1.0
        smallest, smallest_gap = _in_pixels(chosen, pixel**2)
        measure = "area_px" if reader.crs is None else "area_m2"
        columns = ("value", "name", measure, *(["confidence"] if confidence else []))
        table = _Table(scheme, reader.crs, columns, chosen.regular, pixel)
        empty = table.frame([], np.zeros(0, int), np.zeros(0))
        with polygon_file(target, columns, table.crs, empty, scheme=scheme) as file:
            patches, sides, starts = find_patches(reader, smallest=smallest, smallest_gap=smallest_gap)
            means = patches.sums / np.maximum(1, patches.counts) / _FULL
            means[patches.counts == 0] = np.nan
            outlines = _outlines(reader, patches, sides, starts, chosen.tolerance)
            for numbers, polygons in _batches(outlines):
                placed = _place(polygons, reader.transform)
                file.append(table.frame(placed, patches.codes[numbers], means[numbers]))
        return file.rows


def _check(options: PolygonOptions, scheme: ClassScheme) -> None:
    for name in options.regular:
        scheme.index(name)
    if min(options.tolerance, options.min_area or 0, options.min_gap) < 0:
        raise ParamsError(
            f"tolerance {options.tolerance}, min_area {options.min_area}, min_gap {options.min_gap}",
            expected="0 or more",
            cure="mend it",
        )


def _in_pixels(options: PolygonOptions, pixel: float) -> tuple[int, int]:
    """The least px of a patch and of a gap; ``pixel`` is the area of one."""
    smallest = _SMALL if options.min_area is None else int(np.ceil(options.min_area / pixel - 1e-6))
    return smallest, int(np.ceil(options.min_gap / pixel - 1e-6))


def _outlines(
    reader: MapReader, patches: Patches, sides: Any, starts: Sequence[int], tolerance: float
) -> Iterator[tuple[Labels, Any]]:
    """(patches, their polygons in px), each patch once, as soon as the last row of blocks that it reaches is read."""
    waiting: dict[int, list[Any]] = {}
    for number, row in enumerate(rows_of_blocks(reader.blocks)):
        for block in row:
            labels, _ = label_patches(reader.read(block))
            inner = patches.of_piece[starts[block.number] :][labels]
            framed = sides.surround(block, inner, patches.of_piece)
            found, polygons = outline_block(framed, block, tolerance)
            for patch, polygon in zip(found.tolist(), polygons, strict=True):
                if patches.codes[patch] != IGNORE:
                    waiting.setdefault(patch, []).append(polygon)
        done = [patch for patch in waiting if patches.last[patch] == number]
        yield np.array(done, np.int32), np.array([_join(waiting.pop(patch)) for patch in done], object)
        waiting = {patch: [_join(parts)] for patch, parts in waiting.items()}


def _join(parts: list[Any]) -> Any:
    """One polygon of the parts of a patch, which share edges and no more."""
    import shapely

    return parts[0] if len(parts) == 1 else shapely.coverage_union_all(parts)


def _batches(outlines: Iterator[tuple[Labels, Any]]) -> Iterator[tuple[Labels, Any]]:
    for numbers, polygons in outlines:
        for start in range(0, len(numbers), _BATCH):
            yield numbers[start : start + _BATCH], polygons[start : start + _BATCH]


def _place(polygons: Any, transform: Any) -> Any:
    """Polygons in px -> the same on the ground."""
    import shapely

    matrix = np.array([[transform.a, transform.b], [transform.d, transform.e]])
    corner = np.array([transform.c, transform.f])
    return shapely.transform(polygons, lambda places: places @ matrix.T + corner)


@dataclass(frozen=True)
class _Table:
    """How polygons become rows."""

    scheme: ClassScheme
    raster_crs: Any
    columns: tuple[str, ...]
    regular: tuple[str, ...]
    pixel: float

    @property
    def crs(self) -> Any:
        from pyproj import CRS

        return None if self.raster_crs is None else CRS.from_user_input(self.raster_crs.to_wkt())

    def frame(self, polygons: Any, codes: npt.NDArray[np.integer], means: npt.NDArray[np.float64]) -> Any:
        """A GeoDataFrame of polygons with their classes and mean confidences."""
        import geopandas
        import shapely

        placed = np.asarray(polygons, object)
        wanted = np.isin(codes, [self.scheme.index(name) for name in self.regular])
        if wanted.any():
            placed[wanted] = regularise(placed[wanted], self.crs, self.pixel)
        areas = shapely.area(placed) if self.crs is None else ground_areas(placed, self.crs)
        columns = {
            "value": np.asarray(codes, np.int32),
            "name": [self.scheme.names[code] for code in codes],
            self.columns[2]: areas,
            "confidence": np.round(means, 4),
        }
        kept = {name: columns[name] for name in self.columns}
        return geopandas.GeoDataFrame(kept, geometry=geopandas.GeoSeries(list(placed), crs=self.crs), crs=self.crs)
