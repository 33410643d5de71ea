"""Where the area of applicability ends: prototypes of training places, and the limit from areas held out in turn."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from weakseg.core.errors import DataError
from weakseg.networks.applicability import Applicability, distances

PROTOTYPES: Final = 500
QUANTILE: Final = 0.995  # of the distances between areas that count as seen
PLACES: Final = 6000  # of training, that all are drawn from
_LEAST: Final = 1e-6  # a feature that never changes says nothing, unless it does


def fit_applicability(
    features: Tensor, folds: Tensor, *, weights: Tensor | None = None, seed: int = 0
) -> Applicability:
    """Draw prototypes, and set the limit at what places of one fold are apart from those of all others.

    Folds are areas: places of one area share its light and its season, so distances within it would promise too much.

    Args:
        features: float (N, D) of training places.
        folds: int (N,), which area each lies in; at least two.
        weights: (D,) of the standardised features; 1 without them.
        seed: of the draw.

    Raises:
        DataError: fewer than two folds.
    """
    areas = len(set(folds.tolist()))
    if len(features) != len(folds) or areas < 2:
        raise DataError(f"{len(features)} places in {areas} areas", expected="two areas", cure="split the area in two")
    mean, std = features.mean(0), features.std(0).clamp(min=_LEAST)
    std = std if weights is None else std / weights
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    kept = order[:PROTOTYPES]
    places = (features - mean) / std
    prototypes = places[kept].half().float()
    apart = distances(places, prototypes)
    typical = float(apart[kept].sum() / (len(kept) * (len(kept) - 1)))
    apart[folds[:, None] == folds[kept][None]] = torch.inf
    nearest = apart.amin(1)
    limit = float(nearest[nearest.isfinite()].double().quantile(QUANTILE)) / typical
    return Applicability(mean, std, prototypes, typical, limit)
