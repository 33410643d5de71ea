"""A batch by hand: places on a line, fifty equal roofs, costs, what is labelled already; greedy against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weakseg.studies.acquisition.cover import choose, likeness, reach_of, standardise


def pick(
    features: list[list[float]],
    changes: list[float],
    *,
    reach: float = 1.0,
    covered: list[float] | None = None,
    seconds: list[float] | None = None,
    items: list[list[int]] | None = None,
    count: int = 99,
) -> tuple[list[int], list[float]]:
    places = np.array(features, float)
    alike = likeness(places, places, reach)
    chosen = [np.array(item) for item in items] if items else [np.array([i]) for i in range(len(places))]
    return choose(
        chosen,
        np.array(changes, float),
        alike.__getitem__,
        np.array(covered or [0.0] * len(places)),
        np.array(seconds or [1.0] * len(chosen)),
        count=count,
    )


def test_likeness_by_hand() -> None:
    found = likeness(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0]]), 5.0)
    assert found[:, 0] == pytest.approx([1.0, math.exp(-1)], abs=1e-6)


def test_features_are_standardised_and_weighed() -> None:
    found = standardise(np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([0.5, 1.0]))
    assert found.tolist() == [[-0.5, 0.0], [0.5, 0.0]]


def test_the_reach_is_the_median_distance_to_the_nth_nearest() -> None:
    """0, 1, 3, 7, 12: nearest 1, 1, 2, 4, 5, their median 2; second nearest 3, 2, 3, 5, 9, their median 3."""
    line = np.array([[0.0], [1.0], [3.0], [7.0], [12.0]])
    assert reach_of(line, 1) == pytest.approx(2.0)
    assert reach_of(line, 2) == pytest.approx(3.0)
    assert reach_of(line, 99) == pytest.approx(11.0)  # the farthest: 12, 11, 9, 7, 12
    assert reach_of(line[:1], 3) == 1.0


def test_fifty_equal_roofs_are_asked_about_once() -> None:
    """The roofs change more than the lawn and the pond each, and still these come second and third."""
    features = [[0.0]] * 50 + [[10.0], [20.0]]
    chosen, gains = pick(features, [1.0] * 50 + [0.6, 0.5], count=4)
    assert chosen[1:3] == [50, 51]
    assert chosen[0] < 50
    assert chosen[3] < 50
    assert gains == pytest.approx([50.0, 0.6, 0.5, 0.0], abs=1e-6)


def test_what_looks_like_labelled_places_gains_nothing() -> None:
    chosen, gains = pick([[0.0], [10.0]], [1.0, 0.3], covered=[0.9, 0.0])
    assert chosen == [1, 0]
    assert gains == pytest.approx([0.3, 0.1])


def test_gain_is_divided_by_seconds() -> None:
    assert pick([[0.0], [10.0]], [1.0, 0.9], seconds=[5.0, 4.0])[0] == [1, 0]  # .2 and .225 a second
    assert pick([[0.0], [10.0]], [1.0, 0.9], seconds=[4.0, 4.0])[0] == [0, 1]


def test_an_image_gains_what_its_places_gain_together() -> None:
    """Two equal places of one image count once, of 1 + 1 to stand for."""
    _, gains = pick([[0.0], [0.0], [10.0]], [1.0, 1.0, 1.5], items=[[0, 1], [2]])
    assert gains == pytest.approx([2.0, 1.5], abs=1e-6)


def test_lazy_greedy_is_greedy() -> None:
    rng = np.random.default_rng(0)
    features, changes, seconds = rng.normal(size=(40, 3)), rng.random(40), rng.uniform(1, 5, 40)
    chosen, gains = pick(features.tolist(), changes.tolist(), seconds=seconds.tolist(), count=12)
    alike, covered = likeness(features, features, 1.0), np.zeros(40)
    for step, gain in zip(chosen, gains, strict=True):
        worth = (np.maximum(alike - covered, 0) @ changes) / seconds
        worth[chosen[: chosen.index(step)]] = -1
        assert int(worth.argmax()) == step
        assert gain == pytest.approx(worth[step] * seconds[step], rel=1e-5)
        covered = np.maximum(covered, alike[step])
    assert len(pick(features.tolist(), changes.tolist(), count=99)[0]) == 40
