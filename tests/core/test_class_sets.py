"""Sets of classes: numbers per pixel and a table, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.core.class_sets import EVERY_CLASS, FEW, NO_CLASS, Allowed, SetTable, intersect
from weakseg.core.errors import DataError


def a_set(*classes: int, of: int = 4) -> np.ndarray:
    return np.isin(np.arange(of), classes)


def test_sets_are_numbered_as_they_come_and_each_once() -> None:
    table = SetTable(4)
    assert [table.number(a_set(1, 2)), table.number(a_set(3)), table.number(a_set(1, 2))] == [2, 3, 2]
    assert (table.number(a_set()), table.number(a_set(0, 1, 2, 3))) == (NO_CLASS, EVERY_CLASS)
    assert table.sets.tolist() == [[False] * 4, [True] * 4, a_set(1, 2).tolist(), a_set(3).tolist()]
    with pytest.raises(DataError, match="use the tags of this scheme"):
        table.number(np.ones(5, bool))


def test_planes_of_hundreds_of_classes_are_made_for_those_asked() -> None:
    table = SetTable(200, [a_set(3, 150, of=200)])
    allowed = Allowed(np.array([[0, 1, 2]], np.int32), table.sets)
    assert allowed.planes(np.array([150, 4]))[:, 0].tolist() == [[False, True, True], [False, True, False]]
    assert allowed.planes().shape == (200, 1, 3)
    assert allowed[:, 2:].classes.tolist() == [3, 150]
    assert allowed.nothing.tolist() == [[True, False, False]]
    assert allowed.without_tags().numbers.tolist() == [[0, 1, 1]]
    assert allowed.but_nothing(np.array([[False, True, False]])).numbers.tolist() == [[0, 0, 2]]


def test_what_both_allow() -> None:
    one = Allowed(np.array([[1, 2, 2, 0]], np.int32), SetTable(4, [a_set(0, 1)]).sets)
    other = Allowed(np.array([[2, 2, 3, 1]], np.int32), SetTable(4, [a_set(1, 2), a_set(3)]).sets)
    both = intersect(one, other)
    assert both.planes()[:, 0].T.tolist() == [a_set(1, 2).tolist(), a_set(1).tolist(), [False] * 4, [False] * 4]
    assert both.nothing.tolist() == [[False, False, True, True]]
    with pytest.raises(DataError, match="one area and scheme"):
        intersect(one, other[:, :2])


def test_areas_share_a_table() -> None:
    table = SetTable(4, [a_set(3)])
    one = Allowed(np.array([[2, 1, 0]], np.int32), SetTable(4, [a_set(0, 1)]).sets)
    assert one.numbered_in(table).tolist() == [[3, 1, 0]]
    assert table[3].tolist() == a_set(0, 1).tolist()


def shared_table(count: int, classes: int = 200) -> SetTable:
    """``count`` different sets of three classes each, beside none and all."""
    rng, table = np.random.default_rng(0), SetTable(classes)
    while len(table.sets) < count:
        table.number(a_set(*rng.choice(classes, 3, replace=False), of=classes))
    return table


def test_an_area_of_many_keeps_the_sets_of_its_own_pixels() -> None:
    sets = shared_table(FEW + 50).sets
    allowed = Allowed(np.array([[FEW + 7, 0, 1], [40, 40, FEW + 7]], np.int32), sets)
    own = allowed.compact()
    assert own.numbers.tolist() == [[3, 0, 1], [2, 2, 3]]  # as they rise in the large table
    assert own.sets.tolist() == [[False] * 200, [True] * 200, sets[40].tolist(), sets[FEW + 7].tolist()]
    np.testing.assert_array_equal(own.planes(), allowed.planes())
    few = Allowed(allowed.numbers % 5, sets[:FEW])
    assert few.compact() is few


def test_a_raster_smaller_than_its_table_is_numbered_as_a_larger_one() -> None:
    sets = shared_table(60).sets
    numbers = np.array([[50, 0, 7], [1, 7, 59]], np.int32)
    wide = np.repeat(np.repeat(numbers, 4, 0), 4, 1)
    small, large = SetTable(200, [sets[7]]), SetTable(200, [sets[7]])
    assert Allowed(numbers, sets).numbered_in(small).tolist() == [[3, 0, 2], [1, 2, 4]]
    np.testing.assert_array_equal(Allowed(wide, sets).numbered_in(large)[::4, ::4], [[3, 0, 2], [1, 2, 4]])
    np.testing.assert_array_equal(small.sets, large.sets)
