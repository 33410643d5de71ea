"""Windows, tags and rasters: by hand, by brute force, refusals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bit_sets import bits_of

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.labels import tags

ABC = ClassScheme(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def patchwork(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Random blocks of 0, 1, 2 and 255 of about 7 px."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 255], (height // 7 + 1, width // 7 + 1))
    return np.kron(blocks, np.ones((7, 7)))[:height, :width].astype(np.uint8)


def test_grid_by_hand() -> None:
    assert tags.window_grid(10, 25, 10) == [(0, 0, 10, 8), (0, 8, 10, 8), (0, 16, 10, 9)]  # 2.5 rounds up
    assert tags.window_grid(7, 4, 10) == [(0, 0, 7, 4)]
    assert len(tags.window_grid(2566, 1893, 200)) == 13 * 9
    with pytest.raises(ParamsError, match="mend the crop size"):
        tags.window_grid(10, 10, 0)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
@settings(max_examples=60)
def test_grid_covers_every_pixel_once_by_near_equal_parts(height: int, width: int, size: int) -> None:
    windows = tags.window_grid(height, width, size)
    cover = np.zeros((height, width), int)
    for row, column, tall, wide in windows:
        cover[row : row + tall, column : column + wide] += 1
    assert (cover == 1).all()
    for axis, length in ((2, height), (3, width)):
        parts = [window[axis] for window in windows]
        assert max(parts) - min(parts) <= 1
        assert min(parts) >= min(length, math.floor(2 / 3 * size))
        assert max(parts) <= max(math.ceil(1.5 * size), 1)


def test_tags_by_hand_with_threshold() -> None:
    mask = np.full((10, 20), 255, np.uint8)
    mask[:, :10] = 0
    mask[0, 0:5] = 1  # 5 % of the left window
    windows = [(0, 0, 10, 10), (0, 10, 10, 10)]
    present, known = tags.tags_from_mask(mask, windows, 3)
    assert present.tolist() == [[True, True, False], [False] * 3]
    assert known.tolist() == [[True] * 3, [False] * 3]  # nothing is labelled on the right: nothing is known
    present, known = tags.tags_from_mask(mask, windows, 3, min_share=5.0)  # "more than": 5 % is not enough
    assert present[0].tolist() == [True, False, False]
    assert known[0].tolist() == [True, False, True]
    present, _ = tags.tags_from_mask(mask, windows, 3, min_share=4.9)
    assert present[0].tolist() == [True, True, False]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 12.5, 40.0]))
@settings(max_examples=25)
def test_tags_equal_brute_force_on_any_windows(seed: int, min_share: float) -> None:
    mask = patchwork(seed, 40, 33)
    rng = np.random.default_rng(seed)
    windows = []
    for _ in range(12):
        row, column = int(rng.integers(0, 40)), int(rng.integers(0, 33))
        windows.append((row, column, int(rng.integers(1, 41 - row)), int(rng.integers(1, 34 - column))))
    present, known = tags.tags_from_mask(mask, windows, 3, min_share=min_share)
    for index, (row, column, tall, wide) in enumerate(windows):
        crop = mask[row : row + tall, column : column + wide]
        for label in range(3):
            share = 100 * (crop == label).sum() / crop.size
            assert present[index, label] == (share > min_share)
            assert known[index, label] == ((share > min_share or share == 0) and (crop != 255).any())


def test_tags_refuse() -> None:
    mask = np.zeros((10, 10), np.uint8)
    with pytest.raises(DataError, match=r"a rectangle inside 10x10 px"):
        tags.tags_from_mask(mask, [(0, 0, 11, 2)], 3)
    with pytest.raises(DataError, match=r"a rectangle inside 10x10 px"):
        tags.tags_from_mask(mask, [(-1, 0, 2, 2)], 3)
    with pytest.raises(DataError, match="mask label 3"):
        tags.tags_from_mask(mask + np.uint8(3), [(0, 0, 2, 2)], 3)
    with pytest.raises(ParamsError, match="use 0 for any pixel"):
        tags.tags_from_mask(mask, [(0, 0, 2, 2)], 3, min_share=100)


def test_allowed_raster_by_hand() -> None:
    windows = [(0, 0, 2, 2), (0, 1, 2, 2)]
    present = np.array([[True, True, False], [False, True, False]])
    known = np.array([[True, True, True], [True, True, False]])  # the second knows nothing of class c
    raster = tags.allowed_raster(2, 4, windows, present, known)
    assert raster.numbers.dtype == np.int32
    assert bits_of(raster).tolist() == [[0b011, 0b010, 0b110, 0b111]] * 2
    nothing = tags.allowed_raster(2, 4, windows, np.zeros((2, 3), bool), np.ones((2, 3), bool))
    assert bits_of(nothing).tolist() == [[0, 0, 0, 7]] * 2
    assert nothing.nothing.tolist() == [[True, True, True, False]] * 2
    with pytest.raises(DataError, match="hand in their tags"):
        tags.allowed_raster(2, 4, windows, present[:1], known[:1])
    with pytest.raises(DataError, match="inside 2x2"):
        tags.allowed_raster(2, 2, windows, present, known)


def test_allowed_raster_of_hundreds_of_classes_holds_a_number_per_pixel() -> None:
    present = np.zeros((1, 200), bool)
    present[0, 199] = True
    raster = tags.allowed_raster(1, 2, [(0, 0, 1, 1)], present, np.ones((1, 200), bool))
    assert raster.numbers.tolist() == [[2, 1]]
    assert [np.flatnonzero(one).tolist() for one in raster.sets] == [[], list(range(200)), [199]]


@given(st.integers(0, 2**32 - 1), st.integers(3, 25), st.sampled_from([0.0, 10.0]))
@settings(max_examples=25)
def test_tags_never_forbid_what_is_there(seed: int, size: int, min_share: float) -> None:
    mask = patchwork(seed, 31, 44)
    windows = tags.window_grid(31, 44, size) + tags.window_grid(31, 44, size + 3)
    present, known = tags.tags_from_mask(mask, windows, 3, min_share=min_share)
    raster = tags.allowed_raster(31, 44, windows, present, known)
    labelled = mask != 255
    assert ((bits_of(raster)[labelled] >> mask[labelled]) & 1 == 1).all()


def test_window_index_names_the_first() -> None:
    raster = tags.window_index(2, 4, [(0, 0, 2, 2), (0, 1, 1, 2)])
    assert raster.tolist() == [[0, 0, 1, -1], [0, 0, -1, -1]]


def test_windows_inside_keeps_whole_windows_only() -> None:
    windows = tags.window_grid(6, 9, 3)
    whole = tags.window_index(6, 9, windows)
    pixels = np.bincount(whole.ravel(), minlength=len(windows))
    local, kept = tags.windows_inside(whole[0:6, 2:9], pixels)
    assert kept.tolist() == [1, 2, 4, 5]
    assert local.tolist() == [[-1, 0, 0, 0, 1, 1, 1]] * 3 + [[-1, 2, 2, 2, 3, 3, 3]] * 3
    local, kept = tags.windows_inside(whole[0:6, 2:9], pixels, min_share=1 / 3)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5]
    local, kept = tags.windows_inside(np.full((2, 2), -1, np.int32), pixels)
    assert kept.size == 0
    assert (local == -1).all()


def test_naming_refuses_windows_without_any_class() -> None:
    with pytest.raises(DataError, match="an empty row means no tags"):
        tags.to_tag_windows("area1", [(0, 0, 5, 5)], np.zeros((1, 3), bool), np.ones((1, 3), bool), ABC)


REST = ClassScheme(("roof", "rest", "pool"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), background="rest")


def test_no_tag_speaks_of_a_background() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    windows = [(0, 0, 2, 2), (0, 2, 2, 2)]
    present, known = tags.tags_from_mask(mask, windows, 3, background=1)
    assert present.tolist() == [[True, False, False], [False, False, False]]
    assert known.tolist() == [[True, False, True], [True, False, True]]
    assert tags.says_something(present, known, REST).tolist() == [True, True]
    assert tags.says_something(present, known, ABC).tolist() == [True, False]
    allowed = tags.allowed_raster(2, 4, windows, present, known)
    assert bits_of(allowed).tolist() == [[0b011, 0b011, 0b010, 0b010]] * 2  # roof or rest, rest alone


def test_a_window_without_an_object_names_the_background() -> None:
    windows = [(0, 0, 1, 1), (0, 1, 1, 1), (0, 2, 1, 1)]
    present = np.array([[True, False, False], [False, False, False], [False, False, False]])
    known = np.array([[True, False, True], [True, False, True], [False, False, False]])
    rows = tags.to_tag_windows("t", windows, present, known, REST)
    assert [(row.present, row.unknown) for row in rows] == [(("roof",), ()), (("rest",), ()), ((), ())]
    again = tags.tag_arrays(rows, REST)
    np.testing.assert_array_equal(again[0], present)
    np.testing.assert_array_equal(again[1], known)


def test_a_background_beside_an_object_says_nothing() -> None:
    present, known = tags.tag_arrays([tags.TagWindow("t", 0, 0, 1, 1, ("roof", "rest"))], REST)
    assert (present.tolist(), known.tolist()) == ([[True, False, False]], [[True, False, True]])


def test_of_a_mask_of_part_of_an_area_only_whole_windows_know_what_is_absent() -> None:
    """Windows of 2 px: whole, half labelled, unlabelled, whole but for px without image data."""
    mask = np.array([[0, 1, 0, 255, 255, 255, 2, 255], [0, 1, 0, 255, 255, 255, 2, 255]], np.uint8)
    valid = np.ones(mask.shape, bool)
    valid[:, 7] = False
    windows = [(0, column, 2, 2) for column in (0, 2, 4, 6)]
    present, known = tags.tags_from_mask(mask, windows, 3, valid=valid, partly=True)
    assert present.astype(int).tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert known.astype(int).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert tags.tags_from_mask(mask, windows, 3, valid=valid)[1].astype(int).tolist()[1] == [1, 1, 1]
