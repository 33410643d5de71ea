"""Polygons of a map: whole across blocks, a valid coverage, true areas, formats."""

from __future__ import annotations

import sqlite3
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import shapes
from rasterio.transform import from_origin
from scipy import ndimage
from tests.maps.test_files import CLASSES, LEFT, TOP, save

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.maps.blocks import Block, label_patches
from weakseg.maps.ground import ground_areas
from weakseg.maps.outlines import outline_block
from weakseg.maps.patches import find_patches, open_map
from weakseg.maps.polygons import PolygonOptions, write_polygons
from weakseg.maps.vector_files import PolygonFile, only_layer

ALL = PolygonOptions(tolerance=0, min_area=0)
SCALE = 1 / 0.9996**2  # UTM on its central meridian: a square metre of the map is more on the ground


def noise(height: int, width: int, seed: int = 0, sigma: float = 0.0) -> np.ndarray:
    """Classes 0, 1, 2 and 255; with ``sigma`` in smooth patches."""
    values = np.random.default_rng(seed).random((height, width))
    if sigma:
        values = ndimage.gaussian_filter(values, sigma)
    classes = np.digitize(values, np.quantile(values, [0.25, 0.5, 0.75])).astype(np.uint8)
    classes[classes == 3] = IGNORE
    return classes


def polygons_of(path: Path, *, side: int = 2048, options: PolygonOptions = ALL, **rest: Any) -> geopandas.GeoDataFrame:
    target = path.with_suffix(".gpkg")
    write_polygons(path, target, side=side, options=options, **rest)
    return geopandas.read_file(target)


def burnt(frame: geopandas.GeoDataFrame, shape: tuple[int, int]) -> np.ndarray:
    """The polygons as a mask on the grid that ``save`` gives."""
    pairs = zip(frame.geometry, frame["value"], strict=True)
    return rasterio.features.rasterize(
        pairs, shape, fill=IGNORE, transform=from_origin(LEFT, TOP, 0.5, 0.5), dtype="uint8"
    )


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0, 1.0]))
def test_outlines_of_any_block_are_a_valid_coverage(seed: int, height: int, width: int, tolerance: float) -> None:
    labels, _ = label_patches(noise(height, width, seed))
    framed = np.pad(labels, 1, constant_values=-1)
    patches, polygons = outline_block(framed, Block(0, 5, 7, height, width), tolerance)
    assert sorted(patches.tolist()) == list(range(int(labels.max()) + 1))
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert shapely.area(polygons).sum() == pytest.approx(height * width)
    assert tuple(shapely.total_bounds(polygons)) == (7, 5, 7 + width, 5 + height)
    if not tolerance:
        np.testing.assert_allclose(shapely.area(polygons), np.bincount(labels.ravel())[patches])


def test_what_rasterio_leaves_out_is_there() -> None:
    """A third patch that touches a straight edge needs a vertex there, which rasterio does not set."""
    values = np.array([[1, 2], [1, 3]], np.uint8).repeat(3, 0).repeat(3, 1)
    plain = [shapely.geometry.shape(geometry) for geometry, _ in shapes(values)]
    assert not shapely.coverage_is_valid(plain)
    labels, _ = label_patches(values)
    _, polygons = outline_block(np.pad(labels, 1, constant_values=-1), Block(0, 0, 0, 6, 6), 0)
    assert shapely.coverage_is_valid(polygons)
    left = next(polygon for polygon in polygons if polygon.bounds[0] == 0)
    assert (3, 3) in list(left.exterior.coords)


@pytest.mark.parametrize(("side", "sigma"), [(9, 0.0), (16, 2.0), (64, 0.0)])
def test_polygons_are_whole_whatever_the_blocks(tmp_path: Path, side: int, sigma: float) -> None:
    values = noise(37, 53, sigma=sigma)
    frame = polygons_of(save(tmp_path / "map.tif", values), side=side)
    expected = sum(ndimage.label(values == code)[1] for code in range(3))
    assert len(frame) == expected
    assert shapely.coverage_is_valid(frame.geometry.values)
    assert (frame.geom_type == "Polygon").all()
    assert frame.is_valid.all()
    np.testing.assert_array_equal(burnt(frame, values.shape), values)
    for code in range(3):
        total = frame.loc[frame["value"] == code, "area_m2"].sum()
        assert total == pytest.approx((values == code).sum() * 0.25 * SCALE, rel=1e-5)


@pytest.mark.parametrize("side", [16, 64])
def test_simplified_edges_are_still_shared(tmp_path: Path, side: int) -> None:
    values = noise(70, 60, sigma=3)
    plain = polygons_of(save(tmp_path / "map.tif", values), side=side)
    frame = polygons_of(tmp_path / "map.tif", side=side, options=PolygonOptions(tolerance=2, min_area=0))
    assert len(frame) == len(plain)
    assert shapely.coverage_is_valid(frame.geometry.values)
    assert frame.is_valid.all()
    assert (
        shapely.get_num_coordinates(frame.geometry.values).sum()
        < shapely.get_num_coordinates(plain.geometry.values).sum() / 2
    )
    assert frame.area.sum() == pytest.approx(shapely.union_all(frame.geometry.values).area), "no overlap"
    assert (burnt(frame, values.shape) != values).mean() < 0.1


def test_a_map_without_gaps_keeps_its_area_when_simplified(tmp_path: Path) -> None:
    values = np.where(noise(80, 80, sigma=3) == IGNORE, 3, noise(80, 80, sigma=3)).astype(np.uint8)
    frame = polygons_of(save(tmp_path / "map.tif", values), side=32, options=PolygonOptions(tolerance=3, min_area=0))
    assert frame.area.sum() == pytest.approx(80 * 80 * 0.25)


@pytest.mark.parametrize("side", [3, 64])
def test_small_patches_go_to_the_neighbour_that_they_touch_most(tmp_path: Path, side: int) -> None:
    values = np.zeros((8, 10), np.uint8)
    values[:, 5:] = 1
    values[2:4, 3:5] = 2  # touches class 0 with 6 sides of pixels, class 1 with 2
    values[6, 5:8] = 2  # in class 1, with one side at class 0
    frame = polygons_of(save(tmp_path / "map.tif", values), side=side, options=PolygonOptions(0, min_area=1.1))
    expected = np.zeros((8, 10), np.uint8)
    expected[:, 5:] = 1
    np.testing.assert_array_equal(burnt(frame, values.shape), expected)
    assert len(frame) == 2


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_no_patch_below_the_least_area_is_left_and_blocks_do_not_matter(tmp_path: Path, sigma: float) -> None:
    path, found = save(tmp_path / "map.tif", noise(60, 47, sigma=sigma)), []
    for side in (13, 30, 100):
        with open_map(path, None, side=side) as reader:
            patches, _, _ = find_patches(reader, smallest=12, smallest_gap=12)
        assert patches.sizes.sum() == 60 * 47
        frame = polygons_of(path, side=side, options=PolygonOptions(0, 3.0, 3.0))
        found.append(burnt(frame, (60, 47)))
        small = burnt(frame.query("area_m2 < 2.9"), (60, 47)) if (frame["area_m2"] < 2.9).any() else found[-1] | IGNORE
        around = ndimage.binary_dilation(small != IGNORE) & (small == IGNORE)
        assert (found[-1][around] == IGNORE).all(), "what is small touches nothing but pixels without data"
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_holes_stay_and_gaps_are_filled_if_asked(tmp_path: Path) -> None:
    values = np.zeros((12, 12), np.uint8)
    values[4:8, 4:8] = 1
    values[1, 1] = IGNORE
    path = save(tmp_path / "map.tif", values)
    frame = polygons_of(path)
    assert sorted(len(polygon.interiors) for polygon in frame.geometry) == [0, 2]
    filled = polygons_of(path, options=PolygonOptions(0, 0, min_gap=0.5))
    assert sorted(len(polygon.interiors) for polygon in filled.geometry) == [0, 1]


def test_the_mean_confidence_is_that_of_its_pixels(tmp_path: Path) -> None:
    values = np.zeros((6, 8), np.uint8)
    values[:, 4:] = 3
    layer = np.full((6, 8), 127, np.uint8)
    layer[:3, 4:], layer[3:, 4:] = 254, 0
    layer[0, 0] = IGNORE
    confidence = save(tmp_path / "c.tif", layer, colours=False)
    frame = polygons_of(save(tmp_path / "map.tif", values), side=4, confidence=confidence)
    assert frame.set_index("name")["confidence"].to_dict() == {"road": 0.5, "water": 0.5}
    with pytest.raises(DataError, match="another grid"):
        polygons_of(tmp_path / "map.tif", confidence=save(tmp_path / "d.tif", layer, colours=False, res=1))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_every_format_holds_the_same(tmp_path: Path, suffix: str) -> None:
    values = noise(40, 30, sigma=2)
    layer = save(tmp_path / "c.tif", np.full((40, 30), 127, np.uint8), colours=False)
    path, target = save(tmp_path / "map.tif", values), tmp_path / f"out{suffix}"
    count = write_polygons(path, target, confidence=layer, options=ALL, side=16)
    frame = geopandas.read_parquet(target) if suffix == ".parquet" else geopandas.read_file(target)
    assert (len(frame), list(frame.columns)) == (count, ["value", "name", "area_m2", "confidence", "geometry"])
    assert frame.crs == ("EPSG:4326" if suffix == ".geojson" else "EPSG:32632")
    assert set(frame["confidence"]) == {0.5}
    assert [CLASSES.names[value] for value in frame["value"]] == frame["name"].to_list()
    back = frame.to_crs("EPSG:32632")
    np.testing.assert_array_equal(burnt(back.assign(geometry=back.buffer(-0.01)), values.shape), values)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_geopackage_brings_its_colours(tmp_path: Path) -> None:
    write_polygons(save(tmp_path / "m.tif", noise(40, 40)), tmp_path / "o.gpkg")
    with sqlite3.connect(tmp_path / "o.gpkg") as database:
        ((layer, column, text, default),) = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
    assert (layer, column, default) == ("classes", "geom", 1)
    renderer = ET.fromstring(text).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "name"
    symbols = {one.get("name"): one.find("layer/Option/Option[@name='color']") for one in renderer.iter("symbol")}
    found = {one.get("value"): symbols[one.get("symbol")].get("value") for one in renderer.iter("category")}  # type: ignore[union-attr]
    assert found == {
        name: ",".join(map(str, (*colour, 255))) for name, colour in zip(CLASSES.names, CLASSES.colours, strict=True)
    }
    assert pyogrio.list_layers(tmp_path / "o.gpkg").tolist() == [["classes", "Polygon"], ["layer_styles", None]]
    assert only_layer(tmp_path / "o.gpkg") == "classes"


def test_a_map_without_data_gives_a_layer_without_rows(tmp_path: Path) -> None:
    path = save(tmp_path / "map.tif", np.full((9, 9), IGNORE, np.uint8))
    for suffix in (".gpkg", ".fgb", ".geojson"):
        assert write_polygons(path, tmp_path / f"o{suffix}") == 0
        assert len(geopandas.read_file(tmp_path / f"o{suffix}")) == 0


def test_a_map_without_a_place_counts_pixels(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = polygons_of(save(tmp_path / "map.tif", np.zeros((4, 5), np.uint8), crs=""))
    assert (frame.crs, frame["area_px"].to_list()) == (None, [20])
    assert tuple(frame.total_bounds) == (0, 0, 5, 4)


def test_areas_are_those_on_the_ground() -> None:
    """Against the ellipsoid: EPSG:3857 at 60 degrees north is four times too large, degrees have no area at all."""
    from pyproj import CRS, Geod

    degrees = shapely.box(10, 60, 10.01, 60.01)
    expected = Geod(ellps="WGS84").geometry_area_perimeter(degrees)[0]
    assert expected == pytest.approx(622e3, rel=0.01)
    assert ground_areas(np.array([degrees]), CRS("EPSG:4326"))[0] == pytest.approx(expected, rel=1e-4)
    mercator = geopandas.GeoSeries([degrees], crs="EPSG:4326").to_crs("EPSG:3857")
    assert mercator.area[0] / expected == pytest.approx(4, rel=0.02)
    assert ground_areas(mercator.values, mercator.crs)[0] == pytest.approx(expected, rel=1e-4)


def test_buildings_get_right_angles(tmp_path: Path) -> None:
    pytest.importorskip("buildingregulariser")
    turned = shapely.affinity.rotate(shapely.box(LEFT + 15, TOP - 35, LEFT + 35, TOP - 20), 27)
    grid = from_origin(LEFT, TOP, 0.5, 0.5)
    values = rasterio.features.rasterize([(turned, 1)], (110, 110), transform=grid, dtype="uint8")
    path = save(tmp_path / "map.tif", values)
    regular = polygons_of(path, options=PolygonOptions(regular=(CLASSES.names[1],)))
    (shape,) = regular.loc[regular["value"] == 1, "geometry"]
    points = np.array(shape.exterior.coords)
    edges = np.diff(points, axis=0)
    directions = np.degrees(np.arctan2(edges[:, 1], edges[:, 0])) % 90
    assert len(edges) <= 16  # the stairs have 140
    assert directions == pytest.approx(np.full(len(edges), 27), abs=2)
    assert np.ptp(directions) < 0.1
    assert shape.intersection(turned).area / shape.union(turned).area > 0.9
    assert regular.loc[regular["value"] == 1, "area_m2"].item() == pytest.approx(300 * SCALE, rel=0.07)
    with pytest.raises(DataError, match="house"):
        polygons_of(path, options=PolygonOptions(regular=("house",)))


def test_names_and_options_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "map.tif", noise(9, 9))
    with pytest.raises(ParamsError, match=r"ends in \.gpkg"):
        write_polygons(path, tmp_path / "o.shp")
    with pytest.raises(ParamsError, match="0 or more"):
        write_polygons(path, tmp_path / "o.gpkg", options=PolygonOptions(tolerance=-1))
    with pytest.raises(DataError, match="does not name its classes"):
        write_polygons(save(tmp_path / "c.tif", noise(9, 9), colours=False), tmp_path / "o.gpkg")


def test_columns_in_another_order_are_put_in_place_and_others_refused(tmp_path: Path) -> None:
    """pyogrio appends by position: `name` would land in `value`."""
    crs = geopandas.GeoSeries([], crs="EPSG:32632").crs
    file = PolygonFile(tmp_path / "a.gpkg", ("value", "size"), crs)
    first = geopandas.GeoDataFrame({"value": [1], "size": [10]}, geometry=[shapely.box(0, 0, 1, 1)], crs=crs)
    file.append(first)
    file.append(first[["size", "geometry", "value"]])
    assert geopandas.read_file(tmp_path / "a.gpkg")[["value", "size"]].to_numpy().tolist() == [[1, 10], [1, 10]]
    with pytest.raises(DataError, match="size"):
        file.append(first[["value", "geometry"]])
    with pytest.raises(DataError, match="25832"):
        file.append(first.to_crs("EPSG:25832"))
