"""Which classes may occur at each pixel: an index raster into a table of sets, alike for five classes and for hundreds.

A raster of numbers costs four bytes a pixel, however many classes there are; the table has a row per different set.
Row 0 is the empty set (no class fits: no image data, or tags that contradict each other), row 1 that of all classes (no
tag). Layer 0: no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError

NO_CLASS: Final = 0
EVERY_CLASS: Final = 1
FEW: Final = 512  # sets of a table that costs nothing to go through for every area

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]


class SetTable:
    """Sets of ``classes`` classes, numbered as they come; 0 is the empty one and 1 that of all classes."""

    def __init__(self, classes: int, sets: Iterable[Bools] = ()) -> None:
        self.classes = classes
        self._numbers: dict[bytes, int] = {}
        self._sets: list[Bools] = []
        for one in (np.zeros(classes, bool), np.ones(classes, bool), *sets):
            self.number(one)

    def number(self, one: Bools) -> int:
        """The number of a set bool (C,), a new one where it is new."""
        if one.shape != (self.classes,):
            raise DataError(f"a set {one.shape}", expected=f"({self.classes},)", cure="use the tags of this scheme")
        key = one.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append(one.copy())
        return self._numbers[key]

    def __getitem__(self, number: int) -> Bools:
        return self._sets[number]

    @property
    def sets(self) -> Bools:
        """All sets so far, bool (S, C)."""
        return np.array(self._sets, bool).reshape(-1, self.classes)


@dataclass(frozen=True)
class Allowed:
    """Which classes may occur at each pixel of an area, or of a part of it.

    Attributes:
        numbers: int32 (H, W), rows of ``sets``.
        sets: bool (S, C), S >= 2, see :class:`SetTable`.
    """

    numbers: Numbers
    sets: Bools

    @classmethod
    def everywhere(cls, height: int, width: int, classes: int) -> Allowed:
        """Every class at each of height x width px."""
        return cls(np.full((height, width), EVERY_CLASS, np.int32), SetTable(classes).sets)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.numbers.shape

    @property
    def nothing(self) -> Bools:
        """Pixels that no class fits, bool (H, W)."""
        return np.asarray(self.numbers == NO_CLASS)

    @property
    def classes(self) -> npt.NDArray[np.intp]:
        """The classes that may occur somewhere, rising."""
        return np.flatnonzero(self.sets[np.unique(self.numbers)].any(0))

    def __getitem__(self, here: Any) -> Allowed:
        return Allowed(self.numbers[here], self.sets)

    def planes(self, classes: npt.NDArray[np.integer] | None = None) -> Bools:
        """bool (C, H, W), or of some classes alone, in the order given; none is set where no class fits."""
        chosen = self.sets if classes is None else self.sets[:, classes]
        return np.ascontiguousarray(np.moveaxis(chosen[self.numbers], -1, 0))

    def widened(self, possible: Bools) -> Allowed:
        """The same with some classes, bool (C,), allowed wherever any is."""
        sets = self.sets | possible
        sets[NO_CLASS] = False
        return Allowed(self.numbers, sets)

    def but_nothing(self, ignored: Bools) -> Allowed:
        """The same with no class at some pixels, bool (H, W)."""
        return Allowed(np.where(ignored, np.int32(NO_CLASS), self.numbers), self.sets)

    def without_tags(self) -> Allowed:
        """Every class wherever any may occur."""
        return Allowed(np.where(self.nothing, np.int32(NO_CLASS), np.int32(EVERY_CLASS)), self.sets)

    def compact(self) -> Allowed:
        """The same, with the sets of its own pixels alone where many areas share a large table.

        Two hundred classes and 100,000 images make nearly as many sets; whoever goes through an area's table would go
        through those of all others.
        """
        if len(self.sets) <= FEW:
            return self
        table = SetTable(self.sets.shape[1])
        return Allowed(self.numbered_in(table), table.sets)

    def numbered_in(self, table: SetTable) -> Numbers:
        """The numbers int32 (H, W) in a table that more areas share."""
        if len(self.sets) == 2:  # none and all, which have the same numbers in every table
            return self.numbers
        if len(self.sets) > self.numbers.size:  # a table of 100,000 images: only what is here may cost
            rows, places = np.unique(self.numbers, return_inverse=True)
            here = np.array([table.number(self.sets[one]) for one in rows], np.int32)
            return here[places].reshape(self.numbers.shape)
        renumber = np.zeros(len(self.sets), np.int32)
        for used in np.flatnonzero(np.bincount(self.numbers.ravel())):  # np.unique sorts, which took a third of a crop
            renumber[used] = table.number(self.sets[used])
        return renumber[self.numbers]


def intersect(one: Allowed, other: Allowed) -> Allowed:
    """What both allow, pixel by pixel."""
    if one.shape != other.shape or one.sets.shape[1] != other.sets.shape[1]:
        raise DataError(
            f"allowed classes of {one.shape} and {other.shape} px", expected="one area and scheme", cure="rerun tiles"
        )
    pairs, inverse = np.unique(one.numbers.astype(np.int64) * len(other.sets) + other.numbers, return_inverse=True)
    first, second = np.divmod(pairs, len(other.sets))
    both = one.sets[first] & other.sets[second]
    table = SetTable(one.sets.shape[1])
    renumber = np.array([table.number(each) for each in both], np.int32)
    return Allowed(renumber[inverse].reshape(one.shape), table.sets)
