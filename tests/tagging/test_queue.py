"""Who gets which crop: nobody twice, two people the same one only on purpose, and none lost with a page."""

from __future__ import annotations

import itertools

import pytest

from weakseg.labels.answers import Crop
from weakseg.tagging.queue import LEASE, CropQueue, chosen_twice

CLASSES = ("road", "roof")
ANA, BEN, CLEO = ("Ana", "p1"), ("Ben", "p2"), ("Cleo", "p3")
CROPS: list[Crop] = [("t1", (16 * index, 0, 16, 16)) for index in range(6)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue(count: int = 6, **more: object) -> CropQueue:
    return CropQueue(CROPS[:count], CLASSES, more.pop("opinions", {}), **more)  # type: ignore[arg-type]


def test_crops_come_in_order_and_no_two_pages_get_the_same() -> None:
    one = queue()
    assert one.hand_out(ANA, 2) == CROPS[:2]
    assert one.hand_out(BEN, 2) == CROPS[2:4]
    assert one.hand_out(ANA, 2, held=CROPS[:2]) == CROPS[4:]
    assert one.hand_out(CLEO, 2) == []
    assert one.hand_out(("Ana", "p9"), 2) == []  # a second window of hers


def test_a_page_that_loads_again_gets_its_crops_again() -> None:
    one = queue()
    one.hand_out(ANA, 2)
    assert one.hand_out(ANA, 2) == CROPS[:2]


def test_answered_crops_are_gone_and_those_of_a_page_that_closes_are_free() -> None:
    one = queue(3)
    one.hand_out(ANA, 2)
    one.record(CROPS[0], "Ana", CLASSES)
    assert one.hand_out(BEN, 3) == [CROPS[2]]
    one.release(ANA)
    assert one.hand_out(BEN, 3, held=[CROPS[2]]) == [CROPS[1]]
    assert one.progress("Ana") == {"mine": 1, "done": 1, "all": 3}
    assert one.progress("Ben") == {"mine": 0, "done": 1, "all": 3}


def test_a_silent_page_loses_its_crops_after_a_while() -> None:
    clock = Clock()
    one = queue(2, clock=clock)
    one.hand_out(ANA, 2)
    clock.now = LEASE - 1
    assert one.hand_out(BEN, 2) == []
    one.hand_out(ANA, 0, held=[CROPS[1]])
    clock.now = LEASE + 1
    assert one.hand_out(BEN, 2) == [CROPS[0]]


def test_a_share_of_the_crops_is_tagged_by_two() -> None:
    one = queue(2, overlap=1.0)
    assert one.hand_out(ANA, 2) == one.hand_out(BEN, 2) == CROPS[:2]
    assert one.hand_out(CLEO, 2) == []
    for who in ("Ana", "Ben"):
        one.record(CROPS[0], who, CLASSES)
    one.record(CROPS[1], "Ana", CLASSES)
    one.release(BEN)
    assert one.hand_out(ANA, 2) == []  # not a second time by herself
    assert one.hand_out(CLEO, 2) == [CROPS[1]]
    many = [("t1", (row, column, 16, 16)) for row, column in itertools.product(range(50), range(40))]
    assert sum(chosen_twice(crop, 0.1) for crop in many) == pytest.approx(200, abs=40)
    assert not any(chosen_twice(crop, 0.0) for crop in many)


def test_disputed_crops_want_somebody_who_has_not_said_anything() -> None:
    said = {CROPS[0]: {"Ana": {"road": True, "roof": True}, "Ben": {"road": False, "roof": True}}}
    one = queue(1, opinions=said, more=True)
    assert one.hand_out(ANA, 1) == []
    assert one.hand_out(CLEO, 1) == CROPS[:1]


def test_a_grid_asks_for_one_class_and_leaves_the_others() -> None:
    one = queue(2)
    assert one.hand_out(ANA, 1, classes=["roof"]) == CROPS[:1]
    one.record(CROPS[0], "Ana", ["roof"])
    assert one.hand_out(ANA, 1, classes=["roof"]) == [CROPS[1]]
    assert one.hand_out(BEN, 1, classes=["roof"]) == []
    assert one.hand_out(BEN, 1) == [CROPS[0]]  # road is still wanted
    assert one.progress("Ana", ["roof"]) == {"mine": 1, "done": 1, "all": 2}
    assert one.progress("Ana") == {"mine": 0, "done": 0, "all": 2}
    one.record(CROPS[0], "Ana", ["road"])
    assert one.progress("Ana") == {"mine": 1, "done": 1, "all": 2}


def test_what_is_taken_back_goes_to_the_same_page() -> None:
    one = queue(2)
    one.hand_out(ANA, 1)
    one.record(CROPS[0], "Ana", CLASSES)
    one.hand_out(ANA, 1)
    one.take_back(CROPS[0], ANA, [])
    assert one.hand_out(BEN, 1) == []
    assert one.hand_out(ANA, 2) == CROPS[:2]
    assert one.progress("Ana")["mine"] == 0


def test_crops_without_data_are_closed() -> None:
    one = queue(2)
    one.close(CROPS[0])
    assert one.hand_out(ANA, 2) == [CROPS[1]]
    assert one.progress("Ana") == {"mine": 0, "done": 0, "all": 1}


def test_a_crop_that_is_asked_about_one_class_is_done_with_it() -> None:
    one = queue(3, asks={CROPS[0]: ("roof",), CROPS[1]: ("road",)})
    assert one.hand_out(ANA, 9, classes=("roof",)) == [CROPS[0], CROPS[2]]  # a grid passes over what is not asked
    assert one.progress("Ana", ("roof",)) == {"mine": 0, "done": 0, "all": 2}
    one.release(ANA)
    one.record(CROPS[0], "Ana", ["roof"])
    assert one.hand_out(BEN, 9) == CROPS[1:3]
    assert one.progress("Ana") == {"mine": 1, "done": 1, "all": 3}
    one.record(CROPS[2], "Ana", ["roof"])  # asked about both
    assert one.progress("Ana") == {"mine": 1, "done": 1, "all": 3}
