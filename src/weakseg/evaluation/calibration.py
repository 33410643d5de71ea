"""Calibrated confidence: a temperature per winning class, and the expected calibration error that tells its worth.

Guo et al., On Calibration of Modern Neural Networks (ICML 2017), divide the logits by one temperature, fitted by the
likelihood of data that the network has not seen; they find it as good as more parameters (their vector scaling moves
the winner, too). Ours is one temperature per class, chosen by the class that wins a pixel: the winner stays the winner,
so calibration never changes a map, and a class that the network is too sure of is told apart from one that it doubts.
Logits are taken from probabilities (their logarithm, which is all that a softmax keeps), so what was blended from
windows or views, or came out of an exported file, is calibrated in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError

Probabilities = npt.NDArray[np.float32]
BINS: Final = 15  # of confidence, of equal width; as Guo et al. report it
FEWEST: Final = 500  # px that a class must win on the hold-out to get a temperature of its own
_LIMITS: Final = (0.05, 20.0)  # of a temperature; pixels that are all right would ask for 0
_TINY: Final = np.float32(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Reliability:
    """Pixels by confidence of their winner: what a reliability diagram shows. Those of several areas add up.

    Attributes:
        counts, right: int64 (BINS,), pixels and those whose winner is the truth.  sums: float64 (BINS,), confidences.
    """

    counts: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.counts + other.counts, self.right + other.right, self.sums + other.sums)

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1]: mean over pixels of |accuracy - mean confidence| of their bin.

        NaN without pixels.
        """
        total = self.counts.sum()
        return float(np.abs(self.right - self.sums).sum() / total) if total else math.nan


def reliability_of(confidence: npt.NDArray[np.floating], winners: npt.NDArray[np.integer], truth: Mask) -> Reliability:
    """Bin the labelled pixels.

    Args:
        confidence: probability of the winner in [0, 1].
        winners: class indices.
        truth: uint8, 255 is left out; all three of one shape.
    """
    if not confidence.shape == winners.shape == truth.shape:
        raise DataError(
            f"confidence {confidence.shape}, winners {winners.shape}, truth {truth.shape}",
            expected="one shape",
            cure="take all three from one area",
        )
    known = truth != IGNORE
    sure = confidence[known].astype(np.float64)
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (low, high], as Guo et al. cut them
    right = winners[known] == truth[known]
    return Reliability(
        np.bincount(bins, minlength=BINS),
        np.bincount(bins[right], minlength=BINS),
        np.bincount(bins, weights=sure, minlength=BINS).astype(np.float64),
    )


def fit_temperatures(probabilities: Probabilities, truth: Mask) -> tuple[float, ...]:
    """The temperatures that make held-out truth likeliest, one per class.

    A class that wins fewer than :data:`FEWEST` pixels, or is right on all or on none of them, takes the temperature
    that is the best for all pixels together: of so few, all from one or two objects, its own would be a guess.

    Args:
        probabilities: float32 (C, N) of pixels that the network was not trained on.
        truth: uint8 (N,), 255 is left out.

    Returns:
        C numbers in [0.05, 20]; above 1 the network was too sure of the class.

    Raises:
        DataError: no labelled pixel, or shapes that do not fit.
    """
    if probabilities.ndim != 2 or probabilities.shape[1:] != truth.shape or not (truth != IGNORE).any():
        raise DataError(
            f"probabilities {probabilities.shape} with truth {truth.shape}, {(truth != IGNORE).sum()} px labelled",
            expected="(C, N) and (N,) with labelled pixels",
            cure="raise tiles.holdout, or label its blocks",
        )
    known = truth != IGNORE
    logits, labels = _logits(probabilities[:, known]), truth[known].astype(np.int64)
    winners = logits.argmax(0)
    shared = _likeliest(logits, labels)
    found = []
    for index in range(len(logits)):
        mine = winners == index
        right = int((labels[mine] == index).sum())
        own = mine.sum() >= FEWEST and 0 < right < mine.sum()
        found.append(_likeliest(logits[:, mine], labels[mine]) if own else shared)
    return tuple(found)


def calibrate(probabilities: Probabilities, temperatures: Sequence[float]) -> Probabilities:
    """Probabilities float32 (C, ...) at the temperature of each pixel's winner; sums to 1, and the winner stays.

    Raises:
        DataError: not one positive temperature per class.
    """
    if len(temperatures) != len(probabilities) or min(temperatures) <= 0:
        raise DataError(
            f"{len(temperatures)} temperatures for {len(probabilities)} classes",
            expected="a positive one per class",
            cure="train the model again",
        )
    logits = _logits(probabilities)
    logits /= np.asarray(temperatures, np.float32)[logits.argmax(0)]
    np.exp(logits, out=logits)
    logits /= logits.sum(0)
    return logits


def _logits(probabilities: Probabilities) -> Probabilities:
    """Logits of which the largest is 0."""
    logits = np.log(np.maximum(probabilities, _TINY))
    logits -= logits.max(0)
    return np.asarray(logits, np.float32)


def _likeliest(logits: Probabilities, labels: npt.NDArray[np.int64]) -> float:
    """The temperature of the smallest mean negative log-likelihood; that is convex in 1 / T, so there is one."""
    from scipy.optimize import minimize_scalar

    wide = logits.astype(np.float64)
    chosen = np.take_along_axis(wide, labels[None], 0)[0]

    def loss(log_temperature: float) -> float:
        cold = 1 / math.exp(log_temperature)
        return float((np.log(np.exp(wide * cold).sum(0)) - chosen * cold).mean())

    low, high = (math.log(limit) for limit in _LIMITS)
    return float(math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x))
