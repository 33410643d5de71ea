"""What tags of stated error rates say: by hand, and against a world that is counted out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from weakseg.core.errors import ParamsError
from weakseg.core.tag_errors import TagErrors, estimate_tag_errors


def test_by_hand() -> None:
    """Named in .4 of the crops; in .1, as often as by mistake alone; in .8, more often than a class in all crops."""
    errors = TagErrors(0.3, 0.1, np.array([0.4, 0.1, 0.8]), np.array([1.0, 1.0, 0.5]))
    assert errors.outside.tolist() == pytest.approx([0.3 / 0.6, 0.3 / 0.9, 1.0])
    assert errors.inside.tolist() == pytest.approx([0.7 / 0.4, 7.0, 1.0])  # the last: .85 / .9, at least 1
    assert errors.present.tolist() == pytest.approx([0.5, 0.0, 1.0])
    assert errors.present_if_named.tolist() == pytest.approx([0.35 / 0.4, 0.0, 1.0])
    assert errors.present_if_not.tolist() == pytest.approx([0.15 / 0.6, 0.0, 1.0])
    assert errors.chance == pytest.approx(1 / 7)


def test_right_tags_are_a_hard_constraint() -> None:
    """Also of classes that no crop or every crop is said to hold."""
    errors = TagErrors(0.0, 0.0, np.array([0.0, 0.4, 1.0]), np.ones(3))
    assert errors.outside.tolist() == [0.0, 0.0, 0.0]
    assert errors.present_if_named.tolist() == [1.0, 1.0, 1.0]
    assert errors.present_if_not.tolist() == [0.0, 0.0, 0.0]
    assert errors.chance == 0.0


def test_tags_of_chance_say_nothing() -> None:
    """As likely where the class is as where it is not (nearly): every pixel as without a tag."""
    errors = TagErrors(0.6, 0.399999, np.array([0.4]), np.ones(1))
    assert errors.outside.tolist() == pytest.approx([1.0])
    assert errors.inside.tolist() == pytest.approx([1.0])
    assert errors.chance == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("missing", "wrong", "holds", "pixel"), [(0.3, 0.0, 0.5, 0.6), (0.5, 0.05, 0.2, 0.1)])
def test_against_a_world_that_is_counted_out(missing: float, wrong: float, holds: float, pixel: float) -> None:
    """Crop holds the class (z), tag names it (t), pixel is of it (y, only in crops that hold it)."""
    world = {
        (z, t, y): (holds if z else 1 - holds)
        * ((1 - missing if t else missing) if z else (wrong if t else 1 - wrong))
        * ((pixel if y else 1 - pixel) if z else float(not y))
        for z, t, y in itertools.product((0, 1), repeat=3)
    }

    def chance(**known: int) -> float:
        return sum(p for (z, t, y), p in world.items() if {"z": z, "t": t, "y": y} | known == {"z": z, "t": t, "y": y})

    errors = TagErrors(missing, wrong, np.array([chance(t=1)]), np.ones(1))
    assert errors.present.tolist() == pytest.approx([holds])
    assert errors.present_if_named.tolist() == pytest.approx([chance(z=1, t=1) / chance(t=1)])
    assert errors.present_if_not.tolist() == pytest.approx([chance(z=1, t=0) / chance(t=0)])
    assert errors.outside.tolist() == pytest.approx([chance(y=1, t=0) / chance(t=0) / chance(y=1)])
    assert errors.inside.tolist() == pytest.approx([chance(y=1, t=1) / chance(t=1) / chance(y=1)])
    assert errors.chance == pytest.approx(chance(z=0, t=1) / chance(z=0) * chance(z=1) / chance(z=1, t=1))


def test_how_often_a_class_is_named_is_counted_where_tags_speak_of_it() -> None:
    present = np.array([[True, False, False], [True, True, False], [False, False, False]])
    known = np.array([[True, True, False], [True, False, False], [True, True, False]])
    errors = estimate_tag_errors(0.2, 0.0, present, known)
    assert errors.tagged.tolist() == pytest.approx([2 / 3, 0.0, 0.0])
    assert errors.spoken.tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    assert errors.missing_rate == 0.2


def test_a_class_that_tags_leave_open_is_raised_the_less() -> None:
    """Half of the crops say nothing of class 1; of a background none do, so it counts as it does."""
    errors = TagErrors(0.2, 0.1, np.array([0.3, 0.3, 0.0, 0.001]), np.array([1.0, 0.5, 0.0, 1.0]))
    assert errors.inside.tolist() == pytest.approx([0.8 / 0.3, 0.9 / 0.65, 1.0, 10.0])
    assert errors.present_if_named[2] == 1.0


@pytest.mark.parametrize(("missing", "wrong"), [(1.0, 0.0), (-0.1, 0.0), (0.0, 1.0), (0.5, 0.5), (0.7, 0.4)])
def test_rates_of_tags_that_say_nothing_or_the_opposite_are_refused(missing: float, wrong: float) -> None:
    with pytest.raises(ParamsError, match=r"tags.missing_rate .* expected 0 to below 1 each, together below 1"):
        TagErrors(missing, wrong, np.zeros(2), np.ones(2))
