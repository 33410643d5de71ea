"""Where training crops are cut: uniformly over the labelled pixels, or favouring one class (car-favouring sampling)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask

POSITIONS_PER_AREA = 20_000  # enough for any draw; bounds the memory of a class that fills an area
SPARSE = 0.5  # share of labelled pixels below which an area is labelled in part: hold-out blocks leave more


@dataclass(frozen=True)
class CropSampler:
    """Draws an area and a pixel to centre a crop on.

    Attributes:
        shares: float (A,), probability of each area for a plain draw.
        sizes: (height, width) of each area.
        favoured: (area, row, column) int (N, 3) of pixels of the favoured class; empty switches favouring off.
        probability: share of draws that centre on a favoured pixel.
        labelled: (row, column) int (N, 2) by area, of labelled pixels of areas that are labelled in part; a plain draw
            takes one of them, where any pixel would mostly show no label at all.
    """

    shares: npt.NDArray[np.float64]
    sizes: tuple[tuple[int, int], ...]
    favoured: npt.NDArray[np.int64]
    probability: float
    labelled: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int, bool]:
        """(area index, row, column, favoured?) of the pixel that the crop has to contain."""
        if len(self.favoured) and rng.random() < self.probability:
            area, row, column = self.favoured[rng.integers(len(self.favoured))]
            return int(area), int(row), int(column), True
        area = int(rng.choice(len(self.shares), p=self.shares))
        if area in self.labelled:
            row, column = self.labelled[area][rng.integers(len(self.labelled[area]))]
            return area, int(row), int(column), False
        height, width = self.sizes[area]
        return area, int(rng.integers(height)), int(rng.integers(width)), False


def build_sampler(
    sizes: Sequence[tuple[int, int]],
    masks: Sequence[Mask | None],
    *,
    favoured: int | None,
    probability: float,
    seed: int,
    hints: Sequence[Mask | None] | None = None,
    pseudo: bool = False,
) -> CropSampler:
    """Sampler over areas of these sizes; areas with a mask count by their labelled pixels, others by all pixels.

    Args:
        favoured: class index to favour where masks show it, or None.
        hints: for areas without a mask, where the favoured class may be: masks that hold its index in the tag crops
            tagged with it.
        probability: share of favoured crops, 0..1.
        seed: of the subsample of favoured pixels.
        pseudo: masks are pseudo-masks. Where they are unsure there is something to learn all the same, from tags and
            agreement, so their plain draws are even, however little they label.
    """
    pixels = np.array(
        [
            float(np.count_nonzero(mask != IGNORE)) if mask is not None else float(height * width)
            for (height, width), mask in zip(sizes, masks, strict=True)
        ]
    )
    shown = [mask if mask is not None else hint for mask, hint in zip(masks, hints or [None] * len(masks), strict=True)]
    places = [_positions(mask, favoured, seed, i) for i, mask in enumerate(shown) if mask is not None]
    filled = [place for place in places if len(place)] if favoured is not None and probability > 0 else []
    drawn = [] if pseudo else [(i, mask) for i, mask in enumerate(masks) if mask is not None]
    sparse = [i for i, mask in drawn if 0 < pixels[i] < SPARSE * mask.size]
    return CropSampler(
        shares=pixels / pixels.sum() if pixels.sum() else np.full(len(pixels), 1 / len(pixels)),
        sizes=tuple(sizes),
        favoured=np.concatenate(filled) if filled else np.zeros((0, 3), np.int64),
        probability=probability,
        labelled={i: _chosen(np.asarray(masks[i]) != IGNORE, seed, i)[:, 1:] for i in sparse},
    )


def _positions(mask: Mask, favoured: int | None, seed: int, area: int) -> npt.NDArray[np.int64]:
    if favoured is None:
        return np.zeros((0, 3), np.int64)
    return _chosen(np.asarray(mask) == favoured, seed, area)


def _chosen(plane: npt.NDArray[np.bool_], seed: int, area: int) -> npt.NDArray[np.int64]:
    """(area, row, column) of the pixels that are set, or of so many of them that it is enough."""
    flat = np.flatnonzero(plane.ravel())
    if len(flat) > POSITIONS_PER_AREA:
        flat = np.random.default_rng([seed, area]).choice(flat, POSITIONS_PER_AREA, replace=False)
    rows, columns = np.divmod(flat, plane.shape[1])
    return np.stack([np.full(len(flat), area), rows, columns], axis=1).astype(np.int64)
