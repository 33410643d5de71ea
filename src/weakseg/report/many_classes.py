"""What is said of hundreds of classes, where a column, a chart and a row of a matrix for each cannot be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

MANY: Final = 24  # classes, above which each has no column of its own
TOLD: Final = 12  # classes with a chart
CONFUSED: Final = 20  # pairs of classes


class Confused(NamedTuple):
    """Pixels of one class taken for another: their number, and their share of the class."""

    truth: str
    taken_for: str
    pixels: int
    share: float


def are_many(names: Sequence[str]) -> bool:
    """Whether there are too many classes for a column each."""
    return len(names) > MANY


def telling_classes(
    first: Mapping[str, float | None], second: Mapping[str, float | None], names: Sequence[str]
) -> list[str]:
    """The :data:`TOLD` classes whose IoU differs most between two rows, by the difference, largest gain first."""
    gains = {name: _known(second.get(name)) - _known(first.get(name)) for name in names}
    known = [name for name in names if not math.isnan(gains[name])]
    chosen = sorted(known, key=lambda name: -abs(gains[name]))[:TOLD]
    return sorted(chosen, key=lambda name: -gains[name])


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def worst_confusions(confusion: npt.NDArray[np.integer], names: Sequence[str]) -> list[Confused]:
    """The :data:`CONFUSED` pairs of different classes with most pixels, from a matrix (C, C), rows truth."""
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    totals = confusion.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        Confused(names[row], names[column], int(wrong[row, column]), float(wrong[row, column] / totals[row]))
        for row, column in pairs
        if wrong[row, column]
    ]
