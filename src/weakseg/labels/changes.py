"""What changed between two versions of labels: crops, boxes, pixels, and the work that somebody put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.labels.answers import Crop, TagAnswer
from weakseg.labels.box_table import Box, BoxTable
from weakseg.labels.opinions import Opinion, known_states
from weakseg.labels.tags import TagWindow


@dataclass(frozen=True)
class CropChange:
    """A crop of the tag table.

    Attributes:
        what: "added", "removed" or "changed".
        before, after: what was and is known, by class.
    """

    crop: Crop
    what: str
    before: Opinion
    after: Opinion

    @property
    def classes(self) -> dict[str, str]:
        """ "absent to present" and the like, of every class whose state differs."""
        names = dict.fromkeys((*self.before, *self.after))
        states = {name: (_word(self.before.get(name)), _word(self.after.get(name))) for name in names}
        return {name: f"{old} to {new}" for name, (old, new) in states.items() if old != new}


def _word(state: bool | None) -> str:
    return {True: "present", False: "absent", None: "unknown"}[state]


@dataclass(frozen=True)
class PixelChange:
    """The pixel labels of an area.

    Attributes:
        what: "added", "removed" or "changed".
        labelled: pixels with a class before and after.
        changed: pixels whose label is another one, ignored ones among them.
    """

    area: str
    what: str
    labelled: tuple[int, int]
    changed: int


@dataclass(frozen=True)
class Work:
    """What one annotator did between the versions: new answers, of how many crops, and their seconds."""

    annotator: str
    answers: int
    crops: int
    seconds: float


def crop_changes(
    before: Sequence[TagWindow], after: Sequence[TagWindow], classes: tuple[ClassScheme, ClassScheme]
) -> list[CropChange]:
    """Crops that are new, gone, or of which something else is known; in the order of the new table, gone ones last.

    Args:
        classes: of the two tables; classes are compared by name.
    """
    old = {(row.area, row.window): known_states(row, classes[0]) for row in before}
    new = {(row.area, row.window): known_states(row, classes[1]) for row in after}
    found = []
    for crop in {**new, **old}:
        was, now = old.get(crop, {}), new.get(crop, {})
        what = "added" if crop not in old else "removed" if crop not in new else "changed"
        if was != now or what != "changed":
            found.append(CropChange(crop, what, was, now))
    return found


def box_changes(before: BoxTable, after: BoxTable) -> tuple[list[Box], list[Box]]:
    """(boxes that are new, boxes that are gone); one that was moved is both."""
    old, new = set(before.boxes), set(after.boxes)
    return [box for box in after.boxes if box not in old], [box for box in before.boxes if box not in new]


def pixel_change(
    area: str, before: Mask | None, after: Mask | None, classes: tuple[ClassScheme, ClassScheme]
) -> PixelChange | None:
    """What changed of the mask of an area, None for nothing; masks are uint8 (H, W), None where there is none.

    Labels are compared by name. Of a mask of another size every pixel counts as changed.
    """
    if before is None and after is None:
        return None
    labelled = tuple(0 if mask is None else int((mask != IGNORE).sum()) for mask in (before, after))
    if before is None or after is None:
        one = after if before is None else before
        changed = 0 if one is None else int((one != IGNORE).sum())
        return PixelChange(area, "added" if before is None else "removed", (labelled[0], labelled[1]), changed)
    changed = max(before.size, after.size)
    if before.shape == after.shape:
        changed = int((_renumbered(before, classes[0], classes[1]) != after).sum())
    return PixelChange(area, "changed", (labelled[0], labelled[1]), changed) if changed else None


def _renumbered(mask: Mask, old: ClassScheme, new: ClassScheme) -> np.ndarray:
    """A mask under the numbers of another scheme, int16; what that one lacks gets numbers that nothing has."""
    table = np.full(256, IGNORE, np.int16)
    for index, name in enumerate(old.names):
        table[index] = new.names.index(name) if name in new.names else 1000 + index
    return np.asarray(table[mask])


def work_between(before: Sequence[TagAnswer], after: Sequence[TagAnswer]) -> list[Work]:
    """By annotator, the answers that only the later version has, the busiest first; what was taken back counts not."""
    known = {answer.id for answer in before}
    fresh: dict[str, list[TagAnswer]] = {}
    for answer in after:
        if answer.id not in known:
            fresh.setdefault(answer.annotator, []).append(answer)
    found = [
        Work(who, len(mine), len({one.crop for one in mine}), sum(one.seconds for one in mine))
        for who, mine in fresh.items()
    ]
    return sorted(found, key=lambda work: -work.seconds)


def unanswered(changes: Sequence[CropChange], before: Sequence[TagAnswer], after: Sequence[TagAnswer]) -> int:
    """How many of the changed crops nobody has answered in between: they came by import, or by hand in the table."""
    known = {answer.id for answer in before}
    answered = {answer.crop for answer in after if answer.id not in known}
    return sum(change.crop not in answered for change in changes)


def count_states(changes: Sequence[CropChange]) -> Mapping[str, Mapping[str, int]]:
    """Per class, how often each change of its state occurs: {"car": {"absent to present": 3}}."""
    counts: dict[str, dict[str, int]] = {}
    for change in changes:
        for name, how in change.classes.items():
            mine = counts.setdefault(name, {})
            mine[how] = mine.get(how, 0) + 1
    return counts
