"""Tags of overlapping windows that contradict each other: found, and said in one sentence.

The pixels count nowhere (:func:`weakseg.labels.tags.allowed_raster`), so that a wrong row costs its surroundings only;
nobody should find that out by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import ClassScheme
from weakseg.labels.tags import Bools, TagWindow, Window, allowed_raster, tag_arrays

_NAMED = 3


def find_contradictions(
    windows: Sequence[Window], present: Bools, allowed: Allowed
) -> tuple[npt.NDArray[np.bool_], list[tuple[int, int]]]:
    """Where the tags of an area contradict each other.

    Args:
        windows: N rectangles inside the area. present: bool (N, C).
        allowed: what :func:`~weakseg.labels.tags.allowed_raster` gave for them.

    Returns:
        bool (H, W), pixels that no class fits; and (window, class) of every class that is present in a window and that
        other windows allow at none of its pixels.
    """
    lost = []
    for number, (row, column, tall, wide) in enumerate(windows):
        some = allowed[row : row + tall, column : column + wide].classes
        lost += [(number, int(index)) for index in np.setdiff1d(np.flatnonzero(present[number]), some)]
    return allowed.nothing, lost


def describe_contradictions(
    rows: Sequence[TagWindow], sizes: Mapping[str, tuple[int, int]], classes: ClassScheme
) -> str:
    """One sentence on the contradictions among tag windows, "" where there are none.

    Args:
        rows: of any areas. sizes: height and width of each, px.
    """
    ordered = sorted(rows, key=lambda row: row.area)
    areas = [list(group) for _, group in groupby(ordered, key=lambda row: row.area)]
    found = [text for mine in areas if (text := _of_area(mine, sizes[mine[0].area], classes))]
    if not found:
        return ""
    more = f"; and {len(found) - _NAMED} more areas" if len(found) > _NAMED else ""
    return f"{'; '.join(found[:_NAMED])}{more}: these pixels count nowhere, mend the rows if they should"


def _of_area(rows: Sequence[TagWindow], size: tuple[int, int], classes: ClassScheme) -> str:
    windows = [row.window for row in rows]
    present, known = tag_arrays(rows, classes)
    empty, lost = find_contradictions(windows, present, allowed_raster(*size, windows, present, known))
    texts = []
    if empty.any():
        row, column = np.argwhere(empty)[0]
        texts.append(f"no class fits {int(empty.sum())} px of overlapping tags, first row {row}, column {column}")
    if lost:
        number, index = lost[0]
        name = classes.names[index]
        texts.append(f"{len(lost)} tag(s) that other windows rule out, first {name} in window {windows[number]}")
    return f"area {rows[0].area}: {', and '.join(texts)}" if texts else ""
