"""Two versions of labels, by hand: which crops, boxes and pixels changed, and who worked."""

from __future__ import annotations

import numpy as np
from tests.labels.test_prices import answer

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.labels.box_table import Box, BoxTable
from weakseg.labels.changes import (
    PixelChange,
    Work,
    box_changes,
    count_states,
    crop_changes,
    pixel_change,
    unanswered,
    work_between,
)
from weakseg.labels.tags import TagWindow

OLD = ClassScheme(("road", "car"), ((1, 1, 1), (2, 2, 2)))
NEW = ClassScheme(("car", "road", "tree"), ((2, 2, 2), (1, 1, 1), (3, 3, 3)))


def test_crops_by_what_is_known_of_them() -> None:
    before = [
        TagWindow("a", 0, 0, 8, 8, ("road",)),
        TagWindow("a", 0, 8, 8, 8, ("road",), ("car",)),
        TagWindow("a", 8, 0, 8, 8, ("car",)),
        TagWindow("a", 8, 8, 8, 8, ("car",)),
    ]
    after = [
        TagWindow("a", 0, 0, 8, 8, ("road",)),
        TagWindow("a", 0, 8, 8, 8, ("road", "car")),
        TagWindow("a", 8, 0, 8, 8, ("road",)),
        TagWindow("b", 0, 0, 8, 8, ("road",), ("car",)),
    ]
    found = crop_changes(before, after, (OLD, OLD))
    assert [(one.crop[0], one.crop[1][:2], one.what, one.classes) for one in found] == [
        ("a", (0, 8), "changed", {"car": "unknown to present"}),
        ("a", (8, 0), "changed", {"road": "absent to present", "car": "present to absent"}),
        ("b", (0, 0), "added", {"road": "unknown to present"}),
        ("a", (8, 8), "removed", {"road": "absent to unknown", "car": "present to unknown"}),
    ]
    assert count_states(found[:2]) == {
        "car": {"unknown to present": 1, "present to absent": 1},
        "road": {"absent to present": 1},
    }


def test_a_new_class_is_a_change_of_every_crop() -> None:
    row = TagWindow("a", 0, 0, 8, 8, ("road",))
    (found,) = crop_changes([row], [row], (OLD, NEW))
    assert found.classes == {"tree": "unknown to absent"}


def test_a_box_that_was_moved_is_gone_and_new() -> None:
    kept, moved, there = Box("a", 0, 0, 4, 4, "car"), Box("a", 8, 8, 4, 4, "car"), Box("a", 8, 9, 4, 4, "car")
    assert box_changes(BoxTable((kept, moved)), BoxTable((there, kept))) == ([there], [moved])


def test_pixels_are_compared_by_name() -> None:
    before = np.array([[0, 0, 1], [1, IGNORE, IGNORE]], np.uint8)  # road road car / car - -
    after = np.array([[1, 1, 0], [2, 2, IGNORE]], np.uint8)  # the same, then tree tree -
    assert pixel_change("a", before, after, (OLD, NEW)) == PixelChange("a", "changed", (4, 5), 2)
    assert pixel_change("a", before, np.array([[1, 1, 0], [0, 255, 255]], np.uint8), (OLD, NEW)) is None
    assert pixel_change("a", None, after, (OLD, NEW)) == PixelChange("a", "added", (0, 5), 5)
    assert pixel_change("a", before, None, (OLD, NEW)) == PixelChange("a", "removed", (4, 0), 4)
    assert pixel_change("a", before, before[:1], (OLD, OLD)) == PixelChange("a", "changed", (4, 3), 6)
    assert pixel_change("a", None, None, (OLD, NEW)) is None


def test_a_class_that_is_gone_has_changed() -> None:
    tree = np.array([[2, 0]], np.uint8)
    assert pixel_change("a", tree, np.array([[1, 1]], np.uint8), (NEW, OLD)) == PixelChange("a", "changed", (2, 2), 1)


def test_work_is_that_of_new_answers() -> None:
    before = [answer(1, 5.0), answer(2, 7.0)]
    after = [answer(1, 5.0), answer(3, 30.0, who="Ben"), answer(4, 2.5), answer(4 + 10, 2.5)]
    assert work_between(before, after) == [Work("Ben", 1, 1, 30.0), Work("Ana", 2, 2, 5.0)]
    rows = [TagWindow("t1", 0, column, 16, 16, ("car",)) for column in (3, 4, 9)]
    assert unanswered(crop_changes([], rows, (NEW, NEW)), before, after) == 1  # nobody has answered about 9
