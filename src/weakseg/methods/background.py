"""The class that no object claims: how its scores follow from those of the objects, and which rule serves best.

Classifiers and boundaries know nothing of a background: nobody tags it. Its score is ``(1 - s) ** power``, s being the
largest score of an object, as in PSA and its successors (Ahn and Kwak, CVPR 2018). The published constants (IRNet: the
background wins where no object reaches 0.25) are the same rule: a power decides like one constant, see
:func:`power_of`. Which power is in force is chosen on the hold-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.evaluation.metrics import Confusion, confusion_matrix, mean_iou
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import ScoreMaps

if TYPE_CHECKING:  # thresholds and audits start without torch
    from torch import Tensor

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

POWERS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # candidates: constants of .62, .5, .38, .28, .19, .13 and .08
Part = tuple[ScoreMaps, Allowed, Mask]
"""Scores, where each class may be, and truth (H, W) of a piece of an area."""


def power_of(constant: float) -> float:
    """The power under which the background wins where no object's score is above ``constant``, in (0, 1)."""
    return math.log(constant) / math.log(1 - constant)


def background_score(objects: Floats, power: float) -> npt.NDArray[np.float32]:
    """``(1 - largest object score) ** power``: scores of the objects (P, H, W) in [0, 1] -> float32 (H, W)."""
    return np.asarray((1 - np.clip(objects.max(0, initial=0), 0, 1)) ** power, np.float32)


def draw_background(maps: ScoreMaps, background: int | None, power: float, here: Bools | None = None) -> ScoreMaps:
    """The maps with the background drawn from what no object claims; without a background the maps themselves.

    Args:
        maps: scores of the objects; what they say of the background does not count.
        background: its index, or None.
        here: bool (H, W), where something is known: elsewhere the background gets no score. None: everywhere.
    """
    if background is None:
        return maps
    objects = without_background(maps, background)
    drawn = background_score(objects.scores, power)
    drawn = drawn if here is None else np.where(here, drawn, np.float32(0))
    if not drawn.any():
        return objects
    present = objects.present.copy()
    present[background] = True
    place = int(objects.present[:background].sum())
    return ScoreMaps(np.insert(objects.scores.astype(np.float32), place, drawn, axis=0), present)


def without_background(maps: ScoreMaps, background: int | None) -> ScoreMaps:
    """The maps of the objects alone."""
    if background is None or not maps.present[background]:
        return maps
    present = maps.present.copy()
    present[background] = False
    return ScoreMaps(maps.scores[maps.classes != background], present)


def try_powers(parts: Iterable[Part], background: int, powers: Sequence[float] = POWERS) -> dict[float, Confusion]:
    """Confusion (C, C) of the winners under each power, over pieces of areas with truth."""
    table: dict[float, Confusion] = {}
    for maps, allowed, truth in parts:
        objects = without_background(maps, background)
        for power in powers:
            mask = pseudo_mask(draw_background(objects, background, power), allowed, min_score=0, min_margin=0)
            counts = confusion_matrix(truth, np.where(mask == IGNORE, background, mask), len(maps.present))
            table[power] = table.get(power, np.zeros_like(counts)) + counts
    return table


def best_power(table: Mapping[float, Confusion]) -> tuple[float, float]:
    """The power of the largest mIoU, of equals the first, and that mIoU; from the table of :func:`try_powers`."""
    values = {power: float(mean_iou(counts)) for power, counts in table.items()}
    best = max(values, key=lambda power: -1.0 if math.isnan(values[power]) else values[power])
    return best, values[best]


def confident_labels(high: Mask, low: Mask, background: int) -> Mask:
    """Training labels of a boundary network from masks at a high and a low background (Ahn et al., CVPR 2019).

    An object where it stands against the high one, the background where it wins against none but it, else 255.

    Args:
        high, low: uint8 (H, W): winners where the background has a constant score, a high and a low one.
    """
    unsure = np.where(low == background, np.uint8(background), np.uint8(IGNORE))
    return np.asarray(np.where(high == background, unsure, high), np.uint8)


def background_first(labels: Tensor, background: int | None) -> Tensor:
    """Labels (integer, 255 = ignore) with the background as class 0 and the objects behind it, in their order."""
    if background in (None, 0):
        return labels
    import torch

    moved = torch.where((labels < background) & (labels != IGNORE), labels + 1, labels)
    return torch.where(labels == background, 0, moved)


def to_scheme_order(shares: Floats, scheme: ClassScheme) -> Floats:
    """Channels (background first, then the objects) in the order of the scheme."""
    index = scheme.background_index
    if index is None:
        return shares
    order = np.zeros(len(scheme), np.intp)
    order[scheme.objects] = np.arange(1, len(scheme))
    return shares[order]
