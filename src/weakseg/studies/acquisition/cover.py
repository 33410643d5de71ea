"""Choosing a batch: places that stand for many others whose labels would change much, and not for each other.

Facility location under costs. A label says something of all places that look alike, so a batch is worth

    sum over all unlabelled places j of change(j) * max over labelled and chosen i of likeness(i, j),

and is chosen greedily by gain per second. The value is submodular, so greedy is within 1 - 1/e of the best batch (Wei,
Iyer and Bilmes, ICML 2015; costs as in Leskovec et al., KDD 2007). Distance to what is labelled is in it (labelled
places cover their neighbourhood), and so is spread: the second of fifty equal roofs gains nothing. It is k-center
(CoreSet: Sener and Savarese, ICLR 2018) with a sum for the maximum, so outliers do not lead, and with every place
weighed by what its label changes. BADGE (Ash et al., ICLR 2020) spreads gradients of the last layer for the class that
the network takes for true; a tag is about any class.

Of a crop not all classes need be asked: :func:`choose_questions` chooses classes of crops, each class with a cover of
its own, and a second question about a crop is cheaper than the first where looking at it costs something.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kernel = npt.NDArray[np.float32]

_ROUNDING: Final = 1e-12  # of a sum of squares


def standardise(features: Floats, weights: Floats) -> Floats:
    """Features (N, D) with mean 0 and deviation ``weights`` (D,); a feature that never varies is 0."""
    centred = features - features.mean(0)
    deviation = centred.std(0)
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0) * weights)


def likeness(places: Floats, others: Floats, reach: float) -> Kernel:
    """exp(-(d / reach)^2) of the distances between places (N, D) and others (M, D): (N, M) in [0, 1]."""
    return np.asarray(np.exp(-_squares(places, others) / max(reach, 1e-12) ** 2), np.float32)


def reach_of(places: Floats, neighbours: int) -> float:
    """The median distance of a place (N, D) to its n-th nearest: so far a label should reach."""
    count = min(max(1, neighbours), len(places) - 1)
    if count < 1:
        return 1.0
    return float(np.median(np.sqrt(np.partition(_squares(places, places), count, axis=1)[:, count])))


def _squares(places: Floats, others: Floats) -> Floats:
    """Squared distances between places (N, D) and others (M, D): (N, M), 0 where they are nothing but rounding.

    Else places that look the same would be far apart by the measure of how far others are that look the same, too.
    """
    sizes = (places**2).sum(1)[:, None] + (others**2).sum(1)
    squares = sizes - 2 * places @ others.T
    return np.asarray(np.where(squares > _ROUNDING * sizes, squares, 0.0))


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


def choose_questions(
    asked: npt.NDArray[np.bool_],
    changes: Floats,
    alike: Callable[[npt.NDArray[np.intp]], Kernel],
    covered: Floats,
    *,
    look: float,
    question: float,
    count: int,
) -> list[tuple[int, list[int], float]]:
    """The best questions about ``count`` crops, each a yes or no to a class of a crop, by gain per second.

    Args:
        asked: bool (N, C), what may be asked of the N crops.
        changes: (P, C), what an answer about each class of each place changes.
        alike: crops (n,) -> their :func:`likeness` to all P places.
        covered: (P, C), the largest likeness to what is known already of the class, in [0, 1].
        look: seconds of a crop before its first question; ``question``: of each, positive.

    Returns:
        (crop, classes, gain not divided by the cost), in the order in which the crops got their first question.
    """
    batch = _Batch(asked, changes, alike, covered.astype(np.float64), look, question)
    heap = [entry for crop in np.flatnonzero(asked.any(1)).tolist() for entry in batch.entries(crop)]
    heapq.heapify(heap)
    while heap:
        rate, crop, index, *state = heapq.heappop(heap)
        if index in batch.classes(crop):
            continue
        if state != batch.state(crop, index):
            heapq.heappush(heap, batch.entry(crop, index))
            continue
        opened = crop in batch.found
        if opened and rate == 0:
            continue  # nothing is gained by it
        if not opened and len(batch.found) == count:
            break
        batch.ask(crop, index, -rate * batch.seconds(crop))
        if not opened and look:  # its other questions are cheaper now: what waits for them in the heap is too low
            for entry in batch.entries(crop):
                heapq.heappush(heap, entry)
    return [(crop, list(gains), sum(gains.values())) for crop, gains in batch.found.items()]


_Entry = tuple[float, int, int, int, bool]
"""Minus the gain per second, crop, class, and the state in which it was found."""


@dataclass
class _Batch:
    """Questions chosen so far; arguments as of :func:`choose_questions`.

    Attributes:
        found: by crop, what each of its classes gained.
        answers: chosen questions by class. Those about one class change what is gained by others about it alone.
    """

    asked: npt.NDArray[np.bool_]
    changes: Floats
    alike: Callable[[npt.NDArray[np.intp]], Kernel]
    covered: Floats
    look: float
    question: float
    found: dict[int, dict[int, float]] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)

    def classes(self, crop: int) -> Collection[int]:
        return self.found.get(crop, {})

    def seconds(self, crop: int) -> float:
        return self.question + (0.0 if crop in self.found else self.look)

    def state(self, crop: int, index: int) -> list[int | bool]:
        return [self.answers[index], crop in self.found]

    def entry(self, crop: int, index: int) -> _Entry:
        gain = float(self.changes[:, index] @ np.maximum(self._row(crop) - self.covered[:, index], 0.0))
        return -gain / self.seconds(crop), crop, index, self.answers[index], crop in self.found

    def entries(self, crop: int) -> list[_Entry]:
        """Of all classes that may still be asked."""
        gains = (self.changes * np.maximum(self._row(crop)[:, None] - self.covered, 0.0)).sum(0) / self.seconds(crop)
        left = [index for index in np.flatnonzero(self.asked[crop]).tolist() if index not in self.classes(crop)]
        return [(-float(gains[i]), crop, i, self.answers[i], crop in self.found) for i in left]

    def ask(self, crop: int, index: int, gain: float) -> None:
        self.found.setdefault(crop, {})[index] = gain
        self.answers[index] += 1
        self.covered[:, index] = np.maximum(self.covered[:, index], self._row(crop))

    def _row(self, crop: int) -> Kernel:
        row: Kernel = self.alike(np.array([crop], np.intp))[0]
        return row
