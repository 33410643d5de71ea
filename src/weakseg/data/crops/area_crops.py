"""Random crops from memory-mapped areas, batched by training step.

Every sample is a pure function of (seed, pool, step, position in the batch): resuming at a step, more loader workers
or more ranks change nothing about what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from weakseg.core.class_sets import EVERY_CLASS, Allowed, SetTable
from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import ParamsError
from weakseg.data.areas import Area, Image
from weakseg.data.crops.sampler import CropSampler
from weakseg.labels.tags import windows_inside
from weakseg.raster.resample import resize_image

TRIES = 10  # draws of a crop before one with few labelled pixels is taken as it is


@dataclass(frozen=True)
class Pool:
    """Areas that serve one part of the batch, and how they are cut.

    Attributes:
        areas: what to cut from.
        sampler: where to cut.
        count: crops per step (over all ranks), from step ``begins`` on.
        begins: first step that draws from this pool.
        crop: side in px.
        scale: range of zoom factors; 2 shows half the ground at twice the size.
        min_labelled: share of labelled pixels, or of pixels with image data where there is no mask, below which a plain
            draw is repeated (hold-out blocks are unlabelled).
    """

    areas: Sequence[Area]
    sampler: CropSampler
    count: int
    crop: int
    scale: tuple[float, float]
    classes: int
    begins: int = 0
    min_labelled: float = 0.25


class Crop(NamedTuple):
    """One training crop, all arrays of side ``crop``; ``tags`` are those of the tag crops that lie fully inside.

    ``allowed`` holds rows of ``sets``, which is the area's own table.
    """

    image: Image
    mask: Mask
    allowed: npt.NDArray[np.int32]
    windows: npt.NDArray[np.int32]
    tags: npt.NDArray[np.bool_]
    sets: npt.NDArray[np.bool_]


class StepDataset(Dataset[dict[str, dict[str, Tensor]]]):
    """Item ``step`` is the whole batch of that step: ``{pool: {image, mask, allowed, sets, windows, tags}}``.

    ``image`` (B, K, S, S) in the areas' own dtype; ``mask`` int64 (B, S, S), 255 unlabelled; ``allowed`` int32
    (B, S, S), rows of ``sets`` bool (N, C); ``windows`` int64 (B, S, S), rows of ``tags`` bool (W, C), or -1.
    """

    def __init__(self, pools: dict[str, Pool], *, seed: int, steps: int, rank: int = 0, world: int = 1) -> None:
        small = [name for name, pool in pools.items() if pool.count < world]
        if small:
            raise ParamsError(
                f"pools {small} have fewer crops than {world} ranks", expected="one each", cure="raise segment.batch"
            )
        self.pools, self.seed, self.steps, self.rank, self.world = pools, seed, steps, rank, world

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, dict[str, Tensor]]:
        batch = {}
        for number, (name, pool) in enumerate(self.pools.items()):
            if step < pool.begins:
                continue
            mine = range(self.rank, pool.count, self.world)
            crops = [draw_crop(pool, np.random.default_rng([self.seed, number, step, i])) for i in mine]
            batch[name] = stack_crops(crops)
        return batch

    def describe(self, step: int) -> str:
        """Where the crops of a step lie, by pool: ``pixel: area1 at row 3, column 40 (32 px)``."""
        said = []
        for number, (name, pool) in enumerate(self.pools.items()):
            if step >= pool.begins:
                mine = range(self.rank, pool.count, self.world)
                places = [_place(pool, np.random.default_rng([self.seed, number, step, i])) for i in mine]
                crops = [f"{area.name} at row {top}, column {left} ({side} px)" for area, top, left, side in places]
                said.append(f"{name}: {', '.join(crops)}")
        return "; ".join(said)


def stack_crops(crops: Sequence[Crop]) -> dict[str, Tensor]:
    """Crops -> one dictionary of tensors; numbers of tag crops and of sets index the joined ``tags`` and ``sets``."""
    windows, shift, table = [], 0, SetTable(crops[0].sets.shape[1])
    for crop in crops:
        windows.append(np.where(crop.windows >= 0, crop.windows + shift, -1).astype(np.int64))
        shift += len(crop.tags)
    return {
        "image": torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2).contiguous(),
        "mask": torch.from_numpy(np.stack([crop.mask for crop in crops]).astype(np.int64)),
        "allowed": torch.from_numpy(np.stack([Allowed(one.allowed, one.sets).numbered_in(table) for one in crops])),
        "sets": torch.from_numpy(table.sets),
        "windows": torch.from_numpy(np.stack(windows)),
        "tags": torch.from_numpy(np.concatenate([crop.tags for crop in crops])),
    }


def draw_crop(pool: Pool, rng: np.random.Generator) -> Crop:
    """One crop: place, zoom, cut, flip and turn."""
    area, top, left, side = _place(pool, rng)
    return _turn(_cut(area, top, left, side, pool.crop, pool.classes), rng)


def _place(pool: Pool, rng: np.random.Generator) -> tuple[Area, int, int, int]:
    """Area, first row and column, and side of a crop before it is resized."""
    for attempt in range(TRIES):
        index, row, column, favoured = pool.sampler.draw(rng)
        area = pool.areas[index]
        side = max(8, round(pool.crop / rng.uniform(*pool.scale)))
        height, width = area.image.shape[:2]
        top = _start(row, side, height, rng)
        left = _start(column, side, width, rng)
        here = (slice(top, top + side), slice(left, left + side))
        taught = _taught(area, here)
        if favoured or taught is None or attempt == TRIES - 1:
            break
        if np.count_nonzero(taught) >= pool.min_labelled * taught.size:
            break
    return area, top, left, side


def _taught(area: Area, here: tuple[slice, slice]) -> npt.NDArray[np.bool_] | None:
    """Pixels of a cut that are labelled; without a mask those where some class is allowed, None where all are."""
    if area.mask is not None:
        return np.asarray(area.mask[here] != IGNORE)
    return None if area.allowed is None else ~area.allowed[here].nothing


def _start(pixel: int, side: int, length: int, rng: np.random.Generator) -> int:
    """Start of a span of ``side`` px that contains ``pixel`` and stays inside 0..length where it can."""
    low, high = max(0, pixel - side + 1), min(pixel, length - side)
    return int(rng.integers(low, high + 1)) if high >= low else 0


def _cut(area: Area, top: int, left: int, side: int, crop: int, classes: int) -> Crop:
    height, width = area.image.shape[:2]
    here = (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
    lower, right = side - (here[0].stop - top), side - (here[1].stop - left)
    tags, sets = np.zeros((0, classes), bool), SetTable(classes).sets if area.allowed is None else area.allowed.sets
    windows = None
    if area.windows is not None and area.tags is not None and area.window_pixels is not None:
        windows, whole = windows_inside(np.asarray(area.windows[here]), area.window_pixels)
        tags = area.tags[whole]
    return Crop(
        _fit(area.image[here], lower, right, crop, None),
        _fit(area.mask[here] if area.mask is not None else None, lower, right, crop, IGNORE, np.uint8),
        _fit(
            area.allowed.numbers[here] if area.allowed is not None else None, lower, right, crop, EVERY_CLASS, np.int32
        ),
        _fit(windows, lower, right, crop, -1, np.int32),
        tags,
        sets,
    )


def _fit(
    array: npt.NDArray[Any] | None, lower: int, right: int, crop: int, fill: Any, dtype: Any = np.uint8
) -> npt.NDArray[Any]:
    """Pad at the lower and right rim (``fill`` None mirrors), then resize to ``crop`` px; labels by nearest pixel."""
    if array is None:
        return np.broadcast_to(np.asarray(fill, dtype), (crop, crop))  # turning copies it
    array = np.asarray(array)
    if lower or right:
        pads = ((0, lower), (0, right), (0, 0))[: array.ndim]
        array = np.pad(array, pads, mode="symmetric") if fill is None else np.pad(array, pads, constant_values=fill)
    if array.shape[0] == crop:
        return np.ascontiguousarray(array)
    if fill is not None:
        index = ((np.arange(crop) + 0.5) * array.shape[0] / crop).astype(np.int64)
        return np.ascontiguousarray(array[index[:, None], index[None, :]])
    how = cv2.INTER_AREA if array.shape[0] > crop else cv2.INTER_LINEAR
    return resize_image(array, (crop, crop), how)


def _turn(crop: Crop, rng: np.random.Generator) -> Crop:
    """One of the eight flips and quarter turns, the same for all arrays."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))

    def turn(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        turned = np.rot90(array, turns)
        return np.ascontiguousarray(turned[:, ::-1] if flip else turned)

    return Crop(turn(crop.image), turn(crop.mask), turn(crop.allowed), turn(crop.windows), crop.tags, crop.sets)
