"""The windows of an area: those that overlap and are blended, and those with a halo that is seen and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import ParamsError

HaloWindow = tuple[slice, slice, slice, slice]  # rows and columns to read, rows and columns of them to keep


def cover_starts(length: int, size: int, overlap: float) -> list[int]:
    """Starts of windows of ``size`` px that cover ``0..length`` with at least ``overlap`` (share of size) in common.

    The starts are spread evenly, so no window hangs over the end and none repeats; a length up to ``size`` gives [0].
    """
    if size < 1 or not 0 <= overlap < 1:
        raise ParamsError(
            f"window {size} px, overlap {overlap}", expected=">= 1 px and 0 <= overlap < 1", cure="mend it"
        )
    if length <= size:
        return [0]
    stride = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [int(start) for start in np.linspace(0, length - size, count).round()]


def cover_windows(height: int, width: int, size: int, overlap: float) -> list[tuple[int, int]]:
    """(row, column) corners of square windows of ``size`` px that cover an area of ``height`` x ``width`` px."""
    return [(r, c) for r in cover_starts(height, size, overlap) for c in cover_starts(width, size, overlap)]


def blend_weights(height: int, width: int) -> npt.NDArray[np.float32]:
    """Weights (height, width) float32 in (0, 1]: a pyramid that falls linearly to the rim but never to zero.

    Where two windows overlap, their pyramids cross-fade, so no seam is left; the rim of a scene, seen by one window
    only, divides its own small weight away.
    """
    rows = 1 - np.abs(2 * np.arange(height, dtype=np.float32) + 1 - height) / (height + 1)
    columns = 1 - np.abs(2 * np.arange(width, dtype=np.float32) + 1 - width) / (width + 1)
    return np.minimum(rows[:, None], columns[None, :]).astype(np.float32)


def cut_area(height: int, width: int, side: int, halo: int) -> list[HaloWindow]:
    """Windows whose kept parts are squares of ``side`` px that cover the area once; ``halo`` px around are read too."""
    return [
        (*read, *keep)
        for read, keep in (
            ((rows, columns), (keep_rows, keep_columns))
            for rows, keep_rows in _spans(height, side, halo)
            for columns, keep_columns in _spans(width, side, halo)
        )
    ]


def _spans(length: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, length, side):
        end, first = min(start + side, length), max(start - halo, 0)
        yield slice(first, min(end + halo, length)), slice(start - first, end - first)


def paste(target: npt.NDArray[Any], window: HaloWindow, values: npt.NDArray[Any]) -> None:
    """Write the kept part of a window's values (C, h, w) into the area's (C, H, W)."""
    rows, columns, keep_rows, keep_columns = window
    top, left = rows.start + keep_rows.start, columns.start + keep_columns.start
    kept = values[:, keep_rows, keep_columns]
    target[:, top : top + kept.shape[1], left : left + kept.shape[2]] = kept
