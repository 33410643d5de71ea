"""Areas of a map's values on the ground: sizes of px by hand, in any projection, and inside polygons."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from shapely import MultiPolygon, Polygon, affinity, box
from tests.generators.plain_rasters import save_raster

from weakseg.core.errors import DataError
from weakseg.raster.zones import value_areas

UTM = {"crs": "EPSG:25832", "transform": Affine(2, 0, 500_000, 0, -2, 5_400_000)}
UTM_SCALE = 0.9996  # of lengths on the central meridian


def halves(height: int, width: int) -> np.ndarray:
    """Class 0 on the left half, 1 on the right."""
    return np.broadcast_to((np.arange(width) >= width // 2).astype(np.uint8), (1, height, width)).copy()


def test_the_whole_map_by_hand(tmp_path: Path) -> None:
    """300 x 400 px of 2 m on the map, 2 / 0.9996 m on the ground; a corner of 10 x 10 px without data."""
    layers = halves(300, 400)
    layers[0, :10, :10] = 255
    found = value_areas(save_raster(tmp_path / "m.tif", layers, nodata=255, **UTM), 2)
    pixel = (2 / UTM_SCALE) ** 2
    assert found.shape == (1, 2)
    np.testing.assert_allclose(found[0], [(300 * 200 - 100) * pixel, 300 * 200 * pixel], rtol=1e-5)


def test_polygons_take_the_px_whose_centre_they_hold(tmp_path: Path) -> None:
    """A box of 3 x 2 px across the border, one half outside the raster, one outside, one with a hole, one of parts."""
    path = save_raster(tmp_path / "m.tif", halves(300, 400), nodata=255, **UTM)
    to_map = lambda shape: affinity.affine_transform(shape, (2, 0, 0, -2, 500_000, 5_400_000))  # noqa: E731
    hole = Polygon(box(10, 10, 20, 20).exterior.coords, [list(box(12, 12, 18, 18).exterior.coords)])
    shapes = [box(199, 5, 202, 7), box(-10, 0, 10, 4), box(500, 0, 510, 5), hole, box(199.4, 5.4, 201.6, 6.4)]
    both = MultiPolygon([box(0, 0, 1, 1), box(399, 299, 400, 300)])
    found = value_areas(path, 2, [to_map(shape) for shape in (*shapes, both)]) * UTM_SCALE**2 / 4
    expected = [[2, 4], [40, 0], [0, 0], [64, 0], [1, 2], [1, 1]]
    np.testing.assert_allclose(found[1:], expected, rtol=1e-4)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:25832"])
def test_the_projection_makes_no_difference(tmp_path: Path, crs: str) -> None:
    """The same square kilometre at 60 degrees north: in Web Mercator its px are four times too large."""
    from rasterio.warp import transform_bounds

    square = (500_000, 6_650_000, 501_000, 6_651_000)
    left, low, right, high = transform_bounds("EPSG:25832", crs, *square)
    transform = rasterio.transform.from_bounds(left, low, right, high, 700, 600)
    path = save_raster(tmp_path / "m.tif", np.zeros((1, 600, 700), np.uint8), crs=crs, transform=transform)
    found = value_areas(path, 1)[0, 0]
    bent = 1.04 if crs != "EPSG:25832" else 1.0  # the bounds of a turned square hold a little more
    assert 1e6 / UTM_SCALE**2 * 0.999 < found < 1e6 / UTM_SCALE**2 * bent * 1.001


def test_degrees_are_measured_where_they_are(tmp_path: Path) -> None:
    """A strip of 0 to 60 degrees north, one degree wide: by the sphere's formula within the flattening."""
    transform = Affine(0.01, 0, 10, 0, -0.01, 60)
    path = save_raster(tmp_path / "m.tif", np.zeros((1, 6000, 100), np.uint8), crs="EPSG:4326", transform=transform)
    sphere = 6_371_007.0**2 * math.radians(1) * math.sin(math.radians(60))
    assert value_areas(path, 1)[0, 0] == pytest.approx(sphere, rel=0.004)


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    plain = np.zeros((1, 20, 20), np.uint8)
    with pytest.raises(DataError, match=r"n\.tif has no place on Earth; expected a CRS"):
        value_areas(save_raster(tmp_path / "n.tif", plain), 1)
    with pytest.raises(DataError, match=r"m\.tif: value 3; expected 0 to 1 or no data"):
        value_areas(save_raster(tmp_path / "m.tif", plain + 3, **UTM), 2)
    with pytest.raises(DataError, match=r"f\.tif: float32; expected a map of classes"):
        value_areas(save_raster(tmp_path / "f.tif", plain.astype(np.float32), **UTM), 2)
