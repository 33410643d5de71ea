"""Features become the boxes of the rasters that they lie in: kinds of geometry, CRSs, seams, names of areas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ImportProblems
from weakseg.labels.box_files import ImportedBoxes, import_boxes
from weakseg.labels.box_reading import BoxReading
from weakseg.labels.box_table import Box, allowed_by_boxes
from weakseg.labels.geojson import crs_name, read_geojson
from weakseg.raster.header import RasterInfo

X, Y, GSD = 500000.0, 5300000.0, 0.5
UTM32 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}


@pytest.fixture(scope="module")
def utm() -> str:
    from rasterio.crs import CRS

    return str(CRS.from_user_input("EPSG:25832").to_wkt())


@pytest.fixture(scope="module")
def tiles(utm: str) -> dict[str, RasterInfo]:
    """Two neighbours of 100 x 100 px, 50 m."""
    return {
        name: RasterInfo(100, 100, 3, "uint8", utm, (GSD, 0.0, X + 50 * index, 0.0, -GSD, Y))
        for index, name in enumerate(("west", "east"))
    }


def ring(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A rectangle of px of the mosaic as a ring on the ground."""
    x0, x1, y0, y1 = X + left * GSD, X + right * GSD, Y - top * GSD, Y - bottom * GSD
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def polygon(*edges: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*edges)]}


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"class": "building", **properties}, "geometry": geometry}


def read(
    tmp_path: Path, areas: dict[str, RasterInfo], *features: Any, name: str = "x", crs: Any = UTM32, **options: Any
) -> ImportedBoxes:
    content = {"type": "FeatureCollection", "features": list(features)} | ({"crs": crs} if crs else {})
    path = tmp_path / f"{name}.geojson"
    path.write_text(json.dumps(content))
    return import_boxes([path], tmp_path / "boxes.json", ISPRS, areas, replace=True, **options)


def windows(found: ImportedBoxes) -> dict[str, list[tuple[int, int, int, int]]]:
    return {area: [box.window for box in found.of(area)] for area in dict.fromkeys(box.area for box in found.boxes)}


def refusal(tmp_path: Path, areas: dict[str, RasterInfo], *features: Any, **options: Any) -> str:
    with pytest.raises(ImportProblems) as error:
        read(tmp_path, areas, *features, **options)
    return str(error.value)


HERE = polygon(20, 20, 40, 40)
OUTSIDE = polygon(1000, 20, 1020, 40)


# ---- kinds of geometry ----------------------------------------------------------------------------------------------


def test_each_part_of_a_dissolved_multipolygon_is_a_box(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[ring(4, 4, 14, 14)], [ring(80, 84, 90, 94)]]}
    assert windows(read(tmp_path, tiles, feature(parts))) == {"west": [(4, 4, 10, 10), (84, 80, 10, 10)]}


def test_a_collection_gives_its_polygons_and_counts_the_rest(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    point, line = {"type": "Point", "coordinates": [X, Y]}, {"type": "LineString", "coordinates": [[X, Y], [X, Y - 9]]}
    inner = {"type": "GeometryCollection", "geometries": [polygon(50, 50, 60, 60), line]}
    found = read(tmp_path, tiles, feature({"type": "GeometryCollection", "geometries": [HERE, point, inner]}))
    assert windows(found) == {"west": [(20, 20, 20, 20), (50, 50, 10, 10)]}
    assert "2 point(s) and line(s) of geometry collections skipped" in found.notices[0]
    only = feature({"type": "GeometryCollection", "geometries": [point, line]})
    assert "feature 1: geometry GeometryCollection; expected a Polygon" in refusal(tmp_path, tiles, feature(HERE), only)


def test_a_null_geometry_is_counted_and_skipped(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    found = read(tmp_path, tiles, feature(HERE), feature(None), feature(None))
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert "2 feature(s) without a geometry skipped" in found.notices[0]


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"type": "Point", "coordinates": [X, Y]}, "geometry Point; expected a Polygon"),
        ({"type": "LineString", "coordinates": ring(1, 1, 4, 4)}, "geometry LineString; expected a Polygon"),
        ({"type": "Polygon", "coordinates": [[[X, Y], [X + 5, Y], [X + 9, Y], [X, Y]]]}, "a polygon without an area"),
        (
            {"type": "Polygon", "coordinates": [[[X, Y], [X + 5, math.nan], [X + 9, Y - 3], [X, Y]]]},
            "a corner that is none (not finite)",
        ),
        ({"type": "Polygon", "coordinates": [[[X, Y], ["five", Y], [X + 9, Y - 3], [X, Y]]]}, "a corner that is none"),
        ({"type": "Blob", "coordinates": [[[X, Y]]]}, "a corner that is none in geometry Blob"),
    ],
)
def test_what_is_no_polygon_is_refused(
    tmp_path: Path, tiles: dict[str, RasterInfo], geometry: Any, message: str
) -> None:
    assert f"feature 1: {message}" in refusal(tmp_path, tiles, feature(HERE), feature(geometry))


@pytest.mark.parametrize("geometry", [{}, 0, "POLYGON", [], {"type": "GeometryCollection", "geometries": []}])
def test_a_geometry_that_is_none_is_no_null(tmp_path: Path, tiles: dict[str, RasterInfo], geometry: Any) -> None:
    assert "feature 0: " in refusal(tmp_path, tiles, feature(geometry))


def test_a_ring_that_crosses_itself_is_one_object(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    (a, b, c, d, _) = ring(20, 20, 40, 40)
    assert windows(read(tmp_path, tiles, feature({"type": "Polygon", "coordinates": [[a, c, b, d, a]]}))) == {
        "west": [(20, 20, 20, 20)]
    }


def test_a_raster_inside_the_hole_of_an_object_has_no_box(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    around = {"type": "Polygon", "coordinates": [ring(-50, -50, 150, 150), ring(-1, -1, 101, 101)]}
    assert windows(read(tmp_path, tiles, feature(around))) == {"east": [(0, 1, 100, 49)]}


def test_two_polygons_with_one_box_are_one(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    """Land cover drawn edge to edge: both triangles of a tile have the whole of it for their hull."""
    a, b, c, d, _ = ring(0, 0, 100, 100)
    halves = [feature({"type": "Polygon", "coordinates": [points]}) for points in ([a, b, c, a], [a, c, d, a])]
    found = read(tmp_path, tiles, *halves)
    assert windows(found) == {"west": [(0, 0, 100, 100)]}
    assert "1 box(es) of polygons that others have as well" in found.notices[0]


# ---- seams, overlaps, rims ------------------------------------------------------------------------------------------


def test_an_object_across_the_seam_is_a_box_in_each_tile(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    found = read(tmp_path, tiles, feature(polygon(80, 20, 116, 40)), feature(polygon(160, 20, 180, 40)))
    assert windows(found) == {"west": [(20, 80, 20, 20)], "east": [(20, 0, 20, 16), (20, 60, 20, 20)]}
    assert found.searched == {"west": ("building",), "east": ("building",)}


def test_an_object_that_ends_at_the_seam_is_in_one_tile(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    assert windows(read(tmp_path, tiles, feature(polygon(80, 20, 100.0004, 40)))) == {"west": [(20, 80, 20, 20)]}


def test_overlapping_tiles_have_a_box_each(tmp_path: Path, utm: str) -> None:
    areas = {
        name: RasterInfo(100, 100, 3, "uint8", utm, (GSD, 0.0, X + shift * GSD, 0.0, -GSD, Y))
        for name, shift in (("a", 0), ("b", 60))
    }
    assert windows(read(tmp_path, areas, feature(polygon(70, 20, 90, 40)))) == {
        "a": [(20, 70, 20, 20)],
        "b": [(20, 10, 20, 20)],
    }


def test_the_box_is_the_hull_of_what_lies_in_the_tile(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    """A diagonal strip: its hull reaches row 10 to 110 and column 60 to 160, each tile has its own end of it."""
    corners = [(60, 10), (70, 10), (160, 100), (150, 100), (60, 10)]
    points = [[X + c * GSD, Y - r * GSD] for c, r in corners]
    found = read(tmp_path, tiles, feature({"type": "Polygon", "coordinates": [points]}))
    assert windows(found) == {"west": [(10, 60, 40, 40)], "east": [(40, 0, 60, 60)]}


def test_fractions_of_pixels_are_rounded_outwards(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    assert windows(read(tmp_path, tiles, feature(polygon(20.4, 19.6, 40.4, 40.01)))) == {"west": [(19, 20, 22, 21)]}


def test_a_turned_raster_encloses_the_polygon_not_its_hull(tmp_path: Path, utm: str) -> None:
    """Pixels at 45 degrees: a diamond on the ground is a square of 20 px; its upright hull would be twice as wide."""
    s = GSD / math.sqrt(2)
    areas = {"turned": RasterInfo(100, 100, 3, "uint8", utm, (s, s, X, s, -s, Y))}
    ground = [[X + s * c + s * r, Y + s * c - s * r] for c, r in ((20, 20), (40, 20), (40, 40), (20, 40), (20, 20))]
    found = read(tmp_path, areas, feature({"type": "Polygon", "coordinates": [ground]}))
    assert windows(found) == {"turned": [(20, 20, 20, 20)]}


# ---- outside --------------------------------------------------------------------------------------------------------


def test_features_outside_are_counted_and_skipped(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    found = read(tmp_path, tiles, feature(HERE), feature(OUTSIDE))
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert "1 of 2 polygon(s) outside the rasters skipped, the first: feature 1" in found.notices[0]


def test_all_outside_is_refused(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    text = refusal(tmp_path, tiles, feature(OUTSIDE))
    assert "all 1 polygon(s) lie outside the rasters, the first at (500500, 5.29998e+06)" in text
    assert "check the crs of the file" in text


def test_places_that_the_crs_of_the_raster_lacks_are_outside(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    from rasterio.warp import transform_geom

    pole = {"type": "Polygon", "coordinates": [[[-81, 0], [-81, 90], [-80, 90], [-80, 0], [-81, 0]]]}
    here = transform_geom("EPSG:25832", "OGC:CRS84", HERE)
    found = read(tmp_path, tiles, feature(here), feature(pole), crs=None)
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert "1 of 2 polygon(s) outside" in found.notices[0]


def test_outside_the_area_that_the_feature_names_is_refused(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    assert "feature 0: outside east; expected a place in it" in refusal(tmp_path, tiles, feature(HERE, area="east"))
    found = read(tmp_path, tiles, feature(HERE), feature(polygon(120, 20, 130, 40)), name="west")  # named by its file
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert "1 of 2 polygon(s) outside" in found.notices[0]


# ---- names of areas and classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("area", [100.0, 7, "112.5", None, ""])
def test_a_size_is_no_name_of_an_area(tmp_path: Path, tiles: dict[str, RasterInfo], area: Any) -> None:
    found = read(tmp_path, tiles, feature(HERE, area=area))
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert found.notices == ()


def test_an_area_of_that_name_is_one_even_if_it_is_a_number(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    areas = {"1": tiles["west"], "2": tiles["west"]}
    assert windows(read(tmp_path, areas, feature(HERE, area="2"))) == {"2": [(20, 20, 20, 20)]}
    assert set(windows(read(tmp_path, areas, feature(HERE, area=2)))) == {"1", "2"}  # a number is a size: both hold it


def test_a_text_that_names_no_area_is_passed_over_where_the_place_decides(
    tmp_path: Path, tiles: dict[str, RasterInfo]
) -> None:
    found = read(tmp_path, tiles, feature(HERE, area="yes"))
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert "1 polygon(s) with a property area that names no raster (first 'yes') placed by their" in found.notices[0]
    plain = {"west": RasterInfo(100, 100, 3, "uint8"), "east": RasterInfo(100, 100, 3, "uint8")}
    assert "feature 0: area 'yes'; expected one of west, east" in refusal(
        tmp_path, plain, feature(polygon(1, 1, 2, 2), area="yes")
    )


def test_what_reaches_beyond_the_named_area_stays_possible_where_that_was_searched(
    tmp_path: Path, tiles: dict[str, RasterInfo]
) -> None:
    across, own = polygon(80, 20, 116, 40), polygon(160, 20, 180, 40)
    found = read(tmp_path, tiles, feature(across, area="west"), feature(own, area="east"))
    assert set(found.boxes) == {
        Box("west", 20, 80, 20, 20, "building"),
        Box("east", 20, 60, 20, 20, "building"),
        Box("east", 20, 0, 20, 16, "building", crowd=True),
    }
    assert "1 object(s) reach into rasters other than the one that they" in found.notices[0]
    both = read(tmp_path, tiles, feature(across, area="west"), feature(across, area="east"))  # drawn in both: no region
    assert {(box.area, box.crowd) for box in both.boxes} == {("west", False), ("east", False)}
    alone = read(tmp_path, tiles, feature(across, area="west"))
    assert set(alone.searched) == {"west"}
    assert len(alone.boxes) == 1


def test_keys_in_upper_case_and_two_spellings(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    shouted = {"type": "Feature", "properties": {"CLASS": "building", "Crowd": "1"}, "geometry": HERE}
    assert read(tmp_path, tiles, shouted).boxes == (Box("west", 20, 20, 20, 20, "building", crowd=True),)
    torn = feature(HERE, CLASS="tree")
    assert "feature 0: CLASS 'tree' beside class 'building'" in refusal(tmp_path, tiles, torn)


@pytest.mark.parametrize(("value", "crowd"), [(False, False), (0, False), ("false", False), ("no", False), (1, True)])
def test_crowd_is_read_as_a_flag(tmp_path: Path, tiles: dict[str, RasterInfo], value: Any, crowd: bool) -> None:
    assert [box.crowd for box in read(tmp_path, tiles, feature(HERE, crowd=value)).boxes] == [crowd]
    assert "crowd 'maybe'; expected true or false" in refusal(tmp_path, tiles, feature(HERE, crowd="maybe"))


def test_skipped_classes_are_left_out_and_counted(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    lorry = feature(HERE, **{"class": "lorry"})
    assert "leave the class out (--skip-classes lorry)" in refusal(tmp_path, tiles, feature(HERE), lorry)
    found = read(tmp_path, tiles, feature(HERE), lorry, skip_classes=["lorry"])
    assert windows(found) == {"west": [(20, 20, 20, 20)]}
    assert found.notices == ("1 of lorry left out",)


# ---- CRS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "crs"),
    [
        ("OGC:CRS84", None),
        ("OGC:CRS84", {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
        ("OGC:CRS84", {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}),  # x is longitude
        ("OGC:CRS84", {"type": "EPSG", "properties": {"code": 4326}}),
        ("OGC:CRS84", {"type": "OGC", "properties": {"urn": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
        ("EPSG:25833", {"type": "EPSG", "properties": {"code": "25833"}}),
        ("EPSG:25832", {"type": "EPSG", "properties": {"code": 25832}}),
        ("EPSG:3857", "EPSG:3857"),
        ("EPSG:25832", 25832),
    ],
)
def test_every_way_to_name_a_crs(tmp_path: Path, tiles: dict[str, RasterInfo], target: str, crs: Any) -> None:
    from rasterio.warp import transform_geom

    moved = transform_geom("EPSG:25832", target, polygon(20.02, 20.02, 39.98, 39.98))
    points = [[x, y, 412.5] for x, y, *_ in moved["coordinates"][0]]  # with heights
    found = read(tmp_path, tiles, feature({"type": "Polygon", "coordinates": [points]}), crs=crs)
    assert windows(found) == {"west": [(20, 20, 20, 20)]}


@pytest.mark.parametrize("member", [{"type": "link", "properties": {"href": "x"}}, {"type": "name"}, [], True, {}])
def test_a_crs_that_names_nothing_is_refused(member: Any) -> None:
    with pytest.raises(DataError, match="EPSG:25832"):
        crs_name(member)


def test_metres_without_a_crs_are_refused(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    text = refusal(tmp_path, tiles, feature(HERE), crs=None)
    assert "feature 0: coordinates (500010, 5.29998e+06) where GeoJSON that names no crs counts degrees" in text
    assert "where its CRS, EPSG:4326, counts" in refusal(tmp_path, tiles, feature(HERE), crs="EPSG:4326")


def test_long_sides_are_moved_as_the_curves_that_they_are(tmp_path: Path, utm: str) -> None:
    """104 km of a parallel: its middle lies 237 m south of the chord; a raster there must still hold the object."""
    from rasterio.warp import transform

    lon, lat = [8.3, 9.7], 48.0
    _, (end, middle) = transform("OGC:CRS84", "EPSG:25832", [lon[0], 9.0], [lat, lat])
    assert end - middle == pytest.approx(237, abs=1)
    areas = {"middle": RasterInfo(100, 100, 3, "uint8", utm, (1.0, 0.0, 499950.0, 0.0, -1.0, middle + 50.0))}
    box = [[lon[0], lat], [lon[1], lat], [lon[1], 48.2], [lon[0], 48.2], [lon[0], lat]]
    found = read(tmp_path, areas, feature({"type": "Polygon", "coordinates": [box]}), crs=None)
    row, column, height, width = found.boxes[0].window
    assert (row, column, width) == (0, 0, 100)
    assert height in (50, 51)


def test_neighbours_in_two_systems_have_a_part_each(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    from rasterio.crs import CRS
    from rasterio.warp import transform

    xs, ys = zip(*ring(80, 20, 116, 40), strict=True)
    xs, ys = transform("EPSG:25832", "EPSG:25833", xs, ys)
    left, top = min(xs) + 4.2, max(ys) + 5  # the raster begins 4.2 m inside the object, and 5 m above it
    wkt = CRS.from_user_input("EPSG:25833").to_wkt()
    areas = {"west": tiles["west"], "other": RasterInfo(80, 80, 3, "uint8", wkt, (0.5, 0.0, left, 0.0, -0.5, top))}
    found = read(tmp_path, areas, feature(polygon(80, 20, 116, 40)))
    assert found.of("west")[0].window == (20, 80, 20, 20)
    row, column, height, width = found.of("other")[0].window
    assert (row, column) == (10, 0)
    assert row + height == math.ceil((top - min(ys)) * 2)
    assert width == math.ceil((max(xs) - left) * 2)


# ---- other vector files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb"])
def test_files_of_gis_programs(tmp_path: Path, tiles: dict[str, RasterInfo], suffix: str) -> None:
    geopandas = pytest.importorskip("geopandas")
    import shapely

    shapes = [shapely.geometry.shape(polygon(*edges)) for edges in ((80, 20, 116, 40), (4, 4, 14, 14))]
    columns = {"CLASS": ["building", "tree"], "area": [180.0, 25.0], "crowd": [0, 1]}
    path = tmp_path / "in" / f"drawn{suffix}"
    path.parent.mkdir()
    geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:25832").to_crs("EPSG:25833").to_file(path)
    found = import_boxes([path.parent], tmp_path / "boxes.json", ISPRS, tiles)
    assert {box.area: (box.name, box.crowd) for box in found.boxes if box.name == "tree"} == {"west": ("tree", True)}
    for area, wanted in (("west", (20, 80, 20, 20)), ("east", (20, 0, 20, 16))):
        window = next(box.window for box in found.of(area) if box.name == "building")
        assert all(abs(a - b) <= 1 for a, b in zip(window, wanted, strict=True))


def test_a_shapefile_without_a_crs_and_a_broken_file_are_refused(tmp_path: Path, tiles: dict[str, RasterInfo]) -> None:
    geopandas = pytest.importorskip("geopandas")
    import shapely

    shape = shapely.geometry.shape(HERE)
    geopandas.GeoDataFrame({"class": ["building"]}, geometry=[shape]).to_file(tmp_path / "a.shp")
    with pytest.raises(ImportProblems, match=r"a\.shp: no CRS; expected one, as the rasters have one"):
        import_boxes([tmp_path / "a.shp"], tmp_path / "boxes.json", ISPRS, tiles)
    (tmp_path / "b.gpkg").write_bytes(b"no database")
    with pytest.raises(ImportProblems, match=r"b\.gpkg: .*; expected polygons"):
        import_boxes([tmp_path / "b.gpkg"], tmp_path / "boxes.json", ISPRS, tiles)


# ---- property: no pixel of an object is forbidden, no box is larger than its object -------------------------------


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(-10, 165), st.floats(-10, 90), st.floats(0.3, 60), st.floats(0.3, 60), st.floats(-0.7, 0.7)
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["EPSG:25832", "EPSG:25833", "EPSG:3857", "OGC:CRS84"]),
    st.floats(0.0, 0.6),
    st.integers(0, 60),
)
def test_boxes_are_the_hulls_of_what_was_drawn(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[float, float, float, float, float]],
    crs: str,
    turn: float,
    overlap: int,
) -> None:
    """Parallelograms over two tiles (turned, overlapping), written in any CRS: hull of the part in each, to 0.02 px."""
    import shapely
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom

    wkt = CRS.from_user_input("EPSG:25832").to_wkt()
    cosine, sine = GSD * math.cos(turn), GSD * math.sin(turn)
    places = {"west": 0, "east": 100 - overlap}
    areas = {
        name: RasterInfo(100, 100, 3, "uint8", wkt, (cosine, sine, X + cosine * s, sine, -cosine, Y + sine * s))
        for name, s in places.items()
    }
    shapes = [
        shapely.Polygon([(x, y), (x + w, y + lean * w), (x + w, y + lean * w + h), (x, y + h)])
        for x, y, w, h, lean in drawn
    ]
    features = []
    for shape in shapes:
        ground = [(X + cosine * c + sine * r, Y + sine * c - cosine * r) for c, r in shape.exterior.coords]
        geometry = {"type": "Polygon", "coordinates": [ground]}
        features.append(feature(geometry if crs == "EPSG:25832" else transform_geom("EPSG:25832", crs, geometry)))
    wanted = set()
    loose: list[tuple[str, tuple[float, ...]]] = []
    for name, shift in places.items():
        for shape in shapes:
            part = shape.intersection(shapely.box(shift, 0, shift + 100, 100)).bounds
            if not math.isnan(part[0]) and part[2] > part[0] and part[3] > part[1]:
                loose.append((name, (part[0] - shift, part[1], part[2] - shift, part[3])))
                wanted.add(name)
    folder = tmp_path_factory.mktemp("drawn")
    if not wanted:
        assert "outside the rasters" in refusal(folder, areas, *features, crs=crs)
        return
    try:
        found = read(folder, areas, *features, crs=crs)
    except ImportProblems:  # what is left in the tiles is thinner than a projection is exact
        assert all(right - left < 0.02 or bottom - top < 0.02 for _, (left, top, right, bottom) in loose)
        return
    for name, (left, top, right, bottom) in loose:
        if right - left < 0.02 or bottom - top < 0.02:
            continue
        fits = [
            (column, row, column + width, row + height)
            for row, column, height, width in (box.window for box in found.of(name))
        ]
        assert any(
            left + 0.02 >= a > left - 1.02
            and top + 0.02 >= b > top - 1.02
            and right - 0.02 <= c < right + 1.02
            and bottom - 0.02 <= d < bottom + 1.02
            for a, b, c, d in fits
        )
    for name, shift in places.items():
        may = allowed_by_boxes(100, 100, found.of(name), ["building"], ISPRS).planes()[ISPRS.index("building")]
        centres = shapely.points(*np.meshgrid(np.arange(100) + shift + 0.5, np.arange(100) + 0.5))
        truth = np.any([shapely.contains(shape, centres) for shape in shapes], axis=0)
        if name in found.searched:
            assert may[truth].all()


@pytest.mark.parametrize("corner", [False, "4999998", None, 1e12])
def test_corners_that_are_no_numbers_or_nowhere_are_refused(corner: object) -> None:
    """shapely would make 0 of false, and a number of a text."""
    ring = [[400_000, 4_999_998], [400_003, corner], [400_003, 5_000_000], [400_000, 4_999_998]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    reading = BoxReading(ISPRS, {})
    row = {"type": "Feature", "properties": {}, "geometry": geometry}
    assert read_geojson(Path("a"), {"type": "FeatureCollection", "features": [row]}, reading).features == ()
    assert "a corner that is none" in reading.problems[0]
