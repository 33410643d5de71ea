"""Choosing a batch: places that stand for many others whose labels would change much, and not for each other.

Facility location under costs. A label says something of all places that look alike, so a batch is worth

    sum over all unlabelled places j of change(j) * max over labelled and chosen i of likeness(i, j),

and is chosen greedily by gain per second. The value is submodular, so greedy is within 1 - 1/e of the best batch (Wei,
Iyer and Bilmes, ICML 2015; costs as in Leskovec et al., KDD 2007). Distance to what is labelled is in it (labelled
places cover their neighbourhood), and so is spread: the second of fifty equal roofs gains nothing. It is k-center
(CoreSet: Sener and Savarese, ICLR 2018) with a sum for the maximum, so outliers do not lead, and with every place
weighed by what its label changes. BADGE (Ash et al., ICLR 2020) spreads gradients of the last layer for the class that
the network takes for true; a tag is about all classes at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kernel = npt.NDArray[np.float32]


def standardise(features: Floats, weights: Floats) -> Floats:
    """Features (N, D) with mean 0 and deviation ``weights`` (D,); a feature that never varies is 0."""
    centred = features - features.mean(0)
    deviation = centred.std(0)
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0) * weights)


def likeness(places: Floats, others: Floats, reach: float) -> Kernel:
    """exp(-(d / reach)^2) of the distances between places (N, D) and others (M, D): (N, M) in [0, 1]."""
    squares = (places**2).sum(1)[:, None] + (others**2).sum(1) - 2 * places @ others.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / max(reach, 1e-12) ** 2), np.float32)


def reach_of(places: Floats, neighbours: int) -> float:
    """The median distance of a place (N, D) to its n-th nearest: so far a label should reach."""
    squares = (places**2).sum(1)[:, None] + (places**2).sum(1) - 2 * places @ places.T
    count = min(max(1, neighbours), len(places) - 1)
    if count < 1:
        return 1.0
    return float(np.median(np.sqrt(np.maximum(np.partition(squares, count, axis=1)[:, count], 0.0))))


def choose(
    items: Sequence[npt.NDArray[np.intp]],
    changes: Floats,
    alike: Callable[[npt.NDArray[np.intp]], Kernel],
    covered: Floats,
    seconds: Floats,
    *,
    count: int,
) -> tuple[list[int], list[float]]:
    """The best ``count`` items, best first, with what each adds when it is chosen.

    Args:
        items: for each item the places that it labels; a tag crop labels one, an image all of its own.
        changes: (P,), what a label of each place changes.
        alike: places (n,) -> their :func:`likeness` to all P.
        covered: (P,), the largest likeness to what is labelled already, in [0, 1].
        seconds: (items,), cost; positive.

    Returns:
        indices of items, and their gains (not divided by the cost).
    """
    covered = covered.astype(np.float64).copy()

    def gain(index: int) -> float:
        return float(changes @ np.maximum(alike(items[index]).max(0) - covered, 0.0))

    heap = [(-gain(index) / seconds[index], index, 0) for index in range(len(items))]
    heapq.heapify(heap)
    chosen: list[int] = []
    gains: list[float] = []
    while heap and len(chosen) < count:
        rate, index, age = heapq.heappop(heap)
        if age < len(chosen):  # gains only fall, so one that is still best when it is known anew is the best
            heapq.heappush(heap, (-gain(index) / seconds[index], index, len(chosen)))
            continue
        chosen.append(index)
        gains.append(-rate * float(seconds[index]))
        covered = np.maximum(covered, alike(items[index]).max(0))
    return chosen, gains
