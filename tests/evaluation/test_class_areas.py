"""Error-adjusted areas: the worked example of the paper, and areas as units by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weakseg.core.errors import DataError
from weakseg.evaluation.class_areas import adjust_for_areas, adjust_for_sample

# Olofsson et al. 2014, table 8: rows map (deforestation, forest gain, stable forest, stable non-forest), columns truth
EXAMPLE = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000.0])  # px of 30 m


def test_the_worked_example_of_the_paper() -> None:
    """Section 5: 235,086 px of deforestation, that is 21,158 ha, give or take 68,418 px or 6,158 ha."""
    found = adjust_for_sample(MAPPED, EXAMPLE.T)
    assert found.areas[0] == pytest.approx(235_086, abs=1)
    assert 1.96 * found.errors[0] == pytest.approx(68_418, abs=3)
    assert found.areas[0] * 900 / 10_000 == pytest.approx(21_158, abs=1)
    assert (found.areas[0] - found.low[0]) * 900 / 10_000 == pytest.approx(6_158, abs=1)
    assert found.areas.sum() == pytest.approx(MAPPED.sum())


def test_the_other_classes_of_the_example_by_the_formula() -> None:
    """Forest gain: 0.015 * 55 / 75 + 0.645 / 325 of 10 million px."""
    found = adjust_for_sample(MAPPED, EXAMPLE.T)
    assert found.areas[1] == pytest.approx(1e7 * (0.015 * 55 / 75 + 0.645 * 1 / 325))
    variance = 0.015**2 * (55 / 75) * (20 / 75) / 74 + 0.645**2 * (1 / 325) * (324 / 325) / 324
    assert found.errors[1] == pytest.approx(1e7 * math.sqrt(variance))
    assert found.high[1] == pytest.approx(found.areas[1] + 1.959964 * found.errors[1])


def test_a_perfect_map_stays_as_it_is() -> None:
    found = adjust_for_sample(np.array([30.0, 70.0]), np.diag([10, 20]))
    assert found.areas.tolist() == found.low.tolist() == found.high.tolist() == [30, 70]


def test_areas_as_units_by_hand() -> None:
    """Of class 0 on the map half is right in one area, all in the other; class 1 is always right.

    Pooled 3 of 4. Residuals: (1 - 0.75 * 2) / 4 and (2 - 0.75 * 2) / 4, times the share 0.4 of class 0 on the map.
    """
    one, two = np.array([[1, 0], [1, 4]]), np.array([[2, 0], [0, 4]])  # rows truth
    found = adjust_for_areas(np.array([40.0, 60.0]), [one, two])
    assert found.areas.tolist() == pytest.approx([30, 70])
    error = 100 * math.sqrt(2 / 1 * 2 * (0.4 * 0.125) ** 2)
    assert found.errors.tolist() == pytest.approx([error, error])
    assert found.low[0] == pytest.approx(max(0, 30 - 12.706 * error), abs=0.1)  # t of one degree of freedom
    assert (found.low.min(), found.high.max()) == (0, 100)  # never more than there is


def test_more_pixels_of_the_same_areas_are_no_more_certain() -> None:
    rng = np.random.default_rng(0)
    areas = [rng.integers(1, 50, (3, 3)) for _ in range(6)]
    mapped = np.array([1.0, 2.0, 3.0])
    few, many = adjust_for_areas(mapped, areas), adjust_for_areas(mapped, [100 * area for area in areas])
    np.testing.assert_allclose(few.errors, many.errors)
    by_pixel = adjust_for_sample(mapped, 100 * sum(areas))
    assert (by_pixel.errors < many.errors / 5).all()


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """8 areas, each with error rates of its own around the same mean: 95 % intervals of 2000 draws."""
    rng = np.random.default_rng(1)
    mapped, inside = np.array([40.0, 60.0]), 0
    for _ in range(2000):
        drawn = []
        for right_0, right_1 in zip(
            rng.normal(0.7, 0.1, 8).clip(0, 1), rng.normal(0.9, 0.05, 8).clip(0, 1), strict=True
        ):
            a, b = rng.binomial(400, right_0), rng.binomial(600, right_1)
            drawn.append(np.array([[a, 600 - b], [400 - a, b]]))
        found = adjust_for_areas(mapped, drawn)
        inside += bool(found.low[0] <= 40 * 0.7 + 60 * 0.1 <= found.high[0])
    assert 0.93 < inside / 2000 < 0.97


def test_one_area_has_no_interval() -> None:
    found = adjust_for_areas(np.array([1.0, 1.0]), [np.array([[3, 1], [1, 3]])])
    assert found.areas.tolist() == [1, 1]
    assert np.isnan([found.errors, found.low, found.high]).all()


def test_a_single_reference_unit_has_no_interval() -> None:
    found = adjust_for_sample(np.array([1.0, 1.0]), np.array([[1, 0], [0, 9]]))
    assert np.isnan(found.errors).any()


@pytest.mark.parametrize("adjust", [adjust_for_sample, lambda mapped, one: adjust_for_areas(mapped, [one, one])])
def test_a_class_without_any_reference_leaves_everything_open(adjust: object) -> None:
    confusion = np.array([[5, 0, 0], [0, 5, 0], [1, 1, 0]])  # class 2 was never mapped where truth is known
    found = adjust(np.array([1.0, 1.0, 1.0]), confusion)  # type: ignore[operator]
    assert found.unseen == (2,)
    assert np.isnan(found.areas).all()
    without = adjust(np.array([1.0, 1.0, 0.0]), confusion)  # type: ignore[operator]
    assert without.unseen == ()
    assert without.areas.sum() == pytest.approx(2)


@pytest.mark.parametrize("mapped", [[0.0, 0.0], [1.0, -1.0]])
def test_what_is_no_map_is_refused(mapped: list[float]) -> None:
    with pytest.raises(DataError, match="a map with data"):
        adjust_for_sample(np.array(mapped), np.eye(2, dtype=int))
