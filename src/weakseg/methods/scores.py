"""ScoreMaps: what every weak-label method produces, and the only currency between them.

One artefact per area: scores of all classes at full resolution, plus which classes the area is known to hold.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path


@dataclass(frozen=True)
class ScoreMaps:
    """Class scores of one area.

    Attributes:
        scores: float32 or float16 (C, H, W) in [0, 1]; larger means more certain; rows need not sum to one.
        present: bool (C,), True where the area may hold the class; absent classes have all-zero scores.
    """

    scores: npt.NDArray[np.floating]
    present: npt.NDArray[np.bool_]


def check_scores(maps: ScoreMaps, name: str) -> ScoreMaps:
    """Return ``maps`` if they are well formed, else raise DataError naming ``name`` and the fault."""
    scores, present = maps.scores, maps.present
    if scores.ndim != 3 or present.shape != scores.shape[:1]:
        raise DataError(
            f"{name}: scores {scores.shape}, present {present.shape}", expected="(C, H, W) and (C,)", cure="rerun it"
        )
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=0.0))
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1.0 + 1e-3:
        raise DataError(
            f"{name}: scores from {low} to {high}",
            expected="finite values in [0, 1]",
            cure="look for NaN weights in the checkpoint that made them",
        )
    stray = [int(index) for index in np.flatnonzero(~present) if scores[index].any()]
    if stray:
        raise DataError(
            f"{name}: absent classes {stray} have scores", expected="zeros there", cure="mask the scores by the tags"
        )
    return maps


def save_scores(path: Path, maps: ScoreMaps) -> None:
    """Check, then write ``path`` (.npz, float16, no pickle) in one move: never half a file."""
    check_scores(maps, path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, scores=maps.scores.astype(np.float16), present=maps.present)


def load_scores(path: Path) -> ScoreMaps:
    """Read and check what :func:`save_scores` wrote; scores come back as float32."""
    if not path.is_file():
        raise DataError(f"no scores at {path}", expected="an .npz of ScoreMaps", cure="run the stage that writes it")
    try:
        with np.load(path, allow_pickle=False) as stored:
            maps = ScoreMaps(stored["scores"].astype(np.float32), stored["present"].astype(bool))
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is unreadable ({error})", expected="an .npz of ScoreMaps", cure="rerun its stage"
        ) from error
    return check_scores(maps, str(path))
