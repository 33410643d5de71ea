"""What a table of tags may not have meant, though each of its rows can be read: said, not refused."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from weakseg.core.classes import ClassScheme
from weakseg.labels.tags import TagWindow

_SMALL: Final = 8  # px: nobody tags crops of that side; crops counted by number, or in metres, look so


def describe_doubts(rows: Sequence[TagWindow], areas: Sequence[str], classes: ClassScheme) -> list[str]:
    """Sentences on a table as a whole; [] where there is no doubt.

    Args:
        rows: of any areas. areas: those of N2, the only ones whose rows are learnt from.
    """
    mine = [row for row in rows if row.area in set(areas)]
    if not areas:
        return []
    if not mine:
        others = sorted({row.area for row in rows})
        found = (
            f"its {len(rows)} rows are of {', '.join(others[:3])}{', ...' * (len(others) > 3)}" if rows else "no rows"
        )
        return [
            f"{found}, none of an area of N2 ({', '.join(areas[:3])}{', ...' * (len(areas) > 3)}): no tag is learnt"
        ]
    said = []
    if silent := sum(not row.tagged for row in mine):
        meant = (
            f"name {classes.background} in tags where there is no object"
            if classes.background
            else "a crop holds some class, and under unknown stand those that nobody looked for"
        )
        said.append(f"{silent} of {len(mine)} rows of N2 name no class and count as untagged: {meant}")
    side = median(min(row.height, row.width) for row in mine)
    if side < _SMALL:
        said.append(
            f"half of the crops have sides of {side:g} px or less: row, column, height and width count px of the image"
        )
    return said
