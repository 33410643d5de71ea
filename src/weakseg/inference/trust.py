"""What a model file says of its own trustworthiness: temperatures, and what it was trained on as prototypes.

Both are measured on the areas of ``out/tiles`` alone: the hold-out blocks of N1, and the images of N1 and N2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.data.crops.augment import normalise
from weakseg.data.store import list_areas, open_array
from weakseg.data.windows import cover_windows
from weakseg.evaluation.applicability import PLACES, fit_applicability
from weakseg.evaluation.calibration import fit_temperatures
from weakseg.evaluation.holdout import held_blocks, held_parts
from weakseg.networks.applicability import Applicability, pool_features, scale_weights
from weakseg.networks.build import Segmenter
from weakseg.training.machine import Machine

WINDOW: Final = 512  # px, as predict cuts by default
_PIXELS: Final = 1 << 20  # of the hold-out blocks that temperatures are fitted on, at most

Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""An image uint8 (H, W, 3) -> probabilities (C, H, W)."""


def measure_temperatures(tiles: Path, predict: Predict) -> list[float] | None:
    """Temperatures per class, fitted on the hold-out blocks of N1; None without blocks.

    Args:
        tiles: output of the tiles stage.
        predict: of a network that was not trained on the blocks.
    """
    blocks = held_blocks(tiles)
    if not blocks:
        return None
    total = sum(int(np.count_nonzero(truth != IGNORE)) for truth in blocks.values())
    drawn = np.random.default_rng(0).choice(total, _PIXELS, replace=False) if total > _PIXELS else np.arange(total)
    rising = np.sort(drawn)  # the px of hundreds of images and classes at once would fill the memory
    pieces, truths, seen = [], [], 0
    for area, part, truth in held_parts(tiles):
        known = truth != IGNORE
        count = int(known.sum())
        mine = rising[np.searchsorted(rising, seen) : np.searchsorted(rising, seen + count)] - seen
        seen += count
        maps = predict(np.asarray(open_array(tiles / "images", area)[:, part]))
        pieces.append(maps[:, known][:, mine])
        truths.append(truth[known][mine])
    order = np.searchsorted(rising, drawn)
    return list(fit_temperatures(np.concatenate(pieces, 1)[:, order], np.concatenate(truths)[order]))


def measure_applicability(model: Segmenter, tiles: Path, machine: Machine) -> Applicability | None:
    """The area of applicability from the images of N1 and N2; None where they are too small to fill two places.

    Every area is held out in turn; a single one is cut into quarters from left to right.
    """
    names = list_areas(tiles, "pixel", "tags")
    model = model.eval().to(machine.torch_device())
    features, folds = [], []
    weights = None
    for fold, name in enumerate(names):
        found, columns, weights = _features_of(model, np.asarray(open_array(tiles / "images", name)), machine)
        share = -(-PLACES // len(names))
        drawn = torch.randperm(len(found), generator=torch.Generator().manual_seed(fold))[:share]
        features.append(found[drawn])
        folds.append(torch.full((len(drawn),), fold) if len(names) > 1 else (4 * columns[drawn]).long())
    if not features or len(set(torch.cat(folds).tolist())) < 2:
        return None
    return fit_applicability(torch.cat(features), torch.cat(folds), weights=weights).eval()


def _features_of(model: Segmenter, image: npt.NDArray[np.uint8], machine: Machine) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D) of an image uint8 (H, W, 3), how far right each lies, in [0, 1), and the weights (D,)."""
    height, width = image.shape[:2]
    found, places = [], []
    weights = torch.ones(1)
    for row, column in cover_windows(height, width, WINDOW, 0.0):
        cut = torch.from_numpy(image[row : row + WINDOW, column : column + WINDOW].copy()).permute(2, 0, 1)[None]
        with torch.inference_mode(), machine.autocast():
            encoded = model.encode(normalise(cut.to(machine.torch_device()), model.preprocessing))
            pooled, weights = pool_features(encoded), scale_weights(encoded)
        columns = torch.arange(pooled.shape[3]).expand(pooled.shape[2:]).flatten()
        found.append(pooled[0].flatten(1).T.cpu().clone())
        places.append((column + columns * (cut.shape[3] / pooled.shape[3])) / width)
    return torch.cat(found), torch.cat(places), weights.clone()


def describe_trust(model: Segmenter, tiles: Path, *, predict: Predict, machine: Machine) -> dict[str, Any]:
    """The entries ``temperatures`` and ``applicability`` of a model file, None where they cannot be measured."""
    known = measure_applicability(model, tiles, machine)
    return {"temperatures": measure_temperatures(tiles, predict), "applicability": known and known.content()}
