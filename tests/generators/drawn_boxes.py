"""Drawn objects over one or several tiles, written as GeoJSON or COCO, and the boxes and constraints that come of them.

Objects are drawn in px of one canvas, on which the tiles lie; rasterio burns them, so that every px of an object is
known. No such px may be forbidden to its class, and rectangles must come back as the very boxes that were drawn.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely
from hypothesis import strategies as st
from rasterio.features import rasterize
from tests.generators.drawn_images import placeless
from tests.generators.outcomes import Outcome, crash, refusal

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import WeaksegError
from weakseg.labels.box_files import import_boxes, read_boxes
from weakseg.labels.box_table import BoxTable, allowed_by_boxes
from weakseg.raster.header import read_info

SCHEME = ClassScheme(("impervious_surface", "building", "car"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
SYSTEMS = {"EPSG:25832": (500000.0, 5300000.0, 0.5), "EPSG:32733": (399960.0, 8300040.0, 10.0)}
SHAPES = ("rectangle", "rectangle", "rectangle", "triangle", "l_shape", "ring", "parts")
CODINGS = ("geojson_crs", "geojson_urn", "geojson_lonlat", "geojson_other_utm", "geojson_4326", "gpkg", "shp", "fgb")
CODINGS += ("coco",) * 4
COCO_NAMES = ("{}.tif", "images/{}.png", "{}_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "0a1b2c3d-{}.tif")
Polygon = list[list[tuple[float, float]]]  # rings of (column, row), px
Edges = tuple[float, float, float, float]  # left, upper, right, lower; px


@dataclass(frozen=True)
class Tile:
    """A raster of the canvas: its name, and its upper left corner and size in px."""

    name: str
    column: int
    row: int
    width: int
    height: int


@dataclass(frozen=True)
class Drawn:
    """An object: one polygon, or several of one class dissolved into one feature."""

    name: str
    shape: str
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True)
class BoxCase:
    """Objects over tiles, and how they are written; ``odd`` names what is unusual about them."""

    tiles: tuple[Tile, ...]
    objects: tuple[Drawn, ...]
    coding: str
    crs: str
    turned: bool
    class_key: str
    odd: frozenset[str]
    details: tuple[tuple[str, Any], ...]

    @property
    def coco(self) -> bool:
        """Whether objects are written in px of their tiles."""
        return self.coding == "coco"

    @property
    def plain(self) -> bool:
        """Whether the file is plainly valid and has to be taken."""
        return not self.odd and any(_touches(tile, p) for tile in self.tiles for o in self.objects for p in o.polygons)

    @property
    def traits(self) -> tuple[str, ...]:
        """What the case is counted under."""
        touched = [sum(_touches(t, p) for t in self.tiles) for o in self.objects for p in o.polygons]
        return (
            f"odd: {', '.join(sorted(self.odd)) or 'nothing'}",
            f"coding: {self.coding}",
            f"tiles: {len(self.tiles)}",
            f"grid: {'turned' if self.turned else 'north up'}",
            *sorted({f"object: {o.shape}" for o in self.objects}),
            *(["object: across a seam"] if max(touched) > 1 else []),
            *(["object: outside all tiles"] if min(touched) == 0 else []),
            *sorted({f"coco: {key} {value}" for key, value in self.details if self.coco}),
        )

    @property
    def transform(self) -> tuple[float, ...]:
        """(a, b, c, d, e, f) of the canvas."""
        x, y, size = SYSTEMS[self.crs]
        return (0.8 * size, 0.6 * size, x, 0.6 * size, -0.8 * size, y) if self.turned else (size, 0.0, x, 0.0, -size, y)


def _touches(tile: Tile, polygon: Polygon) -> bool:
    here = shapely.box(tile.column, tile.row, tile.column + tile.width, tile.row + tile.height)
    return bool(shapely.Polygon(polygon[0], polygon[1:]).intersection(here).area > 1e-6)


def _ring(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


@st.composite
def _objects(draw: st.DrawFn, columns: int, rows: int, shapes: tuple[str, ...], reach: int) -> Drawn:
    """An object whose edges lie on quarters of px, up to ``reach`` px beyond the canvas."""
    shape = draw(st.sampled_from(shapes))
    polygons = []
    for _ in range(draw(st.integers(2, 3)) if shape == "parts" else 1):
        left = draw(st.integers(-4 * reach, 4 * columns - 12)) / 4
        top = draw(st.integers(-4 * reach, 4 * rows - 12)) / 4
        right, bottom = left + draw(st.integers(5, 60)) / 4, top + draw(st.integers(5, 40)) / 4
        right, bottom = min(right, columns + reach), min(bottom, rows + reach)
        middle, centre = (left + right) / 2, (top + bottom) / 2
        rings = [_ring(left, top, right, bottom)]
        if shape == "triangle":
            rings = [[(left, bottom), (right, bottom), (middle, top), (left, bottom)]]
        elif shape == "l_shape":
            corners = [(right, bottom), (right, centre), (middle, centre), (middle, top)]
            rings = [[(left, top), (left, bottom), *corners, (left, top)]]
        elif shape == "ring":
            rings.append(_ring((left + middle) / 2, (top + centre) / 2, (middle + right) / 2, (centre + bottom) / 2))
        polygons.append(rings)
    return Drawn(draw(st.sampled_from(SCHEME.names[1:])), shape, tuple(polygons))


@st.composite
def box_cases(draw: st.DrawFn) -> BoxCase:
    """One to four objects over one to three neighbouring tiles; half of the cases plainly valid."""
    odd = draw(st.sampled_from([frozenset()] * 2 + [frozenset([o]) for o in ("shape", "outside", "turned", "details")]))
    tiles, column = [], 0
    for name in draw(st.sampled_from([("west",), ("west", "east"), ("west", "middle", "east"), ("tile 1", "tile 2")])):
        width = draw(st.integers(12, 24))
        tiles.append(Tile(name, column, 0, width, draw(st.integers(12, 20))))
        column += width
    coding = draw(st.sampled_from(CODINGS))
    shapes = SHAPES if "shape" in odd and coding != "coco" else ("rectangle",)
    reach = 0 if coding == "coco" else 6
    rows = min(tile.height for tile in tiles) + (40 if "outside" in odd and coding != "coco" else 0)
    drawn = draw(st.lists(_objects(column, rows, shapes, reach), min_size=1, max_size=4))
    objects = _distinct(drawn, tiles)
    details: dict[str, Any] = {"names": 0, "ids": "numbers", "root": False, "outline": "bbox"}
    if "details" in odd and coding == "coco":
        details["names"] = draw(st.integers(0, len(COCO_NAMES) - 1))
        details["ids"] = draw(st.sampled_from(["numbers", "texts"]))
        details["root"] = draw(st.booleans())
        details["outline"] = draw(st.sampled_from(["bbox", "polygon", "runs", "bbox_only"]))
    if "details" in odd and coding != "coco":
        details |= {"z": draw(st.booleans()), "reversed": draw(st.booleans())}
        details["file"] = draw(st.sampled_from(["boxes", tiles[0].name])) if len(tiles) == 1 else "boxes"
    key = draw(st.sampled_from(["class", "label", "category", "name"])) if "details" in odd else "class"
    crs = draw(st.sampled_from(sorted(SYSTEMS)))
    return BoxCase(tuple(tiles), objects, coding, crs, "turned" in odd, key, odd, tuple(details.items()))


def _distinct(objects: list[Drawn], tiles: list[Tile]) -> tuple[Drawn, ...]:
    """The objects less those whose box another one of the class has: the same box twice may be refused."""
    seen: set[Any] = set()
    kept = []
    for drawn in objects:
        boxes = {(tile.name, drawn.name, _window(*edges)) for tile in tiles for edges in _hulls(drawn, tile)}
        if not boxes & seen:
            kept.append(drawn)
        seen |= boxes
    return tuple(kept)


def write_tiles(case: BoxCase, folder: Path) -> None:
    """Rasters of the tiles, as ``data/images`` holds them."""
    a, b, c, d, e, f = case.transform
    for tile in case.tiles:
        x, y = c + a * tile.column + b * tile.row, f + d * tile.column + e * tile.row
        profile = {"driver": "GTiff", "height": tile.height, "width": tile.width, "count": 3, "dtype": "uint8"}
        place = {"crs": case.crs, "transform": rasterio.Affine(a, b, x, d, e, y)}
        with placeless(), rasterio.open(folder / f"{tile.name}.tif", "w", **profile, **place) as file:
            file.write(np.zeros((3, tile.height, tile.width), np.uint8))


def geojson(case: BoxCase) -> dict[str, Any]:
    """The objects as a FeatureCollection in the drawn crs."""
    a, b, c, d, e, f = case.transform
    named = {
        "geojson_crs": case.crs,
        "geojson_urn": f"urn:ogc:def:crs:EPSG::{case.crs[5:]}",
        "geojson_lonlat": None,
        "geojson_other_utm": "EPSG:25833" if case.crs == "EPSG:25832" else "EPSG:32734",
        "geojson_4326": "urn:ogc:def:crs:OGC:1.3:CRS84",
    }.get(case.coding, case.crs)
    goal = named if case.coding == "geojson_other_utm" else "OGC:CRS84"
    same = case.coding not in ("geojson_lonlat", "geojson_other_utm", "geojson_4326")
    move = None if same else pyproj.Transformer.from_crs(case.crs, goal, always_xy=True).transform

    details = dict(case.details)

    def place(point: tuple[float, float]) -> list[float]:
        x, y = c + a * point[0] + b * point[1], f + d * point[0] + e * point[1]
        return [*(move(x, y) if move else (x, y)), *([412.5] if details.get("z") else [])]

    features = []
    for number, drawn in enumerate(case.objects):
        polygons = [
            [[place(p) for p in (ring[::-1] if details.get("reversed") else ring)] for ring in polygon]
            for polygon in drawn.polygons
        ]
        kind = "MultiPolygon" if len(polygons) > 1 else "Polygon"
        geometry = {"type": kind, "coordinates": polygons if len(polygons) > 1 else polygons[0]}
        properties: dict[str, Any] = {case.class_key: drawn.name}
        if "details" in case.odd:
            properties |= {"area": 12.5 + number, "id": number}  # square metres, as GIS programs name them
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    return content | ({"crs": {"type": "name", "properties": {"name": named}}} if named else {})


def write_boxes(case: BoxCase, folder: Path) -> Path:
    """The file with the objects."""
    stem = dict(case.details).get("file", "boxes")
    if case.coco or case.coding.startswith("geojson"):
        path = folder / f"{stem}.{'json' if case.coco else 'geojson'}"
        path.write_text(json.dumps(coco(case) if case.coco else geojson(case)), encoding="utf-8")
        return path
    path = folder / f"{stem}.{case.coding}"
    frame = geopandas.GeoDataFrame.from_features(geojson(case)["features"], crs=case.crs)
    driver = {"gpkg": "GPKG", "shp": "ESRI Shapefile", "fgb": "FlatGeobuf"}[case.coding]
    frame.to_file(path, driver=driver)
    return path


def coco(case: BoxCase) -> dict[str, Any]:
    """What of the objects lies in each tile, as COCO JSON in px of the tile."""
    details = dict(case.details)
    number = str if details["ids"] == "texts" else int
    images, annotations = [], []
    for i, tile in enumerate(case.tiles):
        name = COCO_NAMES[details["names"]].format(tile.name.replace(" ", "_") if details["names"] == 2 else tile.name)
        images.append({"id": number(i), "file_name": name, "height": tile.height, "width": tile.width})
        images[-1] |= {"extra": {"name": f"{tile.name}.jpg"}} if details["names"] == 2 else {}
        for name, (left, top, right, bottom) in sorted(_clipped(case, tile)):
            category = SCHEME.names.index(name) + 1
            row = {"id": len(annotations), "image_id": number(i), "category_id": number(category), "iscrowd": 0}
            row |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            if details["outline"] in ("polygon", "bbox"):
                row["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
            elif details["outline"] == "runs":
                row |= {"segmentation": _runs(left, top, right, bottom, tile), "iscrowd": 1}
            if details["outline"] == "polygon":
                del row["bbox"]
            annotations.append(row)
    categories = [{"id": number(i + 1), "name": name} for i, name in enumerate(SCHEME.names)]
    if details["root"]:
        categories = [row | {"supercategory": "things"} for row in categories]
        categories.insert(0, {"id": number(0), "name": "things", "supercategory": "none"})
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _clipped(case: BoxCase, tile: Tile) -> list[tuple[str, Edges]]:
    """(class, hull in px of the tile) of every part of an object that has an area in it."""
    return [(drawn.name, edges) for drawn in case.objects for edges in _hulls(drawn, tile)]


def _hulls(drawn: Drawn, tile: Tile) -> list[Edges]:
    found = []
    for polygon in drawn.polygons:
        if _touches(tile, polygon):
            left, top, right, bottom = shapely.Polygon(polygon[0], polygon[1:]).bounds
            left, right = max(left - tile.column, 0), min(right - tile.column, tile.width)
            top, bottom = max(top - tile.row, 0), min(bottom - tile.row, tile.height)
            found.append((left, top, right, bottom))
    return found


def _runs(left: float, top: float, right: float, bottom: float, tile: Tile) -> dict[str, Any]:
    plane = np.zeros((tile.height, tile.width), np.uint8)
    plane[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = 1
    flat = np.concatenate([[0], plane.T.ravel(), [2]])
    changes = np.flatnonzero(np.diff(flat))
    return {"size": [tile.height, tile.width], "counts": np.diff([0, *changes]).tolist()}


def check_boxes(case: BoxCase) -> Outcome:
    """Write tiles and file, import the boxes, and compare them and the constraints with what was drawn."""
    with tempfile.TemporaryDirectory(prefix="drawn-") as name:
        folder = Path(name)
        write_tiles(case, folder)
        infos = {tile.name: read_info(folder / f"{tile.name}.tif") for tile in case.tiles}
        source = write_boxes(case, folder)
        try:
            import_boxes([source], folder / "out.json", SCHEME, infos)
            sizes = {tile.name: (tile.height, tile.width) for tile in case.tiles}
            table = read_boxes(folder / "out.json", SCHEME, sizes)
        except WeaksegError as error:
            return refusal(error)
        except Exception as error:  # whatever it is, it is no sentence
            return crash(error)
        different = difference(case, table)
        return Outcome("silent", different) if different else Outcome("equal")


def difference(case: BoxCase, table: BoxTable) -> str:
    """What differs between the boxes and what was drawn; empty where nothing does."""
    for tile in case.tiles:
        mine = table.of(tile.name)
        searched = table.searched.get(tile.name, ())
        may = allowed_by_boxes(tile.height, tile.width, mine, searched, SCHEME).planes()
        for drawn in case.objects:
            lost = _pixels(drawn, tile) & ~may[SCHEME.index(drawn.name)]
            if lost.any():
                return f"{lost.sum()} px of a {drawn.name} are forbidden in {tile.name}"
        found = Counter((box.name, box.window) for box in mine)
        wanted = Counter((name, _window(*edges)) for name, edges in _clipped(case, tile))
        if all(drawn.shape in ("rectangle", "parts", "ring") for drawn in case.objects) and not case.turned:
            # the same box twice is one object, drawn twice
            if set(found) != set(wanted):
                return f"{tile.name} has {sorted(set(found) - set(wanted))}, lacks {sorted(set(wanted) - set(found))}"
        elif sum(found.values()) > sum(wanted.values()):
            return f"{tile.name} has {sum(found.values())} boxes of {sum(wanted.values())} objects"
        crowds = any(box.crowd for box in mine)
        if crowds and dict(case.details)["outline"] != "runs":
            return f"{tile.name} has crowd regions, although none was drawn"
    return ""


def _window(left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
    """Row, column, height, width of the whole px that a rectangle touches."""
    first, upper = math.floor(left), math.floor(top)
    return upper, first, math.ceil(bottom) - upper, math.ceil(right) - first


def _pixels(drawn: Drawn, tile: Tile) -> npt.NDArray[np.bool_]:
    """bool (H, W): px of the tile whose middle lies in the object."""
    shapes = [{"type": "Polygon", "coordinates": polygon} for polygon in drawn.polygons]
    place = rasterio.Affine.translation(tile.column, tile.row)
    plane = rasterize(shapes, (tile.height, tile.width), transform=place, all_touched=False)
    return np.asarray(plane, bool)
