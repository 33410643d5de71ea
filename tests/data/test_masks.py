"""Label pixels of every kind become the same index mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.classes import IGNORE, ISPRS, ClassScheme
from weakseg.data.masks import class_table, decode_mask
from weakseg.errors import DataError

TWO = ClassScheme(("house", "road"), ((10, 0, 0), (0, 20, 0)), (("unlabeled", (0, 0, 0)),))


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, IGNORE]), min_size=1, max_size=12))
def test_colours_and_indices_decode_to_the_mask(values: list[int]) -> None:
    mask = np.array([values], np.uint8)
    np.testing.assert_array_equal(decode_mask(mask, ISPRS), mask)
    np.testing.assert_array_equal(decode_mask(ISPRS.to_colours(mask), ISPRS), mask)


def test_further_values_can_mean_ignore() -> None:
    values = np.array([[0, 1, 2, 255, 7]], np.uint8)
    assert decode_mask(values, TWO, ignore_values=(2, 7)).tolist() == [[0, 1, 255, 255, 255]]


def test_values_out_of_range_are_counted_and_placed() -> None:
    values = np.array([[0, 1, 1], [0, 5, 2]], np.uint8)
    with pytest.raises(DataError) as caught:
        decode_mask(values, TWO)
    assert caught.value.found == "2 px of values out of range, first 5 at row 1, column 1"
    assert caught.value.expected == "0 to 1 (house, road) or 255 for ignore"
    assert "ignore_values" in caught.value.cure


@pytest.mark.parametrize("value", [1, -1, 256])
def test_ignore_values_must_not_be_classes_or_no_bytes(value: int) -> None:
    with pytest.raises(DataError, match="expected 2 to 255: below are the classes house, road"):
        decode_mask(np.zeros((1, 1), np.uint8), TWO, ignore_values=(value,))


def test_a_renumbered_colour_table_is_read_by_colour() -> None:
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [(0, 20, 0), (10, 0, 0), (0, 0, 0)]  # road, house, unlabeled
    assert decode_mask(np.array([[0, 1, 2]], np.uint8), TWO, table=table).tolist() == [[1, 0, IGNORE]]


def test_a_colour_table_of_other_colours_is_only_decoration() -> None:
    table = np.arange(768).astype(np.uint8).reshape(256, 3)
    assert decode_mask(np.array([[0, 1, 255]], np.uint8), TWO, table=table).tolist() == [[0, 1, IGNORE]]


def test_unknown_colours_are_counted_and_placed() -> None:
    rgb = TWO.to_colours(np.array([[0, 1], [1, 0]], np.uint8))
    rgb[1, 0] = (1, 2, 3)
    with pytest.raises(DataError, match=r"1 px of unknown colours, first \(1, 2, 3\) at row 1, column 0"):
        decode_mask(rgb, TWO)


def test_class_table_paints_classes_and_ignore() -> None:
    table = class_table(TWO)
    assert table[1] == (0, 20, 0, 255)
    assert table[IGNORE] == (0, 0, 0, 255)
    assert table[2] == (0, 0, 0, 0)
    assert len(table) == 256
