"""Which refiner a class takes: counts, the choice and the mixed maps by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.bit_sets import allowed_of

from weakseg.core.class_sets import Allowed
from weakseg.core.errors import DataError
from weakseg.methods.refinement import (
    TOLERANCE,
    Changes,
    _Cells,
    choose_refiners,
    count_changes,
    join_changes,
    mix_maps,
    take_for_all,
)
from weakseg.methods.scores import ScoreMaps

ALL = Allowed.everywhere(1, 4, 3)
NONE = 3  # the winner where no class has a score


def maps_of(winners: list[int], score: float = 0.8) -> ScoreMaps:
    """Maps (3, 1, W) whose winner at each pixel has ``score``; 3 is none."""
    scores = np.zeros((3, 1, len(winners)), np.float32)
    for column, winner in enumerate(winners):
        if winner != NONE:
            scores[winner, 0, column] = score
    return ScoreMaps.of(scores)


def counts_of(*pixels: tuple[int, ...], blocks: int = 8) -> np.ndarray:
    """The same (truth, before, after, ..., pixels) in every block, for three classes."""
    counts = np.zeros((blocks, 3, *[4] * (len(pixels[0]) - 2)), np.int64)
    for *place, number in pixels:
        counts[(slice(None), *place)] += number
    return counts


def test_counts_by_hand() -> None:
    truth = np.array([[0, 1, 255, 2]], np.uint8)
    counts = count_changes(truth, (maps_of([0, 0, 1, NONE]), maps_of([0, 1, 1, 2])), ALL, blocks=2)
    expected = np.zeros((2, 3, 4, 4), np.int64)
    expected[0, 0, 0, 0] = expected[0, 1, 0, 1] = expected[1, 2, NONE, 2] = 1
    np.testing.assert_array_equal(counts.table, expected)
    np.testing.assert_array_equal(Changes.of(expected).table, expected)
    assert counts.pixels.sum() == 3


def test_tags_hold_for_both_winners() -> None:
    allowed = allowed_of([[0b001, 0b110]], 3)  # the first is class 0 whatever the scores say
    counts = count_changes(np.array([[0, 1]], np.uint8), (maps_of([2, 0]), maps_of([2, 2])), allowed).table
    assert counts[0, 0, 0, 0] == 1
    assert counts[0, 1, NONE, 2] == 1


def test_a_gain_for_all_is_taken() -> None:
    """Before: class 0 holds 20 px of class 1: IoU 80/100, 80/100. After: all right."""
    choice = choose_refiners(Changes.of(counts_of((0, 0, 0, 80), (1, 1, 1, 80), (1, 0, 1, 20), (2, 2, 2, 10))))
    assert choice.refiners == (1, 1, 1)
    np.testing.assert_allclose(choice.before, [0.8, 0.8, 1.0])
    np.testing.assert_allclose(choice.after, 1.0)
    np.testing.assert_allclose(choice.low, [0.2, 0.2, 0.0])
    assert choice.describe(("a", "b", "c"), ("crf",))["miou_before"] == pytest.approx(2.6 / 3)


def test_a_swallowed_class_keeps_its_pixels() -> None:
    """Class 2 loses 5 of its 10 px to class 0, which gains elsewhere: it is given back, the others are refined."""
    counts = counts_of((0, 0, 0, 80), (0, 1, 0, 20), (1, 1, 1, 80), (2, 2, 2, 5), (2, 2, 0, 5))
    choice = choose_refiners(Changes.of(counts))
    assert choice.refiners == (1, 1, 0)
    np.testing.assert_allclose(choice.before, [0.8, 0.8, 1.0])
    np.testing.assert_allclose(choice.after, [1.0, 1.0, 1.0])
    assert choice.describe(("a", "b", "car"), ("crf",))["refined_by"] == {"a": "crf", "b": "crf", "car": "none"}


def test_a_rare_class_that_may_have_lost_is_given_back() -> None:
    """Class 2 gains on the whole (one block of 8), and loses in half of them: nobody can tell."""
    counts = counts_of((0, 0, 0, 80), (0, 1, 0, 20), (1, 1, 1, 80), (2, 2, 2, 5))
    counts[0, 2, 0, 2] = 30
    counts[1:5, 2, 2, 0] = 5
    choice = choose_refiners(Changes.of(counts))
    gain = take_for_all(Changes.of(counts))
    assert gain.after[2] > gain.before[2]
    assert choice.refiners == (1, 1, 0)


def test_noise_refines_nothing() -> None:
    """Half of the blocks gain what the others lose."""
    counts = counts_of((0, 0, 0, 80), (1, 1, 1, 80), (2, 2, 2, 10))
    counts[:4, 0, 1, 0] = 5
    counts[4:, 1, 1, 0] = 5
    assert choose_refiners(Changes.of(counts)).refiners == (0, 0, 0)


def test_nothing_changed_or_nothing_known_refines_nothing() -> None:
    same = choose_refiners(Changes.of(counts_of((0, 0, 0, 80), (1, 1, 1, 80))))
    assert same.refiners == (0, 0, 0)
    absent = choose_refiners(Changes.of(counts_of((0, 1, 0, 20), (0, 0, 0, 80), (1, 1, 1, 80))))
    assert absent.refiners == (1, 1, 0)
    assert np.isnan(absent.after[2])
    assert absent.miou == 1.0


def test_silent_pixels_may_be_filled() -> None:
    choice = choose_refiners(Changes.of(counts_of((0, NONE, 0, 50), (0, 0, 0, 50), (1, 1, 1, 80), (2, 2, 2, 10))))
    assert choice.refiners[0] == 1
    np.testing.assert_allclose([choice.before[0], choice.after[0]], [0.5, 1.0])


def test_a_small_loss_within_the_tolerance_still_is_a_loss() -> None:
    counts = counts_of((0, 0, 0, 8000), (0, 1, 0, 2000), (1, 1, 1, 8000), (2, 2, 2, 1000), (2, 2, 0, 5))
    choice = choose_refiners(Changes.of(counts))
    assert TOLERANCE > 5 / 1000
    assert choice.refiners[2] == 0


def test_mixed_maps_by_hand() -> None:
    before, after = maps_of([0, 1, 2, 0], 0.6), maps_of([1, 1, 1, 2], 0.9)
    mixed = mix_maps((before, after), ALL, (1, 1, 0))
    np.testing.assert_array_equal(mixed.winners(), [[1, 1, 2, 0]])  # class 2 neither loses nor wins a pixel
    np.testing.assert_allclose(mixed.scores.max(0), [[0.9, 0.9, 0.6, 0.6]])
    assert mix_maps((before, after), ALL, (0, 0, 0)) is before
    assert mix_maps((before, after), ALL, (1, 1, 1)) is after


def test_two_refiners_by_hand() -> None:
    """Class 0 takes the first, class 1 the second, class 2 none: each pixel goes to its only claimant, else stays."""
    before = maps_of([0, 0, 0, 1, 2, 0, NONE], 0.5)
    first = maps_of([0, 1, 0, 0, 0, 2, 0], 0.6)
    second = maps_of([1, 1, 0, 1, 1, 2, 2], 0.7)
    allowed = Allowed.everywhere(1, 7, 3)
    mixed = mix_maps((before, first, second), allowed, (1, 2, 0))
    # both claim the first and the fourth, 1 alone the second, 0 alone the third; class 2 keeps its own and wins no more
    np.testing.assert_array_equal(mixed.winners(), [[0, 1, 0, 1, 2, 0, 0]])
    np.testing.assert_allclose(mixed.scores.max(0), [[0.5, 0.7, 0.6, 0.5, 0.5, 0.5, 0.6]])


def test_each_class_takes_the_refiner_that_serves_it() -> None:
    """Silent pixels: the first refiner fills those of class 0 rightly, the second those of class 1; class 2 has all."""
    choice = choose_refiners(
        Changes.of(
            counts_of(
                (0, 0, 0, 0, 80), (1, 1, 1, 1, 80), (2, 2, 2, 2, 10), (0, NONE, 0, NONE, 20), (1, NONE, NONE, 1, 20)
            )
        )
    )
    assert choice.refiners[:2] == (1, 2)
    np.testing.assert_allclose(choice.after, 1.0)


def test_the_better_of_two_refiners_serves_all() -> None:
    """The second mends 20 px of class 1 that class 0 holds, the first 10 of them."""
    choice = choose_refiners(
        Changes.of(counts_of((0, 0, 0, 0, 80), (1, 1, 1, 1, 80), (1, 0, 1, 1, 10), (1, 0, 0, 1, 10), (2, 2, 2, 2, 10)))
    )
    assert choice.refiners[:2] == (2, 2)
    np.testing.assert_allclose(choice.after, 1.0)


def test_what_is_counted_is_what_is_mixed() -> None:
    """The IoU that the choice promises is that of the mixed maps."""
    rng = np.random.default_rng(0)
    shape = (3, 20, 40)
    maps = [ScoreMaps(rng.random(shape).astype(np.float32), np.ones(3, bool)) for _ in range(3)]
    truth, allowed = rng.integers(0, 3, shape[1:]).astype(np.uint8), allowed_of(rng.integers(1, 8, shape[1:]), 3)
    cells = _Cells.of(count_changes(truth, maps, allowed, blocks=4), 0)
    for refiners in itertools.product(range(3), repeat=3):
        mixed = mix_maps(maps, allowed, refiners)
        again = take_for_all(count_changes(truth, (maps[0], mixed), allowed))
        np.testing.assert_allclose(cells.iou(refiners)[0], again.after)
        kept = np.array(refiners) == 0
        np.testing.assert_allclose(again.after[kept], again.before[kept])


def test_refusals() -> None:
    with pytest.raises(DataError, match="truth of class 7; expected below 3"):
        count_changes(np.full((1, 4), 7, np.uint8), (maps_of([0] * 4), maps_of([0] * 4)), ALL)
    with pytest.raises(DataError, match="expected labelled blocks"):
        choose_refiners(Changes.of(np.zeros((3, 3, 4, 4), np.int64)))


def test_areas_join_block_by_block() -> None:
    """One area of two blocks and one of one, which share a cell."""
    first, second = counts_of((0, 0, 0, 4), (1, 0, 1, 2), blocks=2), counts_of((0, 0, 0, 7), (2, 2, 2, 1), blocks=1)
    joined = join_changes([Changes.of(first), Changes.of(second)])
    np.testing.assert_array_equal(joined.table, np.concatenate([first, second]))
