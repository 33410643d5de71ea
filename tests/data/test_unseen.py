"""What is said of classes that a part of the split does not show."""

from __future__ import annotations

import numpy as np

from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.data.manifest import TagCrops
from weakseg.data.unseen import describe_unmasked, describe_unseen


def table(splits: str, present: list[set[str]], unknown: list[set[str]], scheme: ClassScheme = ISPRS) -> TagCrops:
    """A crop per letter: p, h or t; with the classes that its tags name and those that they do not speak of."""
    names = {"p": "pixel", "h": "holdout", "t": "tags"}
    flags = [np.array([[name in said for name in scheme.names] for said in each]) for each in (present, unknown)]
    ids = tuple(f"a_{index}" for index in range(len(splits)))
    windows = np.tile(np.array([0, 0, 16, 16]), (len(splits), 1))
    return TagCrops(ids, ("a",) * len(splits), tuple(names[one] for one in splits), windows, flags[0], ~flags[1])


ALL = set(ISPRS.names)


def test_every_class_is_shown_everywhere() -> None:
    assert describe_unseen(table("pht", [ALL] * 3, [set()] * 3), ISPRS) == []


def test_each_part_has_its_own_sentence_and_classes() -> None:
    found = describe_unseen(table("pht", [ALL - {"car"}, ALL - {"tree"}, ALL - {"car", "tree"}], [set()] * 3), ISPRS)
    assert [line.split(";")[0] for line in found] == [
        "car: in no tag crop of N1 outside its hold-out: trainings on pixels cannot learn it",
        "tree: in no tag crop of N1's hold-out: thresholds and weights are chosen without it, and hold-out scores do "
        "not count it",
        "tree, car: in no tag of N2: nothing is learnt of it from them, and where they deny it no mask shows it",
    ]


def test_one_crop_of_several_is_enough_and_unknown_is_not_seen() -> None:
    assert describe_unseen(table("tt", [{"car"}, ALL - {"car"}], [set(), set()]), ISPRS) == []
    (line,) = describe_unseen(table("t", [ALL], [{"car"}]), ISPRS)
    assert line.startswith("car: in no tag of N2")


def test_many_classes_are_counted() -> None:
    (line,) = describe_unseen(table("h", [{"car"}], [set()]), ISPRS)
    assert line.startswith("impervious_surface, building, low_vegetation and 1 more classes: in no tag crop of N1's")


def test_a_background_is_not_looked_for() -> None:
    scheme = ClassScheme(("ground", "car"), ((0, 0, 0), (1, 1, 1)), background="ground")
    assert describe_unseen(table("t", [{"car"}], [{"ground"}], scheme), scheme) == []


def test_tagged_classes_without_a_mask() -> None:
    crops = table("pt", [ALL, {"car", "tree"}], [set(), set()])
    pixels = np.zeros(256, np.int64)
    pixels[[ISPRS.names.index("tree"), 255]] = 5
    assert describe_unmasked(crops, ISPRS, pixels) == (
        "car: in tags of N2 and in no mask of it; a network trained on them learns it from N1 alone"
    )
    pixels[ISPRS.names.index("car")] = 1
    assert describe_unmasked(crops, ISPRS, pixels) == ""
