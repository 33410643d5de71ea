"""Windows of an area: how they are cut, and how their kept parts are put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.floating]
Window = tuple[slice, slice, slice, slice]  # rows and columns to read, rows and columns of them to keep


def cut_area(height: int, width: int, side: int, halo: int) -> list[Window]:
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


def paste(target: Scores, window: Window, values: Scores) -> None:
    """Write the kept part of a window's values (C, h, w) into the area's (C, H, W)."""
    rows, columns, keep_rows, keep_columns = window
    top, left = rows.start + keep_rows.start, columns.start + keep_columns.start
    kept = values[:, keep_rows, keep_columns]
    target[:, top : top + kept.shape[1], left : left + kept.shape[2]] = kept
