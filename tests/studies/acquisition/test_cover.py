"""A batch by hand: places on a line, fifty equal roofs, costs, what is labelled already; greedy against brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from weakseg.studies.acquisition.cover import choose, choose_questions, likeness, reach_of, standardise


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


def test_places_that_look_the_same_are_alike_whatever_rounding_does() -> None:
    """Sums of squares of some 3e5 round by 1e-11: two looks, three places each, median distance to the nearest 0."""
    looks = np.random.default_rng(0).normal(size=(2, 500)) * 25
    places = looks[[0, 0, 0, 1, 1, 1]] + np.random.default_rng(1).normal(size=(6, 500)) * 1e-12
    assert reach_of(places, 1) == 0.0
    same = [[1.0] * 3 + [0.0] * 3] * 3 + [[0.0] * 3 + [1.0] * 3] * 3
    assert likeness(places, places, 0.0).tolist() == same
    assert [likeness(places[[i]], places, 0.0)[0].tolist() for i in range(6)] == same


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


def ask(features: list[list[float]], changes: list[list[float]], **options: Any) -> list[tuple[int, list[int], float]]:
    places, worth = np.array(features, float), np.array(changes, float)
    alike = likeness(places, places, 1.0)
    settings = {"look": 0.0, "question": 1.0, "count": 99} | options
    asked = settings.pop("asked", np.ones(worth.shape, bool))
    return choose_questions(
        np.array(asked, bool), worth, alike.__getitem__, settings.pop("covered", np.zeros(worth.shape)), **settings
    )


def test_the_telling_class_of_each_crop_is_asked_before_the_others() -> None:
    """Crops far apart, 1 s a question: .9 (first), .8 (second), then the other class of the second before a third."""
    features, changes = [[0.0], [10.0], [20.0]], [[0.9, 0.1], [0.7, 0.8], [0.2, 0.2]]
    found = ask(features, changes, count=2)
    assert [(crop, classes) for crop, classes, _ in found] == [(0, [0]), (1, [1, 0])]  # .9, .8, .7; .2 is a third crop
    assert [gain for *_, gain in found] == pytest.approx([0.9, 1.5])


def test_where_looking_costs_more_is_asked_of_what_is_seen() -> None:
    """With 4 s a look: 1.0 / 5 opens the second, whose .3 / 1 comes at once; .9 / 5, then .17 / 1 before .8 / 5."""
    features, changes = [[0.0], [10.0], [20.0]], [[0.9, 0.17], [1.0, 0.3], [0.8, 0.0]]
    found = ask(features, changes, look=4.0)
    assert [(crop, classes) for crop, classes, _ in found] == [(1, [0, 1]), (0, [0, 1]), (2, [0])]
    assert ask(features, changes, look=4.0, count=2)[1][:2] == (0, [0, 1])


def test_an_answer_covers_its_class_alone() -> None:
    """Two equal crops: the first tells of both classes what can be told, and the second gains nothing."""
    found = ask([[0.0], [0.0]], [[1.0, 0.0], [1.0, 0.9]])
    assert [(crop, classes) for crop, classes, _ in found] == [(0, [0, 1]), (1, [0])]
    assert [gain for *_, gain in found] == pytest.approx([2.9, 0.0])


def test_what_may_not_be_asked_or_is_known_is_not() -> None:
    found = ask([[0.0], [10.0]], [[0.9, 0.8], [0.7, 0.6]], asked=[[False, True], [False, False]])
    assert [(crop, classes) for crop, classes, _ in found] == [(0, [1])]
    covered = np.array([[0.9, 0.0], [0.0, 0.0]])
    (first, classes, gain), *_ = ask([[0.0], [10.0]], [[1.0, 0.0], [0.3, 0.0]], covered=covered)
    assert (first, classes[0]) == (1, 0)
    assert gain == pytest.approx(0.3)


def test_the_lazy_questions_are_the_greedy_ones() -> None:
    rng = np.random.default_rng(3)
    features, changes = rng.normal(size=(20, 2)), rng.random((20, 3))
    found = ask(features.tolist(), changes.tolist(), look=0.7, count=8)
    alike, covered, told = likeness(features, features, 1.0), np.zeros((20, 3)), np.zeros((20, 3), bool)
    order: list[int] = []
    while True:
        gains = np.stack([(np.maximum(alike - covered[:, k], 0) @ changes[:, k]) for k in range(3)], axis=1)
        rates = gains / np.where(told.any(1), 1.0, 1.7)[:, None]
        rates[told] = -1
        crop, index = np.unravel_index(int(rates.argmax()), rates.shape)
        if not told[crop].any():
            if len(order) == 8:
                break
            order.append(int(crop))
        told[crop, index] = True
        covered[:, index] = np.maximum(covered[:, index], alike[crop])
    assert [crop for crop, *_ in found] == order
    for crop, classes, _ in found:
        assert sorted(classes) == np.flatnonzero(told[crop]).tolist()
