"""The hold-out blocks of N1, on which everything is chosen: which areas have one, and one score over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import StageError
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import Scores, confusion_matrix, scores_of

MARGIN: Final = 32  # px of context to the left of a hold-out block that a network sees


def held_blocks(tiles: Path) -> dict[str, Mask]:
    """Truth uint8 (H, W) of the N1 areas that have a hold-out block, 255 outside it; {} where none has one.

    Args:
        tiles: output of the tiles stage.
    """
    truths = {area: np.asarray(open_array(tiles / "holdout", area)) for area in list_areas(tiles, "pixel")}
    return {area: truth for area, truth in truths.items() if (truth != IGNORE).any()}


def require_blocks(tiles: Path) -> dict[str, Mask]:
    """The same, or StageError where no area has a block."""
    blocks = held_blocks(tiles)
    if not blocks:
        raise StageError("no hold-out in N1", expected="tiles.holdout above 0", cure="raise it and rerun tiles")
    return blocks


def score_holdout(
    tiles: Path, names: Sequence[str], winners: Callable[[str, slice], npt.NDArray[np.integer]]
) -> Scores:
    """Scores pooled over the hold-out blocks of N1.

    Args:
        tiles: output of the tiles stage.
        names: of the classes.
        winners: class indices (H, W') of an area in some of its columns: the block and :data:`MARGIN` px before it.

    Raises:
        StageError: no area has a block.
    """
    confusion = np.zeros((len(names), len(names)), np.int64)
    for area, part, truth in held_parts(tiles):
        confusion += confusion_matrix(truth, winners(area, part).astype(np.uint8), len(names))
    return scores_of(confusion, names)


def held_parts(tiles: Path) -> Iterator[tuple[str, slice, Mask]]:
    """Every block: its area, the columns of it and of :data:`MARGIN` px before it, and the truth uint8 (H, W') there.

    Raises:
        StageError: no area has a block.
    """
    for area, truth in require_blocks(tiles).items():
        columns = np.flatnonzero((truth != IGNORE).any(0))
        part = slice(max(0, int(columns[0]) - MARGIN), int(columns[-1]) + 1)
        yield area, part, truth[:, part]
