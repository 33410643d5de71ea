"""Small copies of what an import took, for its contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import Mask
from weakseg.raster.resample import resize_image

SIDE: Final = 320  # px, the longer side
MOST: Final = 24  # areas


@dataclass(frozen=True)
class Preview:
    """One area, small.

    Attributes:
        image: (h, w, K), averaged over the px that one px stands for.
        mask: uint8 (h, w), the px in the middle of these; None without a label.
        counts: int64 (256,), px per value of the whole mask.
        shape: height and width of the area, px.
    """

    area: str
    image: npt.NDArray[Any]
    mask: Mask | None
    counts: npt.NDArray[np.int64]
    shape: tuple[int, int]


def choose_previews(areas: Sequence[str]) -> set[str]:
    """At most ``MOST`` of the areas, evenly from the first to the last."""
    places = np.linspace(0, len(areas) - 1, min(MOST, len(areas)))
    return {areas[round(place)] for place in places}


def make_preview(area: str, image: npt.NDArray[Any], mask: Mask | None) -> Preview:
    """Shrink an image (H, W, K) and its mask (H, W) to ``SIDE``; smaller ones stay as they are."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize_image(image, size[::-1], cv2.INTER_AREA)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (height, width), strict=True)
    )
    counts = np.zeros(256, np.int64) if mask is None else np.bincount(mask.ravel(), minlength=256)
    chosen = None if mask is None else mask[np.ix_(rows, columns)]
    return Preview(area, small, chosen, counts, (height, width))
