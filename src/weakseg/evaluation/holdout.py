"""The truth of N1 on which everything is chosen: the hold-out blocks, or all of it, and one score over the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import StageError
from weakseg.core.methods import EXPERTS
from weakseg.data.store import fingerprint, list_areas, open_array
from weakseg.evaluation.metrics import Scores, confusion_matrix, scores_of

MARGIN: Final = 32  # px of context to the left of a hold-out block that a network sees
BLOCKS: Final = 4  # that an N1 area is cut into where all of it is truth to choose on, to tell gains from noise


def held_blocks(tiles: Path) -> dict[str, Mask]:
    """Truth uint8 (H, W) of the N1 areas that have a hold-out block, 255 outside it; {} where none has one.

    Args:
        tiles: output of the tiles stage.
    """
    truths = {area: np.asarray(open_array(tiles / "holdout", area)) for area in list_areas(tiles, "pixel")}
    return {area: truth for area, truth in truths.items() if (truth != IGNORE).any()}


N1: Final = "n1"  # entry of a model file: :func:`digest_of_n1` of the tiles it was trained on


def digest_of_n1(tiles: Path) -> str:
    """Hex digest of the N1 areas that a network is trained and measured on: their names, images and hold-out blocks."""
    files = [tiles / folder / f"{area}.npy" for area in list_areas(tiles, "pixel") for folder in ("images", "holdout")]
    return fingerprint(*files)


def require_blocks(tiles: Path) -> dict[str, Mask]:
    """The same, or StageError where no area has a block."""
    blocks = held_blocks(tiles)
    if not blocks:
        raise StageError(
            "no hold-out in N1",
            expected="tiles.holdout above 0, and an area with labels in two columns of tag crops, or several areas",
            cure="raise tiles.holdout, label more of an area or more areas, or lower tiles.tag_size; then rerun tiles",
        )
    return blocks


def whole_truth(tiles: Path) -> dict[str, Mask]:
    """Truth uint8 (H, W) of all N1 areas, training part and hold-out block together, 255 where there is none."""
    truths = {}
    for area in list_areas(tiles, "pixel"):
        trained, held = (np.asarray(open_array(tiles / folder, area)) for folder in ("labels", "holdout"))
        truths[area] = np.where(trained != IGNORE, trained, held)
    return truths


def truth_for(tiles: Path, method: str) -> dict[str, Mask]:
    """The truth on which to choose for the maps of a weak-label method, uint8 (H, W) by area.

    What learnt from tags alone (``EXPERTS``) has never seen a pixel label: all of N1 is held out for it, four or five
    times as much as the hold-out blocks, on which to choose for what learnt N1's pixels.

    Raises:
        StageError: there is no such truth.
    """
    if method not in EXPERTS:
        return require_blocks(tiles)
    truths = {area: truth for area, truth in whole_truth(tiles).items() if (truth != IGNORE).any()}
    if not truths:
        raise StageError("no pixel with a class in N1", expected="labelled masks", cure="mend data/labels, rerun tiles")
    return truths


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
