"""True metres per px in many CRSs against hand-computed values, and CRSs from sidecars."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from weakseg.core.errors import DataError
from weakseg.raster.georeference import ground_distance, moved, uneven_sides
from weakseg.raster.stream import inspect_source, raster_gsd

RADIUS, FLATTENING = 6378137.0, 1 / 298.257223563  # of WGS84
PLACE = {"crs": "EPSG:25832", "transform": Affine(0.1, 0, 500000, 0, -0.1, 5762000)}


def degree_metres(latitude: float) -> tuple[float, float]:
    """Metres of a degree of longitude and of latitude on the ellipsoid."""
    e2, sine = FLATTENING * (2 - FLATTENING), math.sin(math.radians(latitude))
    across = RADIUS / math.sqrt(1 - e2 * sine**2)
    along = RADIUS * (1 - e2) / (1 - e2 * sine**2) ** 1.5
    return math.radians(across * math.cos(math.radians(latitude))), math.radians(along)


def mercator_scale(latitude: float) -> float:
    """True metres per unit of EPSG:3857, the root of the area, by its definition on the sphere of radius a."""
    east, north = degree_metres(latitude)
    unit = math.radians(RADIUS)
    return math.sqrt(east / unit * north / (unit / math.cos(math.radians(latitude))))


@pytest.mark.parametrize("latitude", [0.0, 52.0, -37.5, 70.0])
def test_units_of_web_mercator_and_degrees_are_measured_on_the_ground(latitude: float) -> None:
    y = RADIUS * math.asinh(math.tan(math.radians(latitude)))
    mercator = Affine(0.5, 0, 1_001_875, 0, -0.5, y + 0.25 * 400)
    assert ground_distance(CRS.from_epsg(3857), mercator, 400, 300) == pytest.approx(
        0.5 * mercator_scale(latitude), rel=1e-5
    )
    degrees = Affine(1e-5, 0, 9, 0, -2e-5, latitude + 2e-5 * 200)
    east, north = degree_metres(latitude)
    assert ground_distance(CRS.from_epsg(4326), degrees, 400, 300) == pytest.approx(
        math.sqrt(1e-5 * east * 2e-5 * north), rel=1e-5
    )


@pytest.mark.parametrize(("angle", "across", "down"), [(0, 0.3, 0.6), (30, 0.3, 0.6), (0, 0.3, 0.32), (90, 2.0, 0.5)])
def test_sides_of_px_that_differ_are_measured_whatever_their_turn(angle: float, across: float, down: float) -> None:
    place = Affine.translation(500000, 5762000) @ Affine.rotation(angle) @ Affine.scale(across, -down)
    found = uneven_sides(CRS.from_epsg(25832), place, 200, 300)
    if max(across, down) < 1.1 * min(across, down):
        assert found is None
    else:
        assert found == pytest.approx((across, down), rel=2e-3)
    assert ground_distance(CRS.from_epsg(25832), place, 200, 300) == pytest.approx(math.sqrt(across * down), rel=2e-3)


def test_degrees_are_even_at_the_equator_alone() -> None:
    grid = [uneven_sides(CRS.from_epsg(4326), Affine(1e-5, 0, 9, 0, -1e-5, top), 100, 100) for top in (0.01, 60)]
    assert grid[0] is None
    assert grid[1] == pytest.approx((1e-5 * degree_metres(60)[0], 1e-5 * degree_metres(60)[1]), rel=1e-3)
    assert uneven_sides(None, Affine(1, 0, 0, 0, -2, 0), 9, 9) is None


def test_the_named_value_of_52_degrees_north() -> None:
    unit = 0.3 / math.cos(math.radians(52))
    found = ground_distance(CRS.from_epsg(3857), Affine(unit, 0, 1001875, 0, -unit, 6800125), 384, 384)
    assert found == pytest.approx(0.3, rel=2e-3)


@pytest.mark.parametrize(
    ("epsg", "x", "y", "expected"),
    [
        (25832, 500000, 5762000, 1 / 0.9996),  # UTM at its central meridian
        (3035, 4321000, 3210000, 1.0),  # equal-area
        (2263, 984250, 200000, 0.3048006096),  # US survey feet; Lambert conformal, within 1e-4
        (27700, 400000, 300000, 1 / 0.9996012717),  # its scale at the central meridian
    ],
)
def test_projections_in_metres_and_feet(epsg: int, x: float, y: float, expected: float) -> None:
    for turned in (Affine.identity(), Affine.rotation(33), Affine.scale(1, -1)):
        transform = Affine.translation(x, y) @ turned @ Affine.scale(0.2)
        found = ground_distance(CRS.from_epsg(epsg), transform, 50, 80)
        assert found == pytest.approx(0.2 * expected, rel=1e-4)


def test_points_out_of_reach_are_infinite_however_often_they_are_asked_for() -> None:
    zone, prefixed = CRS.from_epsg(25832), CRS.from_epsg(4647)
    points = np.array([[500000.0, 5700000.0], [32500000.0, 5700000.0]])
    np.testing.assert_allclose(moved(points[1:], prefixed, zone), points[:1])
    for _ in range(25):  # PROJ refuses 20 times, then it returns infinities
        assert not np.isfinite(moved(points[:1], prefixed, zone)).any()


def test_what_does_not_lie_on_earth_has_no_distance() -> None:
    step = Affine(1, 0, 10, 0, -1, 10)
    assert ground_distance(None, step, 9, 9) is None
    assert ground_distance(CRS.from_epsg(25832), Affine.identity(), 9, 9) is None
    assert ground_distance(CRS.from_epsg(3857), Affine(1, 0, 9e9, 0, -1, 9e9), 9, 9) is None
    assert ground_distance(CRS.from_wkt('LOCAL_CS["mine",UNIT["metre",1]]'), step, 9, 9) is None


def save(path: Path, driver: str, **options: object) -> Path:
    with rasterio.open(path, "w", driver=driver, count=3, height=20, width=30, dtype="uint8", **options) as file:
        file.write(np.zeros((3, 20, 30), np.uint8))
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("name", "driver"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "GTiff")])
def test_an_aux_xml_places_every_format(tmp_path: Path, name: str, driver: str) -> None:
    baseline = {"profile": "BASELINE", "tfw": "YES"} if driver == "GTiff" else {}
    path = save(tmp_path / name, driver, **PLACE, **baseline)
    assert path.with_name(f"{name}.aux.xml").is_file()
    source = inspect_source(path, None)
    assert (source.profile["crs"], source.profile["transform"]) == (CRS.from_epsg(25832), PLACE["transform"])
    assert source.gsd == pytest.approx(0.1 / 0.9996, rel=1e-6)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("name", "driver", "world", "prj"),
    [
        ("a.png", "PNG", "a.pgw", "a.prj"),
        ("a.jpg", "JPEG", "a.jgw", "a.PRJ"),
        ("a b[1].tif", "GTiff", "a b[1].tfw", "a b[1].prj"),
    ],
)
def test_a_world_file_with_a_prj_places_every_format(
    tmp_path: Path, name: str, driver: str, world: str, prj: str
) -> None:
    path = save(tmp_path / name, driver)
    (tmp_path / world).write_text("0.1\n0\n0\n-0.1\n500000.05\n5761999.95\n")
    assert inspect_source(path, None).profile == {"transform": PLACE["transform"]}
    assert raster_gsd(path) is None
    (tmp_path / prj).write_text(CRS.from_epsg(25832).to_wkt(version="WKT1_ESRI"))
    source = inspect_source(path, None)
    assert source.profile["crs"].to_epsg() == 25832
    assert source.gsd == pytest.approx(0.1 / 0.9996, rel=1e-6)
    (tmp_path / prj).write_text("no CRS at all")
    with pytest.raises(DataError, match=r"(?i)a.*\.prj: cannot be used \(no coordinate reference system .* mend it"):
        inspect_source(path, None)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_prj_without_a_world_file_is_of_something_else(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "PNG")
    (tmp_path / "a.prj").write_text(CRS.from_epsg(25832).to_wkt())
    assert inspect_source(path, None).profile == {}


def test_control_points_have_a_distance_too(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(row=r, col=c, x=500000 + 0.2 * c, y=5762000 - 0.2 * r) for r, c in [(0, 0), (0, 30), (20, 0)]
    ]
    path = save(tmp_path / "a.tif", "GTiff", gcps=points, crs="EPSG:25832")
    assert raster_gsd(path) == pytest.approx(0.2 / 0.9996, rel=1e-6)
