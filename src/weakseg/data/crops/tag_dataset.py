"""Batches of tag crops for the classifier: drawn by weights that favour rare presences and rare absences."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from weakseg.data.areas import Image
from weakseg.data.manifest import TagCrops
from weakseg.raster.resample import resize_image


class TagCropDataset(Dataset[dict[str, dict[str, Tensor]]]):
    """Item ``step`` is ``{"crops": {image (B, K, S, S), tags bool (B, C), known bool (B, C)}}``.

    Every sample is a pure function of (seed, step, position), flips and quarter turns included.
    """

    def __init__(
        self,
        images: dict[str, Image],
        crops: TagCrops,
        known: npt.NDArray[np.bool_],
        weights: npt.NDArray[np.float64],
        *,
        side: int,
        batch: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.crops, self.known, self.weights = images, crops, known, weights
        self.side, self.batch, self.steps, self.seed, self.rank, self.world = side, batch, steps, seed, rank, world

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, dict[str, Tensor]]:
        chosen = np.random.default_rng([self.seed, step]).choice(len(self.weights), self.batch, p=self.weights)
        mine = range(self.rank, self.batch, self.world)
        pictures = [self._cut(int(chosen[i]), np.random.default_rng([self.seed, step, i])) for i in mine]
        index = chosen[list(mine)]
        return {
            "crops": {
                "image": torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(),
                "tags": torch.from_numpy(self.crops.present[index]),
                "known": torch.from_numpy(self.known[index]),
            }
        }

    def _cut(self, index: int, rng: np.random.Generator) -> Image:
        cut = cut_crop(self.images[self.crops.areas[index]], self.crops.windows[index], self.side)
        cut = np.rot90(cut, int(rng.integers(4)))
        return np.ascontiguousarray(cut[:, ::-1] if rng.integers(2) else cut)


def cut_crop(image: Image, window: Sequence[int] | npt.NDArray[np.int64], side: int) -> Image:
    """The window (row, column, height, width) of an area (H, W, K), resized to (side, side, K)."""
    row, column, height, width = (int(value) for value in window)
    cut = np.asarray(image[row : row + height, column : column + width])
    how = cv2.INTER_AREA if max(height, width) > side else cv2.INTER_LINEAR
    return resize_image(cut, (side, side), how)
