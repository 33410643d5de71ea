"""What one import of box files knows, and what it has found so far; its readers share it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.box_table import Box
from weakseg.raster.header import RasterInfo

_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


@dataclass
class BoxReading:
    """The state of one import.

    Attributes:
        scheme: the classes that boxes may name.
        areas: header of every raster that boxes may lie in.
        single_objects: COCO's ``iscrowd: 1`` marks an object whose outline is run lengths, not a crowd.
        skip_classes: names in the files that are to be left out.
        left_out: how often each of them was.
        problems: a line for everything that must be mended.
        notices: a line for everything that was left out or read in one of several ways.
        placed: boxes of polygons so far; two polygons of a class may have the same.
        reaching: what reaches from the raster that an object names into others: crowd regions there.
    """

    scheme: ClassScheme
    areas: Mapping[str, RasterInfo]
    single_objects: bool = False
    skip_classes: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    placed: set[Box] = field(default_factory=set)
    reaching: list[Box] = field(default_factory=list)

    def refuse(self, found: str, *, expected: str, cure: str) -> None:
        """Add a problem."""
        self.problems.append(str(DataError(found, expected=expected, cure=cure)))

    def size(self, area: str) -> tuple[int, int]:
        """Height and width of the raster of an area, px."""
        return self.areas[area].height, self.areas[area].width

    def find_area(self, name: str) -> str | None:
        """The area of this name, however its accents are encoded."""
        return name if name in self.areas else self._composed.get(unicodedata.normalize("NFC", name))

    @cached_property
    def _composed(self) -> dict[str, str]:
        return {unicodedata.normalize("NFC", area): area for area in self.areas}


def read_flag(value: Any) -> bool | None:
    """A yes or no of a file: true, 1, "yes", ... -> True; null, 0, "false", ... -> False; anything else -> None."""
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(int(value)) if isinstance(value, int | float) and value in (0, 1) else str(value)
    return _TRUTH.get(text.strip().lower())


def shorten(items: Iterable[object], most: int = 8) -> str:
    """ "a, b, c", cut with the number of those left out."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
