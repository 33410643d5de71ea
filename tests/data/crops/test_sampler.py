"""Where crops are cut."""

from __future__ import annotations

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.data.crops.sampler import POSITIONS_PER_AREA, build_sampler


def test_areas_count_by_their_labelled_pixels() -> None:
    half = np.zeros((10, 10), np.uint8)
    half[:5] = IGNORE
    sampler = build_sampler(
        [(10, 10), (10, 10), (5, 10)], [np.zeros((10, 10), np.uint8), half, None], favoured=None, probability=1, seed=0
    )
    assert sampler.shares.tolist() == [0.5, 0.25, 0.25]
    assert len(sampler.favoured) == 0


def test_nothing_labelled_is_uniform() -> None:
    empty = np.full((4, 4), IGNORE, np.uint8)
    sampler = build_sampler([(4, 4), (4, 4)], [empty, empty], favoured=4, probability=1.0, seed=0)
    assert sampler.shares.tolist() == [0.5, 0.5]
    assert not sampler.draw(np.random.default_rng(0))[3]


def test_favoured_draws_hit_the_class_as_often_as_asked() -> None:
    masks = [np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)]
    masks[1][3, 17] = masks[1][12, 5] = 4
    sampler = build_sampler([(20, 20)] * 2, masks, favoured=4, probability=0.3, seed=0)
    assert sampler.favoured.tolist() == [[1, 3, 17], [1, 12, 5]]
    rng = np.random.default_rng(0)
    draws = [sampler.draw(rng) for _ in range(2000)]
    favoured = [draw[:3] for draw in draws if draw[3]]
    assert 0.26 < len(favoured) / len(draws) < 0.34
    assert set(favoured) == {(1, 3, 17), (1, 12, 5)}
    assert 0.4 < np.mean([area for area, _, _, hit in draws if not hit]) < 0.6
    assert all(0 <= row < 20 and 0 <= column < 20 for _, row, column, _ in draws)


def test_probability_zero_and_absent_class_switch_favouring_off() -> None:
    mask = np.full((6, 6), 4, np.uint8)
    assert len(build_sampler([(6, 6)], [mask], favoured=4, probability=0.0, seed=0).favoured) == 0
    assert len(build_sampler([(6, 6)], [mask], favoured=3, probability=1.0, seed=0).favoured) == 0


def test_positions_are_bounded_and_the_same_for_a_seed() -> None:
    mask = np.full((200, 150), 1, np.uint8)
    one, two, three = (
        build_sampler([mask.shape], [mask], favoured=1, probability=1.0, seed=seed) for seed in (1, 1, 2)
    )
    assert len(one.favoured) == POSITIONS_PER_AREA
    assert len(np.unique(one.favoured, axis=0)) == POSITIONS_PER_AREA
    assert np.array_equal(one.favoured, two.favoured)
    assert not np.array_equal(one.favoured, three.favoured)


def test_plain_draws_of_an_area_labelled_in_part_contain_a_label() -> None:
    """100 of 10,000 px are labelled in one area, all in the other: it is drawn 100 times less, but never in vain."""
    sparse, whole = np.full((100, 100), IGNORE, np.uint8), np.zeros((100, 100), np.uint8)
    sparse[40:50, 60:70] = 1
    sampler = build_sampler([(100, 100)] * 2, [sparse, whole], favoured=None, probability=0.0, seed=0)
    assert list(sampler.labelled) == [0]
    assert len(sampler.labelled[0]) == 100
    rng = np.random.default_rng(0)
    draws = [sampler.draw(rng) for _ in range(3000)]
    mine = [draw for draw in draws if draw[0] == 0]
    assert 10 < len(mine) < 60
    assert all(sparse[row, column] == 1 for _, row, column, _ in mine)
    assert not any(favoured for *_, favoured in draws)


def test_plain_draws_of_pseudo_masks_are_even_however_little_they_label() -> None:
    """What trained on N2 before areas labelled in part were known draws the same crops as before."""
    sparse = np.full((100, 100), IGNORE, np.uint8)
    sparse[40:50, 60:70] = 1
    sampler = build_sampler([(100, 100)], [sparse], favoured=None, probability=0.0, seed=0, pseudo=True)
    assert not sampler.labelled
    draws = [sampler.draw(np.random.default_rng(seed))[1:3] for seed in range(200)]
    assert sum(sparse[place] == 1 for place in draws) < 20


def test_areas_without_labels_among_areas_labelled_in_part_are_never_drawn() -> None:
    sparse, blank = np.full((10, 10), IGNORE, np.uint8), np.full((10, 10), IGNORE, np.uint8)
    sparse[3, 4] = 0
    sampler = build_sampler([(10, 10)] * 2, [blank, sparse], favoured=None, probability=0.0, seed=0)
    assert {sampler.draw(np.random.default_rng(seed)) for seed in range(20)} == {(1, 3, 4, False)}
