"""Whether a model is of this workspace's data, so that its hold-out here says something of it.

A model of other data is bad in every precision and loses nothing more by one; and int8 takes its ranges from N1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from weakseg.core.bands import load_bands
from weakseg.core.classes import load_classes
from weakseg.core.errors import DataError
from weakseg.evaluation.holdout import N1, digest_of_n1
from weakseg.raster.gsd import GSD_TOLERANCE, load_gsd
from weakseg.training.checkpoints import load_checkpoint
from weakseg.training.segmenter import load_segmenter

_SAME: Final = 1 + GSD_TOLERANCE  # of ground sampling distances
_CURE: Final = "measure it in the workspace that trained it (--root)"


def check_own(model_file: Path, tiles: Path) -> None:
    """Refuse a model that was not trained on the N1 areas of ``tiles``.

    Files of before 2026-11-29 do not say what they were trained on: they count as own where they lie among the
    checkpoints of the workspace.

    Raises:
        WeightsError: another scheme, or other bands.
        DataError: another ground sampling distance, other N1 areas or another hold-out of them, or not known.
    """
    load_segmenter(model_file, classes=load_classes(tiles / "classes.yaml"), tiles=load_bands(tiles))
    content = load_checkpoint(model_file)
    its, ours = content.get("gsd"), load_gsd(tiles)
    if (its is None) != (ours is None) or (its and ours and not 1 / _SAME < its / ours < _SAME):
        its_said, ours_said = (f"{gsd:.3g} m per px" if gsd else "px of no known size" for gsd in (its, ours))
        raise DataError(
            f"{model_file} was trained on {its_said}, the hold-out here has {ours_said}",
            expected="a model of this workspace",
            cure=_CURE,
        )
    if N1 not in content:
        if model_file.resolve().is_relative_to((tiles.parent / "checkpoints").resolve()):
            return
        raise DataError(
            f"{model_file} does not say what it was trained on, as models of before 2026-11-29 do not",
            expected=f"a model of this workspace, {tiles.parent / 'checkpoints'}",
            cure=f"name the checkpoint, or train it again and {_CURE}",
        )
    if content[N1] != digest_of_n1(tiles):
        raise DataError(
            f"{model_file} was trained on other images or another hold-out than {tiles} has",
            expected="a model of this workspace",
            cure=_CURE,
        )
