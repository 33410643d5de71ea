"""Hold-out blocks of scenes, and whole images that are held out."""

from __future__ import annotations

import pytest

from weakseg.data.holdout_blocks import HoldoutBlocks

IMAGE = [(0, 0, 40, 64)]


@pytest.mark.parametrize(("share", "first"), [(0.0, 64), (0.1, 48), (0.25, 48), (0.5, 32)])
def test_the_block_is_the_right_most_columns_of_crops(share: float, first: int) -> None:
    windows = [(row, column, 16, 16) for row in (0, 16) for column in (0, 16, 32, 48)]
    assert HoldoutBlocks(share).first(windows, 64) == first


@pytest.mark.parametrize(
    ("share", "held"), [(0.25, [3, 7]), (0.5, [1, 3, 5, 7]), (0.2, [4]), (0.1, []), (0.0, []), (0.3, [3, 6])]
)
def test_images_of_one_crop_are_held_out_whole(share: float, held: list[int]) -> None:
    blocks = HoldoutBlocks(share)
    assert [number for number in range(8) if blocks.first(IMAGE, 64) == 0] == held


def test_an_area_without_crops_and_scenes_do_not_count() -> None:
    blocks = HoldoutBlocks(0.5)
    found = [blocks.first(windows, 64) for windows in (IMAGE, [], [(0, 0, 8, 8), (0, 32, 8, 8)], IMAGE, [])]
    assert found == [64, 64, 32, 0, 64]
