"""Outlines of rasters in longitude and latitude."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from weakseg.raster.footprint import read_footprint


def raster(path: Path, east: float) -> Path:
    """Two by two km in zone 32 of UTM, in the north."""
    place = {"crs": "EPSG:25832", "transform": Affine(1000, 0, east, 0, -1000, 5_700_000)}
    with rasterio.open(path, "w", driver="GTiff", count=1, height=2, width=2, dtype="uint8", **place) as file:
        file.write(np.ones((1, 2, 2), np.uint8))
    return path


def test_an_outline_is_a_closed_ring_around_the_central_meridian(tmp_path: Path) -> None:
    outline = read_footprint(raster(tmp_path / "a.tif", 499_000)).outline
    assert outline is not None
    assert outline[0] == outline[-1]
    longitudes = [longitude for longitude, _ in outline]
    assert min(longitudes) - 9 == pytest.approx(9 - max(longitudes), abs=1e-9)  # the zone's meridian is 9 degrees east
    assert max(longitudes) - 9 == pytest.approx(1000 / (0.9996 * 6378137 * np.pi / 180 * np.cos(0.898)), rel=0.01)


def test_a_place_that_the_crs_does_not_have_has_no_outline(tmp_path: Path) -> None:
    place = read_footprint(raster(tmp_path / "a.tif", 32_500_000))  # the zone before the easting is EPSG:4647
    assert place.outline is None
    assert place.code == "EPSG:25832"
