"""Training crops: image, mask, allowed classes and tag windows stay aligned, and draws are pure functions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.bit_sets import allowed_of, bits_of
from torch.utils.data import DataLoader

from weakseg.core.class_sets import EVERY_CLASS, Allowed, SetTable
from weakseg.core.classes import IGNORE
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import Crop, Pool, StepDataset, _cut, _start, _turn, draw_crop, stack_crops
from weakseg.data.crops.sampler import build_sampler
from weakseg.labels.tags import window_grid, window_index
from weakseg.networks.class_sets import AllowedBatch

SIDE, CLASSES, CELL = 60, 5, 12


def coordinate_area(height: int = SIDE, width: int = SIDE) -> Area:
    """Every array tells where it was cut: the image holds row and column, the rest their 4 px or 12 px block."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([4 * rows, 4 * columns, 0 * rows], -1).astype(np.uint8)
    mask = (rows // 4 + 15 * (columns // 4)).astype(np.uint8)
    mask[mask == IGNORE] = 0
    allowed = allowed_of(1 + rows // 4 + 100 * (columns // 4), 11)  # sets of their own for each block
    grid = window_grid(height, width, CELL)
    windows = window_index(height, width, grid)
    tags = np.random.default_rng(0).random((len(grid), CLASSES)) < 0.5
    return Area(image, mask, allowed, windows, tags, np.bincount(windows.ravel()).astype(np.int64))


def pool_of(*areas: Area, crop: int = 32, scale: tuple[float, float] = (1.0, 1.0), **options: Any) -> Pool:
    sampler = build_sampler(
        [area.image.shape[:2] for area in areas],
        [area.mask for area in areas],
        favoured=options.pop("favoured", None),
        probability=1.0,
        seed=0,
    )
    return Pool(areas, sampler, options.pop("count", 4), crop, scale, CLASSES, **options)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (1.4, 2.0), (0.55, 0.8)])
def test_arrays_stay_aligned_under_zoom_flip_and_turn(scale: tuple[float, float]) -> None:
    """The place that the image holds lies in the block that mask and allowed hold."""
    area = coordinate_area()
    for seed in range(40):
        crop = draw_crop(pool_of(area, scale=scale), np.random.default_rng(seed))
        rows, columns = (crop.image[..., band].astype(float) / 4 for band in (0, 1))
        block = bits_of(Allowed(crop.allowed, crop.sets)) - 1
        from_allowed_row, from_allowed_column = block % 100, block // 100
        off = 1.5 if scale == (1.0, 1.0) else 2.2  # 1.5 px from the block's centre, half a pixel of zoom, rounding
        assert np.abs(from_allowed_row * 4 + 1.5 - rows).max() <= off
        assert np.abs(from_allowed_column * 4 + 1.5 - columns).max() <= off
        plain = crop.mask != 0  # 0 also stands for the value that 255 gave way to
        assert (crop.mask % 15 == from_allowed_row)[plain].all()
        assert (crop.mask // 15 == from_allowed_column)[plain].all()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.55, 0.8)])
def test_windows_are_whole_and_carry_their_own_tags(scale: tuple[float, float]) -> None:
    area, seen = coordinate_area(), 0
    assert area.windows is not None
    assert area.tags is not None
    across = SIDE // CELL
    for seed in range(30):
        crop = draw_crop(pool_of(area, scale=scale), np.random.default_rng(seed))
        assert sorted(set(crop.windows.ravel().tolist()) - {-1}) == list(range(len(crop.tags)))
        for local in range(len(crop.tags)):
            inside = crop.windows == local
            row, column = (int(np.median(crop.image[inside][:, band].astype(int))) // 4 // CELL for band in (0, 1))
            assert np.array_equal(crop.tags[local], area.tags[row * across + column])
            if scale == (1.0, 1.0):
                assert inside.sum() == CELL * CELL  # a window cut by the rim is dropped
            seen += 1
    assert seen > 30


def test_windows_partly_inside_are_dropped() -> None:
    area = coordinate_area()
    assert area.tags is not None
    crop = _cut(area, 1, 0, 32, 32, CLASSES)  # columns 0..31 hold windows 0 and 1; rows 1..32 hold only row 12..23
    assert sorted(set(crop.windows.ravel().tolist())) == [-1, 0, 1]
    assert np.array_equal(crop.tags, area.tags[[5, 6]])
    assert (crop.windows[:11] == -1).all()  # the first row of windows lacks its uppermost line
    assert (crop.windows[11:23, :12] == 0).all()
    assert (crop.windows[:, 24:] == -1).all()


def test_area_smaller_than_the_crop_is_mirrored_and_its_labels_are_not() -> None:
    area = coordinate_area(20, 24)
    crop = _cut(area, 0, 0, 32, 32, CLASSES)
    assert np.array_equal(crop.image[:20, :24], area.image)
    assert np.array_equal(crop.image[20:32, :24], area.image[19:7:-1])
    assert (crop.mask[20:] == IGNORE).all()
    assert (crop.mask[:, 24:] == IGNORE).all()
    assert (crop.allowed[20:] == EVERY_CLASS).all()
    assert (crop.windows[20:] == -1).all()


def test_area_without_labels_allows_everything() -> None:
    area = Area(np.zeros((40, 40, 3), np.uint8))
    crop = draw_crop(pool_of(area), np.random.default_rng(0))
    assert (crop.mask == IGNORE).all()
    assert (crop.allowed == EVERY_CLASS).all()
    assert (crop.windows == -1).all()
    assert crop.tags.shape == (0, 5)


def test_start_contains_the_pixel_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    for pixel in range(50):
        starts = [_start(pixel, 16, 50, rng) for _ in range(30)]
        assert all(0 <= start <= 34 and start <= pixel < start + 16 for start in starts)
    assert _start(3, 16, 10, rng) == 0
    assert {_start(20, 4, 50, rng) for _ in range(200)} == {17, 18, 19, 20}


def test_all_eight_turns_occur_and_none_else() -> None:
    base = np.arange(9).reshape(3, 3)
    crop = Crop(
        np.stack([base] * 3, -1).astype(np.uint8),
        base.astype(np.uint8),
        base.astype(np.int32),
        base,
        np.eye(3) > 0,
        np.eye(3) > 0,
    )
    seen = set()
    for seed in range(80):
        turned = _turn(crop, np.random.default_rng(seed))
        assert np.array_equal(turned.image[..., 0], turned.mask)
        assert np.array_equal(turned.mask, turned.windows)
        assert np.array_equal(turned.mask, turned.allowed)
        seen.add(turned.mask.tobytes())
    square = base.astype(np.uint8)
    every = {np.rot90(part, turns).tobytes() for turns in range(4) for part in (square, square[:, ::-1])}
    assert seen == every
    assert len(every) == 8


def test_favoured_crops_hold_the_class() -> None:
    area = coordinate_area()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[50, 3] = 4
    crops = [
        draw_crop(pool_of(Area(area.image, mask), crop=16, favoured=4), np.random.default_rng(seed))
        for seed in range(20)
    ]
    assert all((crop.mask == 4).sum() == 1 for crop in crops)


def test_plain_draws_avoid_the_unlabelled_block() -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, 20:] = IGNORE
    area = Area(coordinate_area().image, mask)
    share = [
        float((draw_crop(pool_of(area, crop=16), np.random.default_rng(seed)).mask != IGNORE).mean())
        for seed in range(40)
    ]
    assert min(share) >= 0.25


def test_batches_are_pure_functions_of_the_step() -> None:
    pools = {"pixel": pool_of(coordinate_area(), scale=(0.7, 1.4)), "weak": pool_of(coordinate_area(), count=2)}
    one, two = (StepDataset(pools, seed=3, steps=4) for _ in range(2))
    late, early = one[2], two[0]
    again = two[2]
    assert equal(late, again)
    assert not equal(late, early)
    assert not equal(late, StepDataset(pools, seed=4, steps=4)[2])
    assert not torch.equal(late["pixel"]["image"][:2], late["weak"]["image"])  # pools draw apart
    assert late["pixel"]["image"].shape == (4, 3, 32, 32)
    assert (late["pixel"]["image"].dtype, late["pixel"]["mask"].dtype) == (torch.uint8, torch.int64)
    assert (late["pixel"]["allowed"].dtype, late["pixel"]["windows"].dtype) == (torch.int32, torch.int64)


def test_workers_do_not_change_batches() -> None:
    data = StepDataset({"pixel": pool_of(coordinate_area(), scale=(0.7, 1.4))}, seed=0, steps=3)
    alone = list(DataLoader(data, batch_size=None))
    helped = list(DataLoader(data, batch_size=None, num_workers=2))
    assert len(alone) == len(helped) == 3
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_ranks_split_the_batch() -> None:
    pools = {"pixel": pool_of(coordinate_area(), count=4)}
    whole = StepDataset(pools, seed=0, steps=2)[1]["pixel"]
    parts = [StepDataset(pools, seed=0, steps=2, rank=rank, world=2)[1]["pixel"] for rank in range(2)]
    for name in ("image", "mask"):
        assert torch.equal(torch.stack([parts[0][name], parts[1][name]], 1).flatten(0, 1), whole[name])
    assert sum(len(part["tags"]) for part in parts) == len(whole["tags"])


def test_stacked_windows_index_the_joined_tags() -> None:
    blank = np.zeros((2, 2), np.uint8)
    image, allowed = np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 2, np.int32)
    sets, other = (SetTable(2, [np.array(one)]).sets for one in ([True, False], [False, True]))
    one = Crop(image, blank, allowed, np.array([[0, 1], [-1, 0]], np.int32), np.array([[1, 0], [0, 1]], bool), sets)
    two = Crop(image, blank, allowed, np.array([[-1, 0], [0, 0]], np.int32), np.array([[1, 1]], bool), other)
    batch = stack_crops([one, two])
    assert batch["windows"].tolist() == [[[0, 1], [-1, 0]], [[-1, 2], [2, 2]]]
    assert batch["tags"].tolist() == [[True, False], [False, True], [True, True]]
    channels = AllowedBatch(batch["allowed"], batch["sets"]).channels()  # number 2 of either crop's own sets
    assert channels[:, :, 0, 0].tolist() == [[True, False], [False, True]]


def equal(one: dict[str, dict[str, torch.Tensor]], two: dict[str, dict[str, torch.Tensor]]) -> bool:
    return all(torch.equal(one[pool][name], two[pool][name]) for pool in one for name in one[pool])


def test_crops_of_areas_without_masks_are_drawn_where_there_are_data() -> None:
    """The left half allows no class; without it the draws are those of an area that knows nothing of tags."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    allowed = Allowed.everywhere(SIDE, SIDE, 3).but_nothing(np.broadcast_to(np.arange(SIDE) < 30, (SIDE, SIDE)))
    collared, free = pool_of(Area(image, allowed=allowed), crop=16), pool_of(Area(image), crop=16)
    shares = [(draw_crop(collared, np.random.default_rng(seed)).allowed != 0).mean() for seed in range(60)]
    assert min(shares) >= 0.25
    assert min((draw_crop(free, np.random.default_rng(seed)).allowed != 0).mean() for seed in range(60)) == 1.0
    everywhere = pool_of(Area(coordinate_area().image, allowed=Allowed.everywhere(SIDE, SIDE, 3)), crop=16)
    plain = pool_of(Area(coordinate_area().image), crop=16)
    for seed in range(20):
        one, other = (draw_crop(pool, np.random.default_rng(seed)) for pool in (everywhere, plain))
        assert np.array_equal(one.image, other.image)


def test_a_step_says_where_its_crops_lie() -> None:
    """As they are drawn: the pixel at the place that is named is in the crop."""
    pools = {"pixel": pool_of(replace(coordinate_area(), name="a1"), count=2)}
    pools["weak"] = pool_of(coordinate_area(), count=1, begins=7)
    data = StepDataset(pools, seed=5, steps=10)
    places = re.findall(r"a1 at row (\d+), column (\d+) \(32 px\)", data.describe(3))
    assert data.describe(3).startswith("pixel: a1 at row ")
    assert len(places) == 2
    for image, (row, column) in zip(data[3]["pixel"]["image"].numpy(), places, strict=True):
        assert image[0].min() == 4 * int(row)
        assert image[1].min() == 4 * int(column)
    assert "; weak: an area at row" in data.describe(7)
