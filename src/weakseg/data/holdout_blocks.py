"""Which part of N1 is held out, to choose on: the right-most columns of tag crops, or whole images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakseg.core.classes import IGNORE, Mask


class HoldoutBlocks:
    """Where the hold-out block of each N1 area begins: asked once per area, in their order.

    Args:
        share: of the tag crops that is held out.
    """

    def __init__(self, share: float) -> None:
        self._share, self._single = share, 0

    def first(self, windows: Sequence[tuple[int, int, int, int]], width: int) -> int:
        """First column of the block: the right-most columns of tag crops, so that no crop straddles its edge.

        An area with one column of crops, such as an image that is one crop, is held out whole or not at all: of a
        hundred of them so many as the share says, spread over their order.
        """
        starts = sorted({column for _, column, _, _ in windows})
        if self._share <= 0 or not starts:
            return width
        if len(starts) == 1:
            self._single += 1
            held = int(self._single * self._share) > int((self._single - 1) * self._share)
            return 0 if held else width
        count = max(1, round(len(starts) * self._share))
        return starts[len(starts) - count]


def labelled_holdout_column(windows: Sequence[tuple[int, int, int, int]], mask: Mask, share: float) -> int:
    """The same of a mask of part of an area: the block comes nearest to a share of the labelled px.

    There are labels on both sides of it; where no column of tag crops has some, the area has no block.
    """
    width = int(mask.shape[1])
    if share <= 0:
        return width
    labelled = np.cumsum((mask != IGNORE).sum(0))
    starts = sorted({column for _, column, _, _ in windows} - {0})
    held = {start: 1 - float(labelled[start - 1]) / max(1, int(labelled[-1])) for start in starts}
    inside = [start for start in held if 0 < held[start] < 1]
    return min(inside, key=lambda start: abs(held[start] - share), default=width)
