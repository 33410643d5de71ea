"""Copy-paste of a rare class: objects cut from labelled areas, with a margin for their shadow, onto plausible ground.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021;
ours: objects are connected components of a semantic mask, a margin of true surroundings keeps the shadow, and the
target has to show the class that surrounded the object at home (cars go to impervious surface).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask

PLACE_TRIES = 20


@dataclass(frozen=True)
class Snippet:
    """One object: image uint8 (h, w, 3), alpha bool (h, w) of what is pasted, body bool (h, w) of the class itself."""

    image: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.bool_]
    body: npt.NDArray[np.bool_]
    ground: int


@dataclass(frozen=True)
class CopyPaste:
    """Snippets of one class and how often they are pasted: up to ``most`` into a share ``probability`` of crops."""

    snippets: tuple[Snippet, ...]
    class_index: int
    probability: float
    most: int


def cut_snippets(
    pairs: Sequence[tuple[npt.NDArray[np.uint8], Mask]], class_index: int, *, margin: int = 2, limit: int = 2000
) -> tuple[Snippet, ...]:
    """Connected components of a class, whole ones only (nothing that touches the rim or unlabelled pixels).

    Args:
        pairs: (image (H, W, 3), mask (H, W)) per area.
        margin: px of surroundings that travel with the object.
        limit: snippets kept at most, the first found.
    """
    found: list[Snippet] = []
    for image, mask in pairs:
        labels = np.asarray(mask)
        count, _, stats, _ = cv2.connectedComponentsWithStats((labels == class_index).astype(np.uint8), connectivity=8)
        for x, y, width, height, size in stats[1:count]:
            top, left, bottom, right = y - margin, x - margin, y + height + margin, x + width + margin
            if size < 6 or min(top, left) < 0 or bottom > labels.shape[0] or right > labels.shape[1]:
                continue
            piece = labels[top:bottom, left:right]
            body = piece == class_index
            around = piece[~body & (piece != IGNORE)]
            if (piece == IGNORE).any() or not around.size:
                continue
            kernel = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
            alpha = cv2.dilate(body.astype(np.uint8), kernel).astype(bool)
            ground = int(np.bincount(around).argmax())
            found.append(Snippet(np.array(image[top:bottom, left:right]), alpha, body, ground))
    return tuple(found[:limit])


def paste_class(
    image: npt.NDArray[np.uint8], mask: Mask, paste: CopyPaste, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Mask]:
    """New image and mask with 1 to ``most`` objects pasted, or the same arrays where the draw or the ground says no."""
    if not paste.snippets or rng.random() >= paste.probability:
        return image, mask
    image, mask = image.copy(), mask.copy()
    for _ in range(int(rng.integers(1, paste.most + 1))):
        snippet = paste.snippets[int(rng.integers(len(paste.snippets)))]
        _place(image, mask, snippet, paste.class_index, rng)
    return image, mask


def _place(
    image: npt.NDArray[np.uint8], mask: Mask, snippet: Snippet, class_index: int, rng: np.random.Generator
) -> None:
    """Paste in place at the first drawn position whose pixels are all the snippet's home ground."""
    turns = int(rng.integers(4))
    pixels, alpha, body = (np.rot90(a, turns) for a in (snippet.image, snippet.alpha, snippet.body))
    height, width = body.shape
    if height > mask.shape[0] or width > mask.shape[1]:
        return
    for _ in range(PLACE_TRIES):
        top = int(rng.integers(mask.shape[0] - height + 1))
        left = int(rng.integers(mask.shape[1] - width + 1))
        here = (slice(top, top + height), slice(left, left + width))
        if (mask[here][alpha] == snippet.ground).all():
            image[here][alpha] = pixels[alpha]
            mask[here][body] = class_index
            return
