"""What a label changes, by hand: two members, two classes, and what every answer does to the map."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weakseg.studies.acquisition.change import (
    Look,
    as_miou,
    join_looks,
    look_at,
    pixel_changes,
    tag_changes,
    take,
    weigh_disagreement,
)


def maps(*first: float) -> np.ndarray:
    """A member's map (2, 2, 2): these probabilities of class 0, row by row."""
    share = np.array(first, np.float32).reshape(2, 2)
    return np.stack([share, 1 - share])


def test_a_committee_of_two_by_hand() -> None:
    """Means .9 .9 .4 .2: class 0 wins two px; of four px all speak for a class, so its presence is its mean."""
    look = look_at(np.stack([maps(0.8, 1.0, 0.5, 0.4), maps(1.0, 0.8, 0.3, 0.0)]))
    assert look.pixels.tolist() == [4.0]
    assert look.won.tolist() == [[2.0, 2.0]]
    assert look.presence[0] == pytest.approx([0.6, 0.4])
    doubt = 2 * (0.9 * 0.1 + 0.9 * 0.1 + 0.4 * 0.6 + 0.2 * 0.8)
    assert look.doubt[0] == pytest.approx([doubt, doubt])

    def nats(*shares: float) -> float:
        return -sum(p * math.log(p) for share in shares for p in (share, 1 - share) if p > 0) / len(shares)

    mean, each = nats(0.9, 0.9, 0.4, 0.2), (nats(0.8, 1.0, 0.5, 0.4) + nats(1.0, 0.8, 0.3, 0.0)) / 2
    assert look.entropy[0] == pytest.approx(mean, abs=1e-6)
    assert look.disagreement[0] == pytest.approx(mean - each, abs=1e-6)


def test_members_who_agree_do_not_disagree_and_silent_ones_do_not_count() -> None:
    one = maps(0.8, 1.0, 0.5, 0.4)
    assert look_at(np.stack([one, one])).disagreement[0] == pytest.approx(0, abs=1e-9)
    silent = np.full_like(one, np.nan)
    alone = look_at(one[None])
    both = look_at(np.stack([silent, one]))
    assert both.presence.tolist() == alone.presence.tolist()
    assert both.entropy[0] == alone.entropy[0]


def test_objects_are_regions_without_specks() -> None:
    """Two bright squares of 4 px, one speck of 1 px; the rest is one region of the other class."""
    bright = np.zeros((8, 8), np.float32)
    bright[0:2, 0:2] = bright[5:7, 5:7] = bright[0, 7] = 1
    assert look_at(np.stack([1 - bright, bright])[None]).objects.tolist() == [[1.0, 2.0]]


def one_look(won: list[float], presence: list[float]) -> Look:
    each = np.array([presence])
    return Look(np.array([1000.0]), np.array([won]), each, each * 0 + 50, each * 0, np.zeros(1), np.zeros(1))


def test_a_tag_takes_what_is_not_there_and_gives_a_few_px_to_what_is() -> None:
    """Absent with .4, class 0 loses 300 px; class 1 wins nowhere, and present with .25 claims 0.5 % of 1000 px."""
    look = one_look([300.0, 0.0, 700.0], [0.6, 0.25, 1.0])
    changes = tag_changes(look, np.ones((1, 3), bool))
    assert changes[0] == pytest.approx([0.4 * 300, 0.25 * 5, 0.0])
    assert tag_changes(look, np.array([[False, True, True]]))[0] == pytest.approx([0.0, 0.25 * 5, 0.0])  # known already


def test_pixels_settle_all_doubt_and_boxes_that_of_their_class() -> None:
    look = one_look([300.0, 0.0, 700.0], [0.6, 0.25, 1.0])
    assert pixel_changes(look)[0].tolist() == [50.0, 50.0, 50.0]
    assert pixel_changes(look, np.array([False, True, False]))[0].tolist() == [0.0, 50.0, 0.0]


def test_a_rare_class_counts_as_much_as_a_broad_one() -> None:
    """10 px of the 100 of cars and 1000 px of the 10,000 of lawn are a tenth of each: 10 % of one of two classes."""
    changes = np.array([[10.0, 0.0], [0.0, 1000.0]])
    assert as_miou(changes, np.array([100.0, 10_000.0])).tolist() == pytest.approx([5.0, 5.0])
    assert as_miou(changes, np.zeros(2)).tolist() == [500.0, 50_000.0]  # nothing held: px count alone, no infinity


def test_looks_are_joined_and_taken_in_order() -> None:
    joined = join_looks([one_look([1.0], [0.1]), one_look([2.0], [0.2])])
    assert len(joined) == 2
    assert take(joined, np.array([1, 0])).won.tolist() == [[2.0], [1.0]]


def test_disagreement_weighs_one_on_average_and_nothing_where_there_is_none() -> None:
    """Of the first two the mean is 0.2; the third is labelled and counts not."""
    among = np.array([True, True, False])
    assert weigh_disagreement(np.array([0.1, 0.3, 5.0]), among).tolist() == pytest.approx([0.5, 1.5, 25.0])
    assert weigh_disagreement(np.array([0.0, 1e-17, 0.0]), among).tolist() == [1.0, 1.0, 1.0]  # a committee of one
    assert weigh_disagreement(np.array([1.0, 2.0, 3.0]), among & False).tolist() == [1.0, 1.0, 1.0]
