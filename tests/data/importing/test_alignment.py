"""Labels on other grids; shifts by hand: px of 0.5 m, or of the image's own grid."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from rasterio.crs import CRS

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.data.importing.alignment import align_label, shift_of
from weakseg.raster.header import RasterInfo

UTM32, UTM33, DEGREES = (CRS.from_epsg(code) for code in (25832, 25833, 4326))
GRID = (0.5, 0.0, 500000.0, 0.0, -0.5, 5300000.0)
IMAGE = RasterInfo(4, 6, 3, "uint8", UTM32.to_wkt(), GRID)
MASK = (np.arange(24, dtype=np.uint8) % 5).reshape(4, 6)
NAMES = ("l/a.tif", "i/a.tif")


def label(**changes: object) -> RasterInfo:
    return dataclasses.replace(IMAGE, bands=1, **changes)  # type: ignore[arg-type]


def moved(east: float, south: float) -> RasterInfo:
    return label(transform=(0.5, 0.0, 500000 + 0.5 * east, 0.0, -0.5, 5300000 - 0.5 * south))


@pytest.mark.parametrize(
    "same",
    [
        label(),
        label(crs=UTM32.to_wkt(version="WKT1_ESRI")),  # another spelling
        label(crs=CRS.from_epsg(32632).to_wkt()),  # WGS 84 in the same zone: for PROJ the same place
        label(crs=None),
        label(transform=None),
        label(transform=None, crs=None),
        moved(0.05, -0.05),
    ],
)
def test_the_same_grid_is_taken_as_it_is(same: RasterInfo) -> None:
    mask, changed = align_label(MASK, same, IMAGE, names=NAMES)
    assert mask is MASK
    assert not changed
    assert align_label(MASK, same, IMAGE, names=NAMES, resample=True)[1] is False
    assert shift_of(same, IMAGE) <= 0.1


@pytest.mark.parametrize(
    ("other", "shift"),
    [(moved(0.5, 0.5), "0.7"), (moved(1, 0), "1.0"), (moved(0, -0.2), "0.2"), (moved(3, 3), "4.2")],
)
def test_a_shift_of_a_part_of_a_pixel_is_refused_with_its_size(other: RasterInfo, shift: str) -> None:
    with pytest.raises(DataError) as caught:
        align_label(MASK, other, IMAGE, names=NAMES)
    assert str(caught.value).startswith(f"l/a.tif: lies {shift} px off i/a.tif; expected the place of its image")
    assert "--resample-labels" in str(caught.value)


def test_shifted_labels_are_resampled_when_asked() -> None:
    mask, changed = align_label(MASK, moved(1, -2), IMAGE, names=NAMES, resample=True)  # drawn one px right, two up
    expected = np.full((4, 6), IGNORE, np.uint8)
    expected[:2, 1:] = MASK[2:, :5]
    np.testing.assert_array_equal(mask, expected)
    assert changed


def test_other_sizes_and_turned_grids_are_resampled_when_asked() -> None:
    fine = RasterInfo(8, 12, 1, "uint8", UTM32.to_wkt(), (0.25, 0.0, 500000.0, 0.0, -0.25, 5300000.0))
    double = MASK.repeat(2, 0).repeat(2, 1)
    with pytest.raises(DataError, match=r"8x12 px; expected 4x6 px like i/a\.tif; .*--resample-labels"):
        align_label(double, fine, IMAGE, names=NAMES)
    np.testing.assert_array_equal(align_label(double, fine, IMAGE, names=NAMES, resample=True)[0], MASK)
    south_up = label(transform=(0.5, 0.0, 500000.0, 0.0, 0.5, 5299998.0))
    with pytest.raises(DataError, match=r"lies 4\.0 px off"):
        align_label(MASK[::-1], south_up, IMAGE, names=NAMES)
    np.testing.assert_array_equal(align_label(MASK[::-1], south_up, IMAGE, names=NAMES, resample=True)[0], MASK)


def test_without_a_place_sizes_must_agree() -> None:
    for other in (label(height=5), label(height=5, transform=None)):
        image = dataclasses.replace(IMAGE, transform=None)
        with pytest.raises(DataError, match="5x6 px; expected 4x6 px") as caught:
            align_label(np.zeros((5, 6), np.uint8), other, image, names=NAMES, resample=True)
        assert "--resample" not in str(caught.value)


def test_a_label_of_the_stored_pixels_of_a_turned_image_is_refused_with_the_reason() -> None:
    image, mask = RasterInfo(6, 4, 3, "uint8", orientation=6), RasterInfo(4, 6, 1, "uint8")
    with pytest.raises(DataError, match=r"4x6 px; expected 6x4 px .*of the stored pixels .*EXIF orientation 6"):
        align_label(MASK, mask, image, names=NAMES)


def test_equal_numbers_in_another_zone_lie_elsewhere() -> None:
    other = label(crs=UTM33.to_wkt())
    for resample in (False, True):
        with pytest.raises(DataError) as caught:
            align_label(MASK, other, IMAGE, names=NAMES, resample=resample)
        text = str(caught.value)
        assert "its corner at 500000, 5300000 and the image's at 500000, 5300000" in text
        assert "(in EPSG:25833, the image in EPSG:25832)" in text
    # six degrees of longitude at 47.85 degrees north, 111.32 km cos(47.85) each, are 448 km: 897 thousand px
    assert shift_of(other, IMAGE) == pytest.approx(897e3, rel=0.01)


def test_numbers_that_the_crs_of_the_label_does_not_have_are_out_of_reach() -> None:
    zone_prefixed = label(crs=CRS.from_epsg(4647).to_wkt())  # its eastings begin with the zone, 32500000
    assert not np.isfinite(shift_of(zone_prefixed, IMAGE))
    with pytest.raises(DataError, match=r"lies out of reach off i/a\.tif, .*\(in EPSG:4647, the image in EPSG:25832\)"):
        align_label(MASK, zone_prefixed, IMAGE, names=NAMES, resample=True)


def test_degrees_are_compared_where_they_lie() -> None:
    scene = dataclasses.replace(IMAGE, height=40, width=60)  # of 0.5 m
    lon, lat = 9.0, 47.85371  # 500000, 5300000 is on the central meridian; PROJ gives the latitude
    from rasterio.warp import transform

    (lon,), (lat,) = transform(UTM32, DEGREES, [500000.0], [5300000.0])
    assert lon == pytest.approx(9.0)
    width, height = 0.5 / (111412.84 * math.cos(math.radians(lat))), 0.5 / 111197.0  # m per degree, roughly
    other = RasterInfo(40, 60, 1, "uint8", DEGREES.to_wkt(), (width, 0.0, lon, 0.0, -height, lat))
    assert shift_of(other, scene) < 0.5  # metres and degrees meant the same place
    bare = dataclasses.replace(other, crs=None)
    with pytest.raises(DataError, match=r"its corner at 9, 47\.8\d+ and the image's at 500000, 5300000 \(without CRS"):
        align_label(np.zeros((40, 60), np.uint8), bare, scene, names=NAMES, resample=True)


def test_labels_in_another_crs_are_resampled_when_asked() -> None:
    from rasterio.warp import transform

    scene = dataclasses.replace(IMAGE, height=40, width=60)
    (east,), (north,) = transform(UTM32, UTM33, [500000.0], [5300000.0])
    other = RasterInfo(120, 120, 1, "uint8", UTM33.to_wkt(), (0.5, 0.0, east - 20, 0.0, -0.5, north + 20))
    mask = np.full((120, 120), 3, np.uint8)
    found, changed = align_label(mask, other, scene, names=NAMES, resample=True)
    assert changed
    assert (found == 3).all()  # the label covers the image from all sides
