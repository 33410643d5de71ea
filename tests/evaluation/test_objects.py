"""Objects by size: found, lost, strays and IoU, counted by hand; over all sizes the IoU is that of the pixels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import class_iou, confusion_matrix
from weakseg.evaluation.objects import COUNTS, SMALLEST, count_objects, object_scores

Masks = npt.NDArray[np.uint8]


def mask(*rows: str) -> Masks:
    """Class digits, ``.`` for 255."""
    return np.array([[IGNORE if c == "." else int(c) for c in row] for row in rows], np.uint8)


def test_found_lost_and_stray_objects() -> None:
    truth = mask(
        "1100000",
        "1100011",
        "0000000",
        "0001000",
    )
    guess = mask(
        "1110000",
        "1000000",
        "0000000",
        "1001100",
    )
    table = count_objects(truth, guess, 2)
    # three objects: 4 px, of them 3 found and 1 px too much; 2 px, lost; 1 px, found, 1 px too much; a stray of 1 px
    assert table[1, 0].tolist() == [3, 2, 0, 1, 3 + 0 + 1, (4 + 1) + 2 + (1 + 1) + 1]
    assert not table[1, 1:].any()
    rows = object_scores(table, ["road", "car"])["car"]
    assert rows == [
        {
            **{"smallest": 1, "largest": 15, "objects": 3, "found": 2, "unsure": 0, "strays": 1},
            "recall": 2 / 3,
            "iou": 4 / 10,
        }
    ]


def test_half_an_object_is_found_and_less_is_not() -> None:
    truth = mask("11110111")
    assert count_objects(truth, mask("11000100"), 2)[1, 0, COUNTS.index("found")] == 1  # 2 of 4, 1 of 3


def test_sizes_start_where_they_say() -> None:
    for place, size in enumerate(SMALLEST):
        truth = np.zeros((1, 2 * size + 1), np.uint8)
        truth[0, :size] = 1
        if size > 1:
            truth[0, size + 1 : 2 * size] = 1  # a pixel smaller
        objects = count_objects(truth, truth, 2)[1, :, 0]
        expected = np.zeros(len(SMALLEST), int)
        expected[place] += 1
        expected[max(0, place - 1)] += int(size > 1)
        assert objects.tolist() == expected.tolist()


def test_corners_touch() -> None:
    assert count_objects(mask("10", "01"), mask("10", "01"), 2)[1, 0, 0] == 1


def test_pixels_without_a_guess_are_lost_but_not_wrong() -> None:
    table = count_objects(mask("1111"), mask("1..."), 2)
    assert table[1, 0].tolist() == [1, 0, 1, 0, 1, 1]  # one of four found, IoU 1 inside the coverage
    assert count_objects(mask("1111"), mask("10.."), 2)[1, 0].tolist() == [
        1,
        0,
        0,
        0,
        1,
        2,
    ]  # half is guessed: swallowed


def test_pixels_without_truth_count_nowhere() -> None:
    table = count_objects(mask("11..00"), mask("11110."), 2)
    assert table[1, 0].tolist() == [1, 1, 0, 0, 2, 2]
    assert count_objects(mask("..00"), mask("11.."), 2)[1].sum() == 0


def test_a_region_over_two_objects_is_laid_to_the_one_that_it_meets_most() -> None:
    truth, guess = np.zeros((1, 40), np.uint8), np.zeros((1, 40), np.uint8)
    truth[0, :16], truth[0, 20:23] = 1, 1
    guess[0, 4:26] = 1  # 12 px of the first, 3 of the second, 4 between and 3 behind
    table = count_objects(truth, guess, 2)[1]
    assert table[1].tolist() == [1, 1, 0, 0, 12, 16 + 7]
    assert table[0].tolist() == [1, 1, 0, 0, 3, 3]


def test_a_size_of_strays_alone_has_no_recall() -> None:
    rows = object_scores(count_objects(mask("0000"), mask("0110"), 2), ["road", "car"])["car"]
    assert [(row["objects"], row["strays"], row["iou"]) for row in rows] == [(0, 1, 0.0)]
    assert math.isnan(float(rows[0]["recall"] or 0))


@given(arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255])), st.data())
def test_over_all_sizes_it_is_the_iou_of_the_pixels(truth: Masks, data: st.DataObject) -> None:
    guess = data.draw(arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255])))
    whole = count_objects(truth, guess, 3).sum(1)
    inside = np.where(guess == IGNORE, IGNORE, truth).astype(np.uint8)
    iou = class_iou(confusion_matrix(inside, guess, 3))
    for index in range(3):
        objects, found, unsure, _, hits, union = whole[index]
        assert found + unsure <= objects
        assert (hits / union if union else math.nan) == pytest.approx(iou[index], nan_ok=True)


def test_masks_of_two_areas_are_refused() -> None:
    with pytest.raises(DataError, match=r"truth \(1, 2\) and mask \(1, 3\); expected two masks \(H, W\) of one area"):
        count_objects(mask("11"), mask("111"), 2)
