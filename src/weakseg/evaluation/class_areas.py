"""Class areas of a map, corrected for its errors: what lies on the ground, not what was counted.

Olofsson et al., Good practices for estimating area and assessing accuracy of land change (Remote Sensing of Environment
148, 2014), equations 9 to 11. With W_i the share of the map that is class i, and n_ij of n_i. reference units mapped as
i that are j in truth, the share of class j is p_j = sum over i of W_i n_ij / n_i., whatever the map says it is.

Their standard error is for units that were drawn one by one at random. Pixels of a few validation areas were not:
those of one area are right or wrong together. For them areas are the units (a ratio estimator over clusters,
linearised; Cochran, Sampling Techniques, 1977, chapters 6 and 9), and the interval is of Student's t with one degree of
freedom less than there are areas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import Confusion, check_confusion

Floats = npt.NDArray[np.float64]
LEVEL: Final = 0.95


@dataclass(frozen=True)
class AdjustedAreas:
    """Error-adjusted areas of the classes, in the unit of the mapped ones; NaN where they cannot be told.

    Attributes:
        areas, errors: float64 (C,), estimates and standard errors.  low, high: 95 % intervals, cut off at 0 and at the
            whole area.
        unseen: classes on the map that no reference unit was mapped as: then nothing is known, and all is NaN.
    """

    areas: Floats
    errors: Floats
    low: Floats
    high: Floats
    unseen: tuple[int, ...] = ()


def adjust_for_sample(mapped: Floats, confusion: Confusion) -> AdjustedAreas:
    """With reference units drawn at random, stratified by the map or not, as Olofsson et al. have it.

    Args:
        mapped: float64 (C,), area of each class on the map.
        confusion: int64 (C, C), rows truth and columns map, counts of units.

    Raises:
        DataError: shapes that do not fit, negative areas or none at all.
    """
    weights, counts, unseen = _strata(mapped, [confusion])
    if unseen:
        return _nothing(mapped, unseen)
    shares = _shares(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = shares * (1 - shares) / (counts.sum(1, keepdims=True) - 1)
    spread = np.where(weights[:, None] > 0, spread, 0)  # of a single unit it is unknown
    errors = np.sqrt((weights[:, None] ** 2 * spread).sum(0))
    return _around(mapped, weights @ shares, errors, 1.959964)


def adjust_for_areas(mapped: Floats, confusions: Sequence[Confusion]) -> AdjustedAreas:
    """With all pixels of some validation areas as reference; intervals are NaN for a single area.

    Args:
        mapped: float64 (C,), area of each class on the map.
        confusions: int64 (C, C) of each validation area, rows truth and columns map, pixels.

    Raises:
        DataError: shapes that do not fit, negative areas or none at all.
    """
    weights, counts, unseen = _strata(mapped, confusions)
    if unseen:
        return _nothing(mapped, unseen)
    shares, number = _shares(counts), len(confusions)
    found = weights @ shares
    if number < 2:
        return _around(mapped, found, np.full(len(mapped), math.nan), math.nan)
    from scipy.stats import t

    units = np.stack([matrix.T for matrix in confusions]).astype(np.float64)  # (areas, map, truth)
    scaled = np.divide(weights, counts.sum(1), out=np.zeros_like(weights), where=weights > 0)
    residuals = np.einsum("i,aij->aj", scaled, units - shares * units.sum(2, keepdims=True))
    errors = np.sqrt(number / (number - 1) * (residuals**2).sum(0))
    return _around(mapped, found, errors, float(t.ppf(0.5 + LEVEL / 2, number - 1)))


def _strata(mapped: Floats, confusions: Sequence[Confusion]) -> tuple[Floats, Floats, tuple[int, ...]]:
    """(share of each class on the map, pooled counts with rows map and columns truth, mapped classes without any)."""
    if not confusions or (mapped < 0).any() or not mapped.sum() > 0:
        raise DataError(
            f"{len(confusions)} confusion matrices for {mapped.sum():g} of mapped area",
            expected="at least one, and a map with data",
            cure="check the map and the report",
        )
    for confusion in confusions:
        check_confusion(confusion, len(mapped))
    counts = np.sum(confusions, axis=0).T.astype(np.float64)
    weights = mapped / mapped.sum()
    return weights, counts, tuple(int(i) for i in np.flatnonzero((weights > 0) & (counts.sum(1) == 0)))


def _shares(counts: Floats) -> Floats:
    """Each row over its sum; 0 where there is nothing."""
    whole = counts.sum(1, keepdims=True)
    return np.asarray(np.divide(counts, whole, out=np.zeros_like(counts), where=whole > 0))


def _around(mapped: Floats, shares: Floats, errors: Floats, quantile: float) -> AdjustedAreas:
    total = float(mapped.sum())
    areas, errors = shares * total, errors * total
    low, high = (np.clip(areas + side * quantile * errors, 0, total) for side in (-1, 1))
    return AdjustedAreas(areas, errors, low, high)


def _nothing(mapped: Floats, unseen: tuple[int, ...]) -> AdjustedAreas:
    empty = np.full(len(mapped), math.nan)
    return AdjustedAreas(empty, empty, empty, empty, unseen)
