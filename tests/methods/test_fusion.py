"""Tags and experts on a network's probabilities, by hand values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.bit_sets import allowed_of, batch_of, bits_of

from weakseg.core.class_sets import Allowed
from weakseg.core.errors import DataError
from weakseg.core.tag_errors import TagErrors
from weakseg.methods.fusion import (
    EXPERT_FLOOR,
    align_scores,
    claim_missing,
    constrain_scores,
    expert_shares,
    fuse,
    possible_classes,
    silence_ignored,
)  # fmt: skip
from weakseg.methods.scores import ScoreMaps, check_scores
from weakseg.methods.selftrain import align, constrain, expected_shares


def pixels(*columns: tuple[float, ...]) -> np.ndarray:
    """Scores (C, 1, W) float32 from one tuple per pixel."""
    return np.array(columns, np.float32).T[:, None, :]


def maps(*columns: tuple[float, ...]) -> ScoreMaps:
    scores = pixels(*columns)
    return ScoreMaps(scores, np.ones(len(scores), bool))


def bits(*values: int, classes: int = 3) -> Allowed:
    return allowed_of([values], classes)


def test_planes() -> None:
    planes = bits(0, 1, 6).planes()
    assert planes[:, 0].T.tolist() == [[False, False, False], [True, False, False], [False, True, True]]


def test_constrained_scores_by_hand() -> None:
    found = constrain_scores(pixels((0.5, 0.3, 0.2), (0.5, 0.3, 0.2)), bits(3, 2))
    assert found.scores[:, 0, 0] == pytest.approx([0.625, 0.375], abs=1e-5)
    assert found.scores[:, 0, 1].tolist() == [0.0, 1.0]
    assert found.present.tolist() == [True, True, False]
    check_scores(found, "x")


def test_tags_that_may_be_missing_by_hand() -> None:
    """As in training: named classes count 1.75, 1 and 7, the others .5, 1 and a third."""
    errors, allowed = TagErrors(0.3, 0.1, np.array([0.4, 0.7, 0.1]), np.ones(3)), bits(0b110, 0b000)
    given = pixels((0.5, 0.3, 0.2), (0.5, 0.3, 0.2))
    found = constrain_scores(given, allowed, errors)
    assert found.scores[:, 0, 0] == pytest.approx([0.25 / 1.95, 0.3 / 1.95, 1.4 / 1.95], abs=1e-4)
    assert found.scores[:, 0, 1].tolist() == [0.0, 0.0, 0.0]
    assert bits_of(possible_classes(allowed, errors)).tolist() == [[0b111, 0b000]]
    assert possible_classes(allowed, None) is allowed
    wrong_only = TagErrors(0.0, 0.1, errors.tagged, errors.spoken)
    assert bits_of(possible_classes(allowed, wrong_only)).tolist() == [[0b110, 0b000]]
    held = constrain_scores(given, allowed, wrong_only).scores[:, 0, 0]
    assert held == pytest.approx([0.3 / 0.7 / (0.3 / 0.7 + 2), 2 / (0.3 / 0.7 + 2)], abs=1e-4)  # .3 / .7 and .2 / .1


@pytest.mark.parametrize("values", [(0b001, 0b001), (0b111, 0b111), (0b010, 0b000)])
def test_shares_of_an_area_are_those_of_training(values: tuple[int, int]) -> None:
    """One rule in two forms: raised scores are the probabilities that align gives a batch of this one area."""
    errors, typical = TagErrors(0.3, 0.1, np.array([0.4, 0.4, 0.3]), np.ones(3)), np.array([0.6, 0.3, 0.5], np.float32)
    given = pixels((0.7, 0.2, 0.1), (0.6, 0.3, 0.1))
    found = align_scores(constrain_scores(given, bits(*values), errors), bits(*values), typical, errors)
    batch = replace(batch_of(torch.tensor([[values]]), 3), errors=errors)
    held = constrain(torch.from_numpy(given)[None], batch)
    wanted = align(held, expected_shares(batch, torch.from_numpy(typical)), batch)[0].numpy()
    seen = ~bits(*values).nothing
    assert found.dense()[:, seen] == pytest.approx(wanted[:, seen], abs=1e-4)


def test_where_no_class_is_allowed_all_scores_are_0() -> None:
    """No image data, or tags that contradict each other."""
    found = constrain_scores(pixels((0.5, 0.3, 0.2), (0.5, 0.3, 0.2)), bits(0, 1))
    assert found.dense()[:, 0].T.tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert found.present.tolist() == [True, False, False]
    check_scores(found, "x")
    plain = maps((0.5, 0.3, 0.2), (0.5, 0.3, 0.2))
    assert silence_ignored(plain, bits(7, 1)) is plain
    assert silence_ignored(plain, bits(7, 0)).scores[:, 0, 1].tolist() == [0.0, 0.0, 0.0]


def test_ignored_pixels_shift_no_shares() -> None:
    """Aligned scores of the others are as if the ignored pixels were not there."""
    typical, given = np.array([0.6, 0.3, 0.1], np.float32), ((0.8, 0.15, 0.05), (0.7, 0.2, 0.1))
    alone = align_scores(constrain_scores(pixels(*given), bits(7, 3)), bits(7, 3), typical)
    beside = bits(7, 3, 0, 0)
    found = align_scores(constrain_scores(pixels(*given, (0.1, 0.1, 0.8), (0.0, 0.0, 1.0)), beside), beside, typical)
    assert found.scores[:, :, :2] == pytest.approx(alone.scores, abs=1e-6)
    assert not found.scores[:, :, 2:].any()


def test_an_ignored_pixel_wins_and_claims_nothing() -> None:
    """Class 0 has no score at the ignored pixel, yet comes first there; it must claim elsewhere."""
    allowed = bits(0, 7)
    given = constrain_scores(pixels((1.0, 0.0, 0.0), (0.3, 0.7, 0.0)), allowed)
    window, present = np.array([(0, 0, 1, 2)], np.int64), np.array([[True, True, False]])
    found, claims = claim_missing(given, window, present, allowed=allowed)
    assert claims == 1
    assert pytest.approx(np.array([[0, 0, 0], [0.7, 0.3, 0]]), abs=1e-5) == found.scores[:, 0].T


def claim(scores: np.ndarray, *tags: int) -> tuple[np.ndarray, int]:
    """One window over all; ``tags`` are the classes it carries."""
    present = np.zeros((1, len(scores)), bool)
    present[0, list(tags)] = True
    window = np.array([(0, 0, *scores.shape[1:])], np.int64)
    found, claims = claim_missing(ScoreMaps(scores, np.ones(len(scores), bool)), window, present)
    return found.scores, claims


def test_missing_class_takes_its_best_pixel_by_swapping() -> None:
    scores = pixels((0.7, 0.3), (0.6, 0.4), (0.9, 0.1))
    found, claims = claim(scores, 0, 1)
    assert claims == 1
    assert pytest.approx(np.array([(0.7, 0.3), (0.4, 0.6), (0.9, 0.1)])) == found[:, 0].T
    assert scores[0, 0, 1] == np.float32(0.6)  # the maps handed in are left alone


def test_no_claim_without_need_or_belief() -> None:
    for columns, tags in (
        (((0.7, 0.3), (0.4, 0.6)), (0, 1)),  # wins already
        (((0.99, 0.01), (0.985, 0.015)), (0, 1)),  # below the floor everywhere
        (((0.7, 0.3), (0.6, 0.4)), (0,)),  # not tagged
    ):
        scores = pixels(*columns)
        found, claims = claim(scores, *tags)
        assert claims == 0
        assert np.array_equal(found, scores)


def test_two_missing_classes_do_not_take_the_same_pixel() -> None:
    """Both like pixel 1 best; the second one takes its next best instead of undoing the first claim."""
    scores = pixels((0.8, 0.05, 0.15), (0.4, 0.3, 0.3), (0.9, 0.05, 0.05))
    found, claims = claim(scores, 0, 1, 2)
    assert claims == 2
    assert sorted(found.argmax(0)[0].tolist()) == [0, 1, 2]


def test_claims_take_a_half_percent_of_the_window() -> None:
    scores = np.zeros((2, 20, 30), np.float32)  # 600 px: 3 of them
    scores[0], scores[1] = 0.9, 0.1
    scores[1, 4, 5:9] = 0.2
    found, claims = claim(scores, 1)
    assert claims == 1
    assert (found.argmax(0) == 1).sum() == 3
    assert (found.argmax(0)[4, 5:9] == 1).sum() == 3


def test_claims_stay_in_their_window() -> None:
    scores = np.full((2, 4, 8), 0.3, np.float32)
    scores[0] = 0.7
    scores[1, 2, 6] = 0.4  # the best pixel of all lies in the other window
    scores[1, 1, 2] = 0.35
    windows = np.array([(0, 0, 4, 4), (0, 4, 4, 4)], np.int64)
    found, claims = claim_missing(ScoreMaps(scores, np.ones(2, bool)), windows, np.array([[True, True], [True, False]]))
    assert claims == 1
    assert np.argwhere(found.winners() == 1).tolist() == [[1, 2]]


def test_shares_of_an_expert_by_hand() -> None:
    planes = bits(3, 7, 7).planes()
    shares = expert_shares(pixels((0.6, 0.2, 0.9), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)), planes)
    assert shares[:, 0, 0] == pytest.approx([0.95 * 0.75 + 0.025, 0.95 * 0.25 + 0.025, 0.0], abs=1e-6)
    assert shares[:, 0, 1] == pytest.approx([1 / 3] * 3, abs=1e-6)  # says nothing
    assert shares[1, 0, 2] == pytest.approx(EXPERT_FLOOR / 3, abs=1e-6)  # no veto
    assert shares.sum(0) == pytest.approx(np.ones((1, 3)), abs=1e-5)


def test_product_by_hand() -> None:
    teacher, expert = maps((0.6, 0.4), (0.6, 0.4)), maps((0.2, 0.8), (0.0, 0.0))
    found = fuse(teacher, [expert], [0.5], bits(3, 3, classes=2))
    shares = 0.95 * np.array([0.2, 0.8]) + 0.025
    product = np.array([0.6, 0.4]) * np.sqrt(shares)
    assert found.scores[:, 0, 0] == pytest.approx(product / product.sum(), abs=1e-5)
    assert found.scores[:, 0, 0].argmax() == 1  # the expert tipped it
    assert found.scores[:, 0, 1] == pytest.approx([0.6, 0.4], abs=1e-5)  # a silent expert changes nothing


def test_weight_zero_is_the_teacher_held_to_the_tags() -> None:
    teacher = maps((0.5, 0.3, 0.2))
    found = fuse(teacher, [maps((0.0, 1.0, 0.0))], [0.0], bits(6))
    assert found.dense()[:, 0, 0] == pytest.approx([0.0, 0.6, 0.4], abs=1e-4)
    assert found.present.tolist() == [False, True, True]
    check_scores(found, "x")


def test_order_of_experts_does_not_matter() -> None:
    teacher, one, two = maps((0.5, 0.3, 0.2)), maps((0.1, 0.9, 0.3)), maps((0.7, 0.0, 0.6))
    first = fuse(teacher, [one, two], [0.3, 0.7], bits(7)).scores
    second = fuse(teacher, [two, one], [0.7, 0.3], bits(7)).scores
    assert first == pytest.approx(second, abs=1e-6)


def test_experts_and_weights_must_match() -> None:
    with pytest.raises(DataError, match=r"1 experts, 2 weights; .*mend fused\.experts"):
        fuse(maps((0.5, 0.5)), [maps((0.5, 0.5))], [0.1, 0.2], bits(3, classes=2))
