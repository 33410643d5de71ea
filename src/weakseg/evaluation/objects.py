"""What a mask makes of single objects, by their size: connected regions of a class in the truth, found or lost.

IoU over pixels says little of cars beside roofs, and nothing of which stage loses them. Tables are int64 (C, B, 6): per
class and size of object the counts of :data:`COUNTS`. Like confusion matrices, those of several areas add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import ratio

SMALLEST: Final = (1, 16, 32, 64, 128, 256, 1024, 4096)  # px: the B sizes of objects, each up to the next
COUNTS: Final = ("objects", "found", "unsure", "strays", "hits", "union")
ObjectTable = npt.NDArray[np.int64]


def no_objects(classes: int) -> ObjectTable:
    """The table to which those of areas are added, int64 (C, B, 6) of zeros."""
    return np.zeros((classes, len(SMALLEST), len(COUNTS)), np.int64)


def count_objects(truth: Mask, guess: Mask, classes: int) -> ObjectTable:
    """Objects of one area by class and size.

    An object is a region of one class in the truth whose pixels touch at a side or a corner. It is found if at least
    half of its pixels have its class in ``guess``, unsure if it is not and fewer than half have a guess at all; the
    others are swallowed. A stray is such a region of ``guess``, on scored pixels, that meets no object of its class;
    it counts by its own size. ``hits`` and ``union`` are the pixels of the IoU, over pixels that have truth and guess:
    what a region of ``guess`` covers too much is laid to the object that it meets most, so that over all sizes they
    sum to the IoU of the class.

    Args:
        truth: uint8 (H, W), 0..C-1, 255 = not scored.
        guess: uint8 (H, W), 0..C-1, 255 = no guess.
        classes: C.

    Returns:
        int64 (C, B, 6), see :data:`SMALLEST` and :data:`COUNTS`.

    Raises:
        DataError: the masks differ in shape.
    """
    if truth.shape != guess.shape or truth.ndim != 2:
        raise DataError(
            f"truth {truth.shape} and mask {guess.shape}",
            expected="two masks (H, W) of one area",
            cure="compare the mask with the truth of its own area",
        )
    inside = (truth != IGNORE) & (guess != IGNORE)
    return np.stack([_count_class(truth == c, (guess == c) & inside, inside) for c in range(classes)])


def _count_class(
    truth: npt.NDArray[np.bool_], guess: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]
) -> ObjectTable:
    """(B, 6) of one class; ``guess`` lies within ``inside``. Number 0 of objects and regions is what is neither."""
    objects, areas = _regions(truth)
    regions, sides = _regions(guess)
    both = guess & truth
    keys, shared = np.unique(objects[both].astype(np.int64) * len(sides) + regions[both], return_counts=True)
    pairs = np.stack(np.divmod(keys, len(sides)))
    hits, met, host = np.zeros(len(areas), np.int64), np.zeros(len(sides), np.int64), np.zeros(len(sides), np.int64)
    np.add.at(hits, pairs[0], shared)
    np.add.at(met, pairs[1], shared)
    rising = np.argsort(shared, kind="stable")
    host[pairs[1, rising]] = pairs[0, rising]  # the last that is written stays: the object that shares most
    extra = sides - met
    covered = np.bincount(objects[inside], minlength=len(areas)).astype(np.int64)
    union = covered.copy()
    np.add.at(union, host, extra)  # those without a host go to number 0
    sizes, strays = _size_of(areas[1:]), host[1:] == 0
    own = _size_of(sides[1:][strays])
    table: ObjectTable = no_objects(1)[0]
    found = 2 * hits[1:] >= areas[1:]
    unsure = ~found & (2 * covered[1:] < areas[1:])
    for name, values in (
        ("objects", 1),
        ("found", found),
        ("unsure", unsure),
        ("hits", hits[1:]),
        ("union", union[1:]),
    ):
        np.add.at(table[:, COUNTS.index(name)], sizes, values)
    for name, values in (("strays", 1), ("union", extra[1:][strays])):
        np.add.at(table[:, COUNTS.index(name)], own, values)
    return table


def _regions(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(number of the region at each pixel, 0 outside; px of each region, 0 for number 0)."""
    _, numbers, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    pixels = facts[:, cv2.CC_STAT_AREA].astype(np.int64)
    pixels[0] = 0
    return np.asarray(numbers), pixels


def _size_of(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Place in :data:`SMALLEST` of each number of px, 1 or more."""
    return np.asarray(np.searchsorted(SMALLEST, pixels, side="right") - 1)


def object_scores(table: ObjectTable, names: Sequence[str]) -> dict[str, list[dict[str, int | float | None]]]:
    """Rows by class name, smallest objects first, for the sizes that truth or mask holds at all.

    A row has ``smallest`` and ``largest`` (px, None: no limit), ``objects``, ``found``, ``unsure``, ``strays``,
    ``recall`` (found of objects) and ``iou``, both in [0, 1] or NaN where there is nothing to divide by.
    """
    largest = [*(size - 1 for size in SMALLEST[1:]), None]
    rows: dict[str, list[dict[str, int | float | None]]] = {}
    for name, sizes in zip(names, table, strict=True):
        rows[name] = []
        for low, high, counts in zip(SMALLEST, largest, sizes, strict=True):
            row = dict(zip(COUNTS, map(int, counts), strict=True))
            recall, iou = ratio(row["found"], row["objects"]), ratio(row.pop("hits"), row.pop("union"))
            if row["objects"] or row["strays"]:
                rows[name].append({"smallest": low, "largest": high, **row, "recall": float(recall), "iou": float(iou)})
    return rows
