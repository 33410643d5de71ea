"""Classes that no crop of a part of the split shows: what then learns, chooses and says nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import ClassScheme
from weakseg.data.manifest import TagCrops

_NAMED: Final = 3
WITHOUT: Final = {
    "pixel": "no tag crop of N1 outside its hold-out: trainings on pixels cannot learn it",
    "holdout": "no tag crop of N1's hold-out: thresholds and weights are chosen without it, and hold-out scores do not "
    "count it",
    "tags": "no tag of N2: nothing is learnt of it from them, and where they deny it no mask shows it",
}
"""By split of the tile table: the end of the sentence on a class that is in none of its crops."""


def describe_unseen(crops: TagCrops, scheme: ClassScheme) -> list[str]:
    """A sentence for each part of the split whose crops lack classes; a part without any crop has none.

    Args:
        crops: the tile table. scheme: its background is never tagged, so it is not looked for.
    """
    splits, named = np.array(crops.splits), crops.present & crops.known
    found = []
    for split, end in WITHOUT.items():
        mine = splits == split
        seen = named[mine].any(0)
        names = [scheme.names[index] for index in scheme.objects if not seen[index]]
        if names and mine.any():
            found.append(f"{name_few(names)}: in {end}; mend tiles.areas (`weakseg data split`) if it should")
    return found


def describe_unmasked(crops: TagCrops, scheme: ClassScheme, pixels: npt.NDArray[np.int64]) -> str:
    """A sentence on the classes that tags of N2 name and no mask of it shows, "" where there are none.

    Args:
        pixels: of the masks of all N2 areas by class, (C,) or longer.
    """
    weak = np.array(crops.splits) == "tags"
    named = (crops.present & crops.known)[weak].any(0)
    names = [scheme.names[index] for index in scheme.objects if named[index] and not pixels[index]]
    if not names:
        return ""
    return f"{name_few(names)}: in tags of N2 and in no mask of it; a network trained on them learns it from N1 alone"


def name_few(names: Sequence[str], kind: str = "classes") -> str:
    """The first names, and how many more of their ``kind``."""
    more = f" and {len(names) - _NAMED} more {kind}" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
