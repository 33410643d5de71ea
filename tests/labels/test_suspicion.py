"""P(a tag is wrong), by hand: what pixels say out of sample, and people as witnesses."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.labels.suspicion import (
    SHARES,
    USUAL,
    crop_suspicion,
    presence_numbers,
    presence_out_of_fold,
    wrong_probability,
)


def test_numbers_are_means_over_the_likeliest_pixels_of_the_window() -> None:
    """100 px with 0.00 to 0.99 in a corner of a map of 1s: the best of them, the best 1, 3, 10 and 30, and all."""
    maps = np.ones((2, 12, 15), np.float32)
    maps[0, 2:12, 5:15] = np.arange(100).reshape(10, 10) / 100
    found = presence_numbers(maps, (2, 5, 10, 10))
    assert found[0] == pytest.approx([0.99, 0.99, 0.98, 0.945, 0.845, 0.495], abs=1e-6)
    assert found[1].tolist() == [1.0] * 6


def one(presence: float, tag: bool, votes: tuple[int, int], known: bool = True) -> float:
    found = wrong_probability(
        np.array([[presence]]), np.array([[tag]]), np.array([[known]]), np.array([[votes]], np.int64)
    )
    return float(found[0, 0])


def test_a_tag_is_suspect_by_pixels_and_by_people() -> None:
    """With 5 % errors: 0.9 * 0.05 / (0.9 * 0.05 + 0.1 * 0.95) for "absent" where the pixels say 0.9."""
    assert one(0.9, False, (0, 0)) == pytest.approx(0.045 / 0.14)
    assert one(0.9, False, (1, 0)) == pytest.approx(0.045 / 0.14)  # whoever wrote the tag is one witness
    assert one(0.1, True, (0, 0)) == pytest.approx(0.045 / 0.14)
    assert one(0.9, True, (0, 0)) == pytest.approx(0.005 / 0.86)
    assert one(0.9, False, (2, 1)) == pytest.approx(0.045 / 0.14)  # one more for it than against it
    assert one(0.9, False, (2, 0)) == pytest.approx(0.9 / 361 / (0.9 / 361 + 0.1))
    assert one(0.9, False, (0, 1)) == pytest.approx(0.9)  # the table says so, the one who was asked does not
    assert one(0.9, False, (1, 3)) == pytest.approx(0.9 * 361 / (0.9 * 361 + 0.1))


def test_a_draw_is_one_half_and_what_nobody_claims_is_not_wrong() -> None:
    assert one(0.9, False, (1, 1), known=False) == 0.5
    assert one(0.9, False, (0, 0), known=False) == 0.0
    assert one(0.9, False, (2, 1), known=False) == 0.0  # an answer that is not in the table yet
    assert crop_suspicion(np.array([[0.5, 0.2], [0.0, 0.0]])).tolist() == pytest.approx([0.6, 0.0])


def scene(seed: int, areas: int = 5, crops: int = 30) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Numbers (N, 1, 6) that tell presence, 0.8 with the class and 0.2 without it, with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.random((areas * crops, 1)) < 0.5
    numbers = (np.where(truth, 0.8, 0.2)[..., None] + rng.normal(0, 0.03, (*truth.shape, len(SHARES)))).clip(0, 1)
    return numbers, truth, [f"a{number // crops}" for number in range(areas * crops)]


def test_wrong_tags_do_not_speak_for_themselves() -> None:
    """All tags of an area are the wrong way round: the regression that judges them has learnt elsewhere."""
    numbers, truth, areas = scene(0)
    lied = truth.copy()
    lied[:30] = ~lied[:30]
    found = presence_out_of_fold(numbers, lied, np.ones_like(lied), areas)
    assert ((found > 0.5) == truth).all()
    order = np.argsort(-wrong_probability(found, lied, np.ones_like(lied), np.zeros((150, 1, 2), np.int64))[:, 0])
    assert set(order[:30].tolist()) == set(range(30))


def test_where_little_is_known_the_networks_own_number_stands() -> None:
    numbers, truth, areas = scene(1)
    known = np.zeros_like(truth)
    known[:24] = True
    found = presence_out_of_fold(numbers, truth, known, areas)  # of area a0 alone: other folds learn from nothing else
    assert found[:30, 0].tolist() == numbers[:30, 0, USUAL].clip(1e-4, 1 - 1e-4).tolist()
    few = presence_out_of_fold(numbers[:4], truth[:4], np.ones((4, 1), bool), areas[:4])
    assert few[:, 0].tolist() == numbers[:4, 0, USUAL].tolist()


def test_one_area_is_judged_by_parts_of_itself() -> None:
    numbers, truth, _ = scene(2)
    lied = truth.copy()
    lied[:10] = ~lied[:10]
    found = presence_out_of_fold(numbers, lied, np.ones_like(lied), ["a"] * 150)
    assert ((found > 0.5) == truth).all()
