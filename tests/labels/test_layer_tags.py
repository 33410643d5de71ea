"""What polygons, lines and points of layers say of crops: values worked out by hand on 16 px crops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyogrio import raw

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.labels.answers import TagAnswer
from weakseg.labels.box_reading import BoxReading
from weakseg.labels.class_map import ClassMap
from weakseg.labels.layer_tags import (
    classed_layer,
    crop_shares,
    layer_answers,
    layer_kinds,
    osm_layer,
    read_features,
)
from weakseg.labels.osm_tags import OsmMap, read_osm_map
from weakseg.labels.tag_files import ReadTags
from weakseg.labels.tags import window_grid
from weakseg.raster.header import RasterInfo

AREA = RasterInfo(64, 64, 3, "uint8", "EPSG:32632", (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_000_000.0))  # 0.5 m px
PLAIN = RasterInfo(64, 64, 3, "uint8")
NAMES = ClassMap(ISPRS)
LEFT, RIGHT, BELOW = (0, 0, 16, 16), (0, 16, 16, 16), (16, 0, 16, 16)


def ground(shape: Any) -> Any:
    """A shape in px of AREA in its metres."""
    return shapely.transform(shape, lambda p: np.column_stack([400_000 + 0.5 * p[:, 0], 5_000_000 - 0.5 * p[:, 1]]))


def write(path: Path, rows: list[tuple[Any, dict[str, Any]]], crs: str | None = "EPSG:32632", **more: Any) -> Path:
    """GeoJSON by hand, as QGIS writes it; everything else by GDAL."""
    if path.suffix == ".geojson":
        member = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
        features = [
            {"type": "Feature", "properties": about, "geometry": json.loads(shapely.to_geojson(shape))}
            for shape, about in rows
        ]
        path.write_text(json.dumps({"type": "FeatureCollection", **member, "features": features}))
        return path
    columns = list(rows[0][1])
    values = [np.array([about[key] for _, about in rows], object) for key in columns]
    outlines = shapely.to_wkb(np.array([shape for shape, _ in rows], object))
    raw.write(path, outlines, values, columns, geometry_type="Unknown", crs=crs, **more)
    return path


def tags(
    file: Path, area: RasterInfo = AREA, field: str | None = None, layer: str | None = None, **how: Any
) -> ReadTags:
    reading = BoxReading(ISPRS, {"t1": area})
    source = read_features(file, reading, layer)
    assert reading.problems == []
    found = osm_layer(source, how.pop("osm")) if "osm" in how else classed_layer(source, NAMES, field)
    options = {"kind": "qgis", "min_share": 0.0, "unmarked": None, "annotator": "qgis", "time": "2026", **how}
    return layer_answers(found, {"t1": area}, lambda _: window_grid(64, 64, 16), **options)


def present(found: ReadTags) -> dict[tuple[int, ...], tuple[str, ...]]:
    return {answer.window: answer.present for answer in found.answers}


def test_shares_of_polygons_lines_and_points_by_hand() -> None:
    shapes = [
        shapely.box(8, 0, 24, 16),  # half of the left crop, half of the right one
        shapely.box(12, 0, 16, 16),  # overlaps it: a quarter, of the same class
        shapely.box(-5, -5, 0, 40),  # touches from outside
        shapely.box(0, 0, 0.5, 0.5),  # less than a px
        shapely.Point(16, 3),  # on the shared edge: the right one's
        shapely.LineString([(0, 17), (40, 17)]),
        shapely.LineString([(0, 16), (16, 16)]),  # along the shared edge: both
        shapely.LineString([(15.5, 15), (16, 15)]),
    ]
    classes = [("tree",), ("tree",), ("building",), ("building",), ("car",), ("road",), ("edge",), ("short",)]
    left, right, below = crop_shares([LEFT, RIGHT, BELOW], np.array(shapes, object), classes)
    assert left == {"tree": 0.5, "building": 0.0, "edge": 2.0, "short": 0.0}
    assert right == {"tree": 0.5, "car": 2.0}
    assert below == {"road": 2.0, "edge": 2.0}


@pytest.mark.parametrize("name", ["layer.gpkg", "layer.geojson", "layer.fgb"])
def test_a_polygon_and_points_of_qgis_make_their_classes_present(tmp_path: Path, name: str) -> None:
    rows = [
        (ground(shapely.box(8, 0, 24, 16)), {"class": "tree"}),
        (ground(shapely.Point(4, 20)), {"class": "car"}),
        (ground(shapely.Point(400, 400)), {"class": "car"}),
    ]
    found = tags(write(tmp_path / name, rows))
    assert present(found) == {LEFT: ("tree",), RIGHT: ("tree",), BELOW: ("car",)}
    assert found.answers[0] == TagAnswer(
        "", "t1", LEFT, (64, 64), ("tree",), (), (), "qgis", "2026", 0.0, "file", batch="qgis"
    )
    assert found.notices == (f"{tmp_path / name}: 1 feature(s) outside the rasters skipped",)


def test_the_share_of_a_crop_that_polygons_must_cover_is_asked_for(tmp_path: Path) -> None:
    rows = [
        (ground(shapely.box(0, 0, 24, 16)), {"class": "tree"}),
        (ground(shapely.Point(20, 20)), {"class": "car"}),
    ]
    file = write(tmp_path / "layer.gpkg", rows)
    assert present(tags(file, min_share=50)) == {LEFT: ("tree",), (16, 16, 16, 16): ("car",)}
    assert present(tags(file, min_share=99.9)) == {LEFT: ("tree",), (16, 16, 16, 16): ("car",)}


def test_a_layer_in_another_crs_is_moved_to_the_raster(tmp_path: Path) -> None:
    from rasterio.warp import transform

    corners = shapely.get_coordinates(ground(shapely.box(8, 2, 24, 14)))
    degrees = shapely.Polygon(list(zip(*transform("EPSG:32632", "EPSG:4326", *corners.T), strict=True)))
    found = tags(write(tmp_path / "layer.geojson", [(degrees, {"class": "tree"})], None))
    assert present(found) == {LEFT: ("tree",), RIGHT: ("tree",)}
    found = tags(write(tmp_path / "layer.gpkg", [(degrees, {"class": "tree"})], "EPSG:4326"))
    assert present(found) == {LEFT: ("tree",), RIGHT: ("tree",)}


def test_a_layer_without_a_crs_is_refused_where_rasters_have_one(tmp_path: Path) -> None:
    file = write(tmp_path / "layer.gpkg", [(shapely.box(0, 0, 9, 9), {"class": "tree"})], None)
    with pytest.raises(DataError, match=r"no CRS; expected one, as the rasters have one; set it in the GIS program"):
        tags(file)


def test_metres_that_are_said_to_be_degrees_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "layer.geojson", [(ground(shapely.box(0, 0, 9, 9)), {"class": "tree"})], None)
    with pytest.raises(DataError, match=r"coordinates from \(400000, .*GeoJSON that names no crs counts degrees"):
        tags(file)


def test_a_raster_without_a_place_takes_pixels_down_or_as_qgis_shows_it(tmp_path: Path) -> None:
    for sign in (1, -1):
        shape = shapely.Polygon([(8, 0), (24, 0), (24, sign * 16), (8, sign * 16)])
        file = write(tmp_path / f"t1{sign}.geojson", [(shape, {"class": "tree", "area": "t1"})], None)
        assert present(tags(file, PLAIN)) == {LEFT: ("tree",), RIGHT: ("tree",)}


def test_features_outside_all_rasters_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "layer.gpkg", [(ground(shapely.box(900, 900, 950, 950)), {"class": "tree"})])
    with pytest.raises(DataError, match="no feature of a class lies in an area"):
        tags(file)


def test_absence_is_said_only_when_asked_for_and_only_inside_the_layer(tmp_path: Path) -> None:
    rows = [
        (ground(shapely.box(0, 0, 8, 8)), {"class": "tree"}),
        (ground(shapely.box(30, 30, 32, 32)), {"class": "car"}),
        (ground(shapely.box(31.5, 0, 32, 0.5)), {"class": "tree"}),  # less than a px: neither present nor absent
    ]
    file = write(tmp_path / "layer.gpkg", rows)
    assert {answer.absent for answer in tags(file).answers} == {()}
    found = {answer.window: (answer.present, answer.absent) for answer in tags(file, unmarked="absent").answers}
    assert found == {
        LEFT: (("tree",), ("car",)),
        RIGHT: ((), ("car",)),
        BELOW: ((), ("tree", "car")),
        (16, 16, 16, 16): (("car",), ("tree",)),
    }


def test_who_drew_a_feature_is_kept(tmp_path: Path) -> None:
    rows = [
        (ground(shapely.box(0, 0, 8, 8)), {"label": "tree", "annotator": "Ana"}),
        (ground(shapely.box(0, 0, 8, 8)), {"label": "car", "annotator": None}),
    ]
    found = tags(write(tmp_path / "layer.gpkg", rows))
    assert [(answer.annotator, answer.present) for answer in found.answers] == [("Ana", ("tree",)), ("qgis", ("car",))]


def test_layers_of_a_geopackage_are_chosen_by_name(tmp_path: Path) -> None:
    file = write(tmp_path / "all.gpkg", [(ground(shapely.box(0, 0, 8, 8)), {"class": "tree"})], layer="trees")
    write(file, [(ground(shapely.box(16, 0, 20, 8)), {"kind": "car"})], layer="cars", append=True)
    assert present(tags(file, layer="trees")) == {LEFT: ("tree",)}
    assert present(tags(file, layer="cars", field="Kind")) == {RIGHT: ("car",)}
    reading = BoxReading(ISPRS, {"t1": AREA})
    read_features(file, reading, "houses")
    assert reading.problems[0].endswith("no layer houses; expected one of trees, cars; mend --layer")


@pytest.mark.parametrize(
    ("about", "field", "words"),
    [
        ({"kind": "tree"}, None, "columns kind; expected one with the class, such as class; name it by --field COLUMN"),
        ({"kind": "tree"}, "sort", "columns kind, none called sort"),
        ({"class": "Baum"}, None, "classes 'Baum'; expected classes of .*--map FILE"),
        ({"class": ""}, "class", "columns none, none called class"),
    ],
)
def test_layers_whose_classes_nobody_knows_are_refused(
    tmp_path: Path, about: dict[str, str], field: str | None, words: str
) -> None:
    file = write(tmp_path / "layer.geojson", [(ground(shapely.box(0, 0, 8, 8)), about)])
    with pytest.raises(DataError, match=words):
        tags(file, field=field)


def test_a_feature_without_a_class_among_others_is_refused(tmp_path: Path) -> None:
    box = ground(shapely.box(0, 0, 8, 8))
    file = write(tmp_path / "layer.geojson", [(box, {"class": "tree"}), (box, {"class": None})])
    with pytest.raises(DataError, match="feature 1: no class, as 1 in all; expected a class"):
        tags(file)


MAP = OsmMap(
    ISPRS.names,
    {
        "building": "building",
        "building=ruins": None,
        "highway": "impervious_surface",
        "natural=tree": "tree",
        "natural=water": None,
    },
)


def test_buildings_roads_and_trees_of_openstreetmap_are_present_and_nothing_is_absent(tmp_path: Path) -> None:
    """The shape of an export of Overpass turbo: ids in ``@id``, tags beside it."""
    rows = [
        (ground(shapely.box(2, 2, 9, 9)), {"@id": "way/1", "building": "yes", "name": "tree"}),
        (ground(shapely.box(2, 20, 9, 29)), {"@id": "way/2", "building": "ruins"}),
        (ground(shapely.LineString([(0, 12), (40, 12)])), {"@id": "way/3", "highway": "residential;service"}),
        (ground(shapely.Point(40, 40)), {"@id": "node/4", "natural": "tree"}),
        (ground(shapely.Point(60, 60)), {"@id": "node/5", "building": "no"}),
    ]
    file = write(tmp_path / "export.geojson", rows)
    found = tags(file, osm=MAP, kind="osm", annotator="osm")
    assert present(found) == {
        LEFT: ("impervious_surface", "building"),
        RIGHT: ("impervious_surface",),
        (0, 32, 16, 16): ("impervious_surface",),
        (32, 32, 16, 16): ("tree",),
    }
    assert {answer.absent for answer in found.answers} == {()}
    assert found.notices == (f"{file}: 2 feature(s) of other tags left out",)


@pytest.mark.parametrize(
    "about",
    [
        {"osm_id": "5", "other_tags": '"building"=>"yes","height"=>"5"'},  # ogr2ogr
        {"full_id": "w5", "osm_type": "way", "building": "house"},  # QuickOSM
        {"id": "way/5", "tags": {"building": "yes"}},  # osmtogeojson, not flattened
    ],
)
def test_tags_are_found_where_other_exporters_put_them(tmp_path: Path, about: dict[str, Any]) -> None:
    file = write(tmp_path / "export.geojson", [(ground(shapely.box(2, 2, 9, 9)), about)])
    assert present(tags(file, osm=MAP)) == {LEFT: ("building",)}


def test_openstreetmap_needs_a_map(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"without a map of its keys; .*--map FILE"):
        read_osm_map(None, ISPRS)
    (tmp_path / "osm.yaml").write_text("building: building\nnatural=tree: tree\nlanduse: null\n")
    found = read_osm_map(tmp_path / "osm.yaml", ISPRS)
    assert found.asked == ("building", "tree")
    (tmp_path / "osm.yaml").write_text("highway: road\n")
    with pytest.raises(DataError, match="highway: road; expected classes of"):
        read_osm_map(tmp_path / "osm.yaml", ISPRS)


def test_a_layer_shows_whether_it_is_of_openstreetmap_or_has_classes(tmp_path: Path) -> None:
    box = ground(shapely.box(0, 0, 8, 8))

    def kinds(about: dict[str, Any], field: str | None = None) -> tuple[str, ...]:
        return layer_kinds(write(tmp_path / "a.geojson", [(box, about)]), NAMES, field)

    assert kinds({"class": "tree"}) == ("qgis",)
    assert kinds({"@id": "way/1", "building": "yes", "name": "Town hall"}) == ("osm",)
    assert kinds({"@id": "way/1", "class": "tree"}) == ("qgis", "osm")
    assert kinds({"height": 3}) == ()
    assert kinds({"cover": "Baum"}, "cover") == ("qgis",)
    path = tmp_path / "ids.geojson"  # osmium export --add-unique-id=type_id, Overpass turbo
    path.write_text('{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "way/7", "properties": {}}]}')
    assert layer_kinds(path, NAMES, None) == ("osm",)


@pytest.mark.parametrize(("name", "content"), [("a.gpkg", b"no"), ("a.geojson", b'{"type": "Point"}'), ("a.fgb", b"")])
def test_broken_layers_are_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    reading = BoxReading(ISPRS, {"t1": AREA})
    try:
        read_features(tmp_path / name, reading)
    except DataError as error:
        reading.problems.append(str(error))
    assert len(reading.problems) == 1
    assert "; expected" in reading.problems[0]
