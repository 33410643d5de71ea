"""Intervals of the reported numbers: percentile bootstrap over areas, paired where two runs are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import (
    Confusion,
    Floats,
    check_confusion,
    class_counts,
    iou_of_counts,
    mean_known,
    ratio,
)


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval.

    Attributes:
        value: observed on all areas pooled, not the mean of the draws.
        low, high: percentile interval; NaN where areas or draws are too few to say anything.
        undefined: share of the draws in which the number does not exist, e.g. a class that no drawn area holds.
    """

    value: float
    low: float
    high: float
    undefined: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """mIoU, and IoU by class name: of one set of predictions, or the difference of two of the same areas."""

    miou: Interval
    iou: dict[str, Interval]


def paired_bootstrap(
    baseline: Mapping[str, Confusion],
    candidate: Mapping[str, Confusion],
    names: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Candidate minus baseline with percentile intervals: areas are redrawn, the same for both, and pooled.

    Areas, not pixels, are the unit, since pixels of one area are anything but independent. With one area there is
    nothing to redraw and the limits are NaN. Draws in which a number does not exist are left out and reported as
    ``undefined``. Confusion matrices of several seeds: add them up per area first.

    Args:
        baseline, candidate: int64 (C, C) by area name; the same areas in both, or DataError.
        names: the C class names.
        draws: bootstrap draws.  seed: of the draws.  level: of the interval, in (0, 1).
    """
    pooled = _draw_pooled([baseline, candidate], len(names), draws, seed)
    miou, iou = np.diff(mean_known(pooled), axis=0)[0], np.diff(pooled, axis=0)[0]
    several = len(baseline) > 1
    by_class = {name: _interval(iou[:, index], level, several) for index, name in enumerate(names)}
    return Comparison(_interval(miou, level, several), by_class)


def bootstrap(
    run: Mapping[str, Confusion], names: Sequence[str], *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Comparison:
    """mIoU and class IoUs of one set of predictions, with intervals; arguments as for :func:`paired_bootstrap`."""
    pooled = _draw_pooled([run], len(names), draws, seed)[0]
    several = len(run) > 1
    by_class = {name: _interval(pooled[:, index], level, several) for index, name in enumerate(names)}
    return Comparison(_interval(mean_known(pooled), level, several), by_class)


def gap_closed(
    task_i: Mapping[str, Confusion],
    task_ii: Mapping[str, Confusion],
    oracle: Mapping[str, Confusion],
    names: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Share of the mIoU gap between task (i) and the oracle that task (ii) closes, redrawing areas.

    ``(task ii - task i) / (oracle - task i)``; 1 reaches the oracle, negative is worse than task (i). Where the oracle
    does not exceed task (i) there is no gap and the share is NaN (null in JSON). Draws without a gap are left out and
    reported as ``undefined``; if they are more than ``1 - level`` of all, the gap itself is not established and the
    limits are NaN. Arguments as for :func:`paired_bootstrap`.
    """
    pooled = mean_known(_draw_pooled([task_i, task_ii, oracle], len(names), draws, seed))
    gap = pooled[2] - pooled[0]
    shares = ratio(pooled[1] - pooled[0], np.where(gap > 0, gap, 0.0))
    return _interval(shares, level, len(task_i) > 1 and float(np.isnan(shares[1:]).mean()) <= 1 - level)


def _draw_pooled(runs: Sequence[Mapping[str, Confusion]], classes: int, draws: int, seed: int) -> Floats:
    """Pooled IoU (runs, 1 + draws, C) by class; number 0 pools every area once, the others redraw the areas."""
    areas = sorted(runs[0])
    odd = sorted({area for run in runs for area in set(run) ^ set(areas)})
    if not areas or odd or draws < 1:
        raise DataError(
            f"{len(areas)} areas, not in every run: {', '.join(odd) or 'none'}, {draws} draws",
            expected="one confusion matrix per area and run, and a positive number of draws",
            cure="evaluate all sources on the same areas",
        )
    for run in runs:
        for area in areas:
            check_confusion(run[area], classes)
    picks = np.random.default_rng(seed).multinomial(len(areas), np.full(len(areas), 1 / len(areas)), size=draws)
    times = np.concatenate([np.ones((1, len(areas))), picks])
    counts = np.array([[class_counts(run[area]) for area in areas] for run in runs])
    pooled: Floats = np.einsum("da,rakc->rdkc", times, counts, optimize=True)  # whole numbers: exact
    return iou_of_counts(pooled)


def _interval(values: Floats, level: float, established: bool) -> Interval:
    """``values[0]`` is the observed value, the rest are the draws."""
    draws = values[1:][~np.isnan(values[1:])]
    undefined = 1.0 - draws.size / (values.size - 1)
    if not established or draws.size == 0 or np.isnan(values[0]):
        return Interval(float(values[0]), math.nan, math.nan, undefined)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[0]), float(low), float(high), undefined)
