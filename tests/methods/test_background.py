"""The background rule: what no object claims, by hand, and its choice on truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.bit_sets import allowed_of

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import ClassScheme
from weakseg.methods.background import (
    background_first,
    background_score,
    best_power,
    confident_labels,
    draw_background,
    power_of,
    to_scheme_order,
    try_powers,
    without_background,
)
from weakseg.methods.scores import ScoreMaps

SCORES = np.array([[[0.5, 0.2], [0.0, 1.0]], [[0.1, 0.75], [0.0, 0.0]]], np.float32)
MAPS = ScoreMaps(SCORES, np.array([True, False, True]))


def test_a_power_of_one_minus_the_largest_object_score() -> None:
    np.testing.assert_allclose(background_score(SCORES, 1.0), [[0.5, 0.25], [1, 0]])
    np.testing.assert_allclose(background_score(SCORES, 2.0), [[0.25, 0.0625], [1, 0]])
    np.testing.assert_array_equal(background_score(SCORES[:0], 2.0), np.ones((2, 2)))


@pytest.mark.parametrize("constant", [0.05, 0.25, 0.3, 0.5])
def test_a_power_decides_like_the_published_constant(constant: float) -> None:
    scores = np.linspace(0.001, 0.999, 400, dtype=np.float64)
    wins = (1 - scores) ** power_of(constant) > scores
    np.testing.assert_array_equal(wins, scores < constant)


def test_one_half_is_the_power_one() -> None:
    assert power_of(0.5) == pytest.approx(1.0)
    assert power_of(0.25) == pytest.approx(4.818842)


def test_drawn_only_where_something_is_known() -> None:
    here = np.array([[True, False], [True, True]])
    drawn = draw_background(MAPS, 1, 2.0, here)
    np.testing.assert_allclose(drawn.scores[1], [[0.25, 0], [1, 0]])
    np.testing.assert_array_equal(drawn.scores[[0, 2]], MAPS.scores)
    assert drawn.present.tolist() == [True, True, True]
    assert MAPS.present.tolist() == [True, False, True]  # what was handed in is as it was


def test_without_a_background_nothing_happens() -> None:
    assert draw_background(MAPS, None, 2.0) is MAPS
    assert without_background(MAPS, None) is MAPS


def test_the_objects_alone() -> None:
    drawn = draw_background(MAPS, 1, 1.0)
    back = without_background(drawn, 1)
    np.testing.assert_array_equal(back.scores, MAPS.scores)
    assert back.present.tolist() == [True, False, True]


def test_the_power_is_the_one_of_the_largest_miou() -> None:
    maps = ScoreMaps(np.array([[[0.1, 0.3, 0.4, 0.9]]], np.float32), np.array([False, True]))
    truth = np.array([[0, 1, 1, 1]], np.uint8)
    table = try_powers([(maps, Allowed.everywhere(1, 4, 2), truth)], 0, (0.5, 1.0, 4.0, 64.0))
    assert table[1.0].tolist() == [[1, 0], [2, 1]]  # .9, .7 and .6 beat .1, .3 and .4
    assert table[4.0].tolist() == [[1, 0], [0, 3]]  # .66 beats .1; .24 and .13 do not beat .3 and .4
    assert table[64.0].tolist() == [[0, 1], [0, 3]]
    assert best_power(table) == (4.0, 1.0)


def test_an_object_that_no_tag_allows_does_not_win() -> None:
    maps = ScoreMaps(np.array([[[0.9]]], np.float32), np.array([False, True]))
    part = (maps, allowed_of([[0b01]], 2), np.zeros((1, 1), np.uint8))
    assert try_powers([part], 0, (4.0,))[4.0].tolist() == [[1, 0], [0, 0]]


def test_confident_objects_and_confident_background() -> None:
    high, low = np.array([[2, 0, 0, 1]], np.uint8), np.array([[2, 2, 0, 1]], np.uint8)
    assert confident_labels(high, low, 0).tolist() == [[2, 255, 0, 1]]


def test_losses_of_the_published_form_find_the_background_first() -> None:
    labels = torch.tensor([[0, 1, 2, 3, 255]])
    assert background_first(labels, 2).tolist() == [[1, 2, 0, 3, 255]]
    assert background_first(labels, 0) is labels
    assert background_first(labels, None) is labels


def test_channels_of_the_single_stage_network_in_the_order_of_the_scheme() -> None:
    scheme = ClassScheme(("a", "rest", "b"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), background="rest")
    shares = np.arange(3, dtype=np.float32)[:, None, None]
    assert to_scheme_order(shares, scheme).ravel().tolist() == [1, 0, 2]
    plain = ClassScheme(("a", "rest", "b"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    assert to_scheme_order(shares, plain) is shares
