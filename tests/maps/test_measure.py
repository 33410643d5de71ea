"""Areas inside drawn outlines: on the ground, in pixels, and by class; refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from weakseg.core.errors import DataError
from weakseg.maps.measure import count_inside, outline_area, outline_window, read_outline

UTM = {"crs": CRS.from_epsg(25832), "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)}


def test_a_rectangle_by_hand() -> None:
    outline = read_outline([(10, 20), (110, 20), (110, 60), (10, 60)], 500, 500)
    assert outline.area == 4000
    # 100 x 40 px of 0.5 m; UTM's scale at its central meridian is 0.9996
    assert outline_area(outline, UTM) == pytest.approx(1000 / 0.9996**2, rel=2e-4)


def test_degrees_and_mercator_are_measured_on_the_ground() -> None:
    degree = read_outline([(0, 0), (1, 0), (1, 1), (0, 1)], 10, 10)
    world = {"crs": CRS.from_epsg(4326), "transform": Affine(1, 0, 0, 0, -1, 1)}
    # one degree at the equator: 2 pi^2 / 360^2 a^2 (1 - e^2) (sine series), 12,308.8 km2 on WGS84
    assert outline_area(degree, world) == pytest.approx(12_308.8e6, rel=1e-3)
    metres = read_outline([(0, 0), (10, 0), (10, 10), (0, 10)], 10, 10)
    mercator = {"crs": CRS.from_epsg(3857), "transform": Affine(10, 0, 0, 0, -10, 8_399_738)}  # at 60 degrees north
    assert outline_area(metres, mercator) == pytest.approx(100**2 * math.cos(math.radians(60)) ** 2, rel=0.01)


def test_control_points_are_a_place_and_without_one_there_are_no_metres() -> None:
    outline = read_outline([(0, 0), (100, 0), (100, 100), (0, 100)], 100, 100)
    corners = [(0, 0), (0, 100), (100, 0), (100, 100)]
    points = [GroundControlPoint(row, column, *(UTM["transform"] @ (column, row))) for row, column in corners]
    assert outline_area(outline, {"gcps": points, "crs": UTM["crs"]}) == pytest.approx(2500, rel=2e-3)
    assert outline_area(outline, {}) is None
    assert outline_area(outline, {"transform": UTM["transform"]}) is None
    site = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert outline_area(outline, {"crs": site, "transform": UTM["transform"]}) is None


def test_an_outline_is_cut_to_the_raster() -> None:
    outline = read_outline([(-50, -50), (50, -50), (50, 50), (-50, 50)], 100, 100)
    assert outline.area == 2500
    assert outline_window(outline) == (0, 0, 50, 50)


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ([(0, 0), (5, 5)], "an outline of 2 corners; expected 3 to 2000"),
        ([(0, 0), (5, 5), (math.nan, 1)], "finite"),
        ([(0, 0), (9, 9), (9, 0), (0, 9)], "edges cross"),
        ([(0, 0), (5, 5), (9, 9)], "edges cross"),
        ([(20, 20), (30, 20), (30, 30)], "beside the raster"),
        ([(float(at), 0.0) for at in range(2001)], "2001 corners"),
    ],
)
def test_outlines_that_are_none(corners: list[tuple[float, float]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_outline(corners, 10, 10)


def test_classes_are_counted_by_the_middles_of_pixels() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[:, 30:] = 2
    classes[:5] = 255
    windows = []

    def read(window: tuple[int, int, int, int]) -> np.ndarray:
        windows.append(window)
        top, left, height, width = window
        return classes[top : top + height, left : left + width]

    outline = read_outline([(20.4, 2.4), (40.6, 2.4), (40.6, 20.6), (20.4, 20.6)], 40, 60)
    counts = count_inside(outline, read, side=16)
    # columns 20 to 40 and rows 2 to 20 have their middles inside: 21 x 19
    assert (counts[0], counts[2], counts[255]) == (10 * 16, 11 * 16, 3 * 21)
    assert counts.sum() == 21 * 19
    assert len(windows) == 4  # rows 2 to 16 and 16 to 21, columns 20 to 32 and 32 to 41
    assert all(height <= 16 and width <= 16 for _, _, height, width in windows)
