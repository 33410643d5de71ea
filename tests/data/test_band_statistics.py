"""Statistics of bands, and resizing of any number of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from weakseg.core.bands import Bands, known_band
from weakseg.core.errors import DataError
from weakseg.data.band_statistics import measure_bands
from weakseg.raster.resample import resize_image

BANDS = Bands((known_band("red", dtype="uint16"), known_band("height", dtype="uint16", nodata=0)))


def test_mean_deviation_and_percentiles_leave_holes_and_pixels_without_data_out() -> None:
    image = np.array([[[1, 0], [3, 10]], [[5, 20], [999, 30]]], np.uint16)
    valid = np.array([[True, True], [True, False]])
    red, height = (b.statistics for b in measure_bands(BANDS, [("a", image, valid), ("b", image[:1], None)]).members)
    assert red is not None
    assert height is not None
    assert red.mean == pytest.approx((1 + 3 + 5 + 1 + 3) / 5)
    assert red.std == pytest.approx(np.std([1, 3, 5, 1, 3]))
    assert red.percentiles[2] == 3
    assert (height.mean, height.std) == (pytest.approx(40 / 3), pytest.approx(np.std([10, 20, 10])))


def test_a_band_that_no_area_has_is_refused() -> None:
    with pytest.raises(DataError, match="no value of band height"):
        measure_bands(BANDS, [("a", np.zeros((2, 2, 2), np.uint16), None)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("how", [cv2.INTER_AREA, cv2.INTER_LINEAR])
def test_any_number_of_bands_is_resized_like_each_alone(dtype: type, how: int) -> None:
    image = np.random.default_rng(0).integers(0, 250, (20, 30, 16)).astype(dtype)
    for count in (1, 3, 4, 5, 16):
        found = resize_image(image[..., :count], (12, 9), how)
        assert (found.shape, found.dtype) == ((9, 12, count), dtype)
        alone = [cv2.resize(image[..., band].copy(), (12, 9), interpolation=how) for band in range(count)]
        np.testing.assert_allclose(found, np.stack(alone, 2), atol=1)
