"""Bootstrap intervals: by hand, by the exact distribution, by symmetry."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from weakseg.core.errors import DataError
from weakseg.evaluation.bootstrap import Interval, gap_closed, paired_bootstrap
from weakseg.evaluation.metrics import scores_of, to_json

NAMES = ("a", "b", "c")


def counts(*rows: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64)


def areas(seed: int, right: float, number: int = 7) -> dict[str, npt.NDArray[np.int64]]:
    """Confusion matrices of areas of 1000 px, ``right`` of them right, more or less."""
    rng = np.random.default_rng(seed)
    off = (1 - right) / 2
    rows = np.full((3, 3), off) + np.eye(3) * (right - off)
    return {f"area{i}": np.stack([rng.multinomial(1000, row) for row in rows]) for i in range(number)}


def test_bootstrap_of_equal_runs_is_zero() -> None:
    run = areas(0, 0.7)
    result = paired_bootstrap(run, run, NAMES, draws=50, seed=1)
    assert result.miou == Interval(0.0, 0.0, 0.0)
    assert all(value == Interval(0.0, 0.0, 0.0) for value in result.iou.values())


def test_bootstrap_value_is_the_pooled_difference_and_is_inside() -> None:
    low, high = areas(0, 0.7), areas(1, 0.75)
    result = paired_bootstrap(low, high, NAMES, draws=300, seed=1)
    pooled = [scores_of(np.sum(list(run.values()), axis=0), NAMES) for run in (low, high)]
    assert result.miou.value == pytest.approx(pooled[1]["miou"] - pooled[0]["miou"])
    assert 0 < result.miou.low < result.miou.value < result.miou.high
    assert result.iou["b"].value == pytest.approx(pooled[1]["iou"]["b"] - pooled[0]["iou"]["b"])
    back = paired_bootstrap(high, low, NAMES, draws=300, seed=1)
    assert back.miou.low == pytest.approx(-result.miou.high)
    assert paired_bootstrap(low, high, NAMES, draws=300, seed=1) == result
    shuffled = dict(reversed(low.items()))  # the order of the areas is no part of the draw
    assert paired_bootstrap(shuffled, high, NAMES, draws=300, seed=1) == result
    assert paired_bootstrap(low, high, NAMES, draws=300, seed=2).miou != result.miou


def test_bootstrap_limits_are_those_of_the_exact_distribution() -> None:
    """Two areas: a draw is (2, 0), (1, 1) or (0, 2) with chances 1/4, 1/2, 1/4."""
    start = {"x": counts((5, 5), (0, 10)), "y": counts((10, 0), (5, 5))}
    better = {"x": counts((10, 0), (0, 10)), "y": counts((10, 0), (5, 5))}
    result = paired_bootstrap(start, better, ("a", "b"), draws=2000, seed=0)
    all_x = 1 - (5 / 10 + 10 / 15) / 2
    assert (result.miou.low, result.miou.high) == (pytest.approx(0.0), pytest.approx(all_x))


def test_bootstrap_of_a_class_in_one_area_and_of_no_area() -> None:
    run = areas(0, 0.8, 3)
    for table in run.values():
        table[2, :] = table[:, 2] = 0
    run["area1"][2, 2] = 10
    result = paired_bootstrap(run, run, NAMES, draws=2000, seed=0)
    assert result.iou["c"].undefined == pytest.approx((2 / 3) ** 3, abs=0.05)
    single = {"area1": run["area1"]}
    lone = paired_bootstrap(single, single, NAMES, draws=10, seed=0)
    assert lone.miou.value == 0
    assert math.isnan(lone.miou.low)
    assert math.isnan(lone.miou.high)


def test_bootstrap_refuses_unequal_areas() -> None:
    with pytest.raises(DataError, match=r"not in every run: area6.*same areas"):
        paired_bootstrap(areas(0, 0.7, 7), areas(0, 0.7, 6), NAMES, draws=10, seed=0)
    with pytest.raises(DataError, match="positive number of draws"):
        paired_bootstrap(areas(0, 0.7), areas(0, 0.7), NAMES, draws=0, seed=0)
    with pytest.raises(DataError, match="0 areas"):
        paired_bootstrap({}, {}, NAMES, draws=10, seed=0)


def test_gap_closed_by_hand() -> None:
    """IoU of both classes: 5/15, 7/13 and 9/11."""
    runs = [{area: counts((k, 10 - k), (10 - k, k)) for area in "xyz"} for k in (5, 7, 9)]
    share = gap_closed(*runs, ("a", "b"), draws=100, seed=0)
    expected = (7 / 13 - 5 / 15) / (9 / 11 - 5 / 15)
    assert (share.value, share.low, share.high) == tuple(pytest.approx(expected) for _ in range(3))
    worse = gap_closed(runs[1], runs[0], runs[2], ("a", "b"), draws=100, seed=0)
    assert worse.value < 0
    assert gap_closed(runs[0], runs[2], runs[2], ("a", "b"), draws=10, seed=0).value == pytest.approx(1)


def test_gap_closed_without_a_gap_is_null() -> None:
    low, middle, high = areas(0, 0.7), areas(1, 0.75), areas(2, 0.8)
    none = gap_closed(high, middle, low, NAMES, draws=50, seed=0)
    assert to_json(none) == {"value": None, "low": None, "high": None, "undefined": 1.0}
    same = gap_closed(low, middle, low, NAMES, draws=50, seed=0)
    assert math.isnan(same.value)


def test_gap_closed_gives_no_limits_where_the_gap_is_not_established() -> None:
    """The oracle is better in one of three areas and worse in another: pooled it is ahead, in many draws it is not."""
    base = {area: counts((7, 3), (3, 7)) for area in "xyz"}
    oracle = base | {"x": counts((10, 0), (0, 10)), "y": counts((5, 5), (5, 5))}
    share = gap_closed(base, base, oracle, ("a", "b"), draws=500, seed=0)
    assert share.value == 0
    assert math.isnan(share.low)
    assert share.undefined > 0.2
