"""Which refiner (CRF, PAMR, a random walk) each class takes, "none" among them: counted on labelled areas.

A refiner that helps broad classes may swallow small ones. So every class claims the pixels that the maps of its own
refiner let it win, and those of the maps before where it takes none; a pixel goes to the only class that claims it, and
stays with the one that had it where none or several do. A class without a refiner keeps exactly the pixels that it had,
there and everywhere else (ours).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import ratio
from weakseg.methods.pseudo import Counts, pseudo_mask
from weakseg.methods.scores import ScoreMaps

LEVEL: Final = 0.9  # of the one-sided bootstrap bounds
TOLERANCE: Final = 0.01  # IoU: a class takes a refiner where a loss beyond it can be ruled out
DRAWS: Final = 500
NONE: Final = "none"
Refiners = tuple[int, ...]
"""Per class (C,) the number of its refiner, 1 to R; 0 is none."""
Floats = npt.NDArray[np.float64]
Winners = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Changes:
    """Pixels by true class and by the winners of several maps, per block; cells without a pixel are not kept.

    Attributes:
        shape: (C, C + 1, ...), one axis of winners for each of the maps; the last winner is none.
        cells: int64 (K,), rising: flat places in ``shape`` that hold a pixel.
        pixels: int64 (blocks, K).
    """

    shape: tuple[int, ...]
    cells: Counts
    pixels: Counts

    @classmethod
    def of(cls, table: Counts) -> Changes:
        """From a whole table (blocks, C, C + 1, ...)."""
        flat = table.reshape(len(table), -1)
        held = np.flatnonzero(flat.any(0))
        return cls(table.shape[1:], held, flat[:, held])

    @property
    def table(self) -> Counts:
        """All cells, (blocks, C, C + 1, ...)."""
        flat = np.zeros((len(self.pixels), int(np.prod(self.shape))), np.int64)
        flat[:, self.cells] = self.pixels
        return flat.reshape(len(self.pixels), *self.shape)


def join_changes(parts: Sequence[Changes]) -> Changes:
    """The blocks of several areas, one behind the other."""
    cells = np.unique(np.concatenate([part.cells for part in parts]))
    pixels = np.zeros((sum(len(part.pixels) for part in parts), len(cells)), np.int64)
    row = 0
    for part in parts:
        pixels[row : row + len(part.pixels), np.searchsorted(cells, part.cells)] = part.pixels
        row += len(part.pixels)
    return Changes(parts[0].shape, cells, pixels)


@dataclass(frozen=True)
class Choice:
    """The refiner of each class, and what they did to the classes on the labelled blocks.

    Attributes:
        refiners: by class.
        before, after: IoU (C,) of the winners before, and under this choice; NaN where undefined.
        low: (C,) lower bound of ``after - before``; 0 for a class that takes none.
    """

    refiners: Refiners
    before: Floats
    after: Floats
    low: Floats

    @property
    def miou(self) -> float:
        """Mean IoU under this choice, over the classes that have one."""
        return _mean(self.after)

    def describe(self, names: Sequence[str], refiners: Sequence[str]) -> dict[str, Any]:
        """For a report: what each class takes of the R ``refiners``, and its IoU on the blocks before and after."""
        words = (NONE, *refiners)
        return {
            "refined_by": {name: words[one] for name, one in zip(names, self.refiners, strict=True)},
            "iou_before": dict(zip(names, self.before.tolist(), strict=True)),
            "iou": dict(zip(names, self.after.tolist(), strict=True)),
            "miou_before": _mean(self.before),
            "miou": self.miou,
        }


def count_changes(truth: Mask, maps: Sequence[ScoreMaps], allowed: Allowed, *, blocks: int = 1) -> Changes:
    """Pixels of an area by true class and by the winners of several maps, per block of columns.

    Args:
        truth: uint8 (H, W), 255 counts nowhere.
        maps: those before, then those of R refiners.
        allowed: what the tags leave, which holds in any case.
        blocks: side by side, of equal width.

    Returns:
        Counts with one axis of winners for each of ``maps``; the last winner, C, is none: nothing is known of
        such a pixel.
    """
    classes = len(maps[0].present)
    block = np.broadcast_to(np.arange(truth.shape[1]) * blocks // truth.shape[1], truth.shape)
    here = truth != IGNORE
    if (truth[here] >= classes).any():
        raise DataError(f"truth of class {truth[here].max()}", expected=f"below {classes}", cure="rerun tiles")
    winners = [_winners(one, allowed)[here] for one in maps]
    shape = (classes, *[classes + 1] * len(maps))
    cells = np.ravel_multi_index((truth[here], *winners), shape)
    held, inverse = np.unique(cells, return_inverse=True)
    pixels = np.bincount(block[here] * len(held) + inverse, minlength=blocks * len(held)).reshape(blocks, len(held))
    return Changes(shape, held, pixels)


def _winners(maps: ScoreMaps, allowed: Allowed) -> Winners:
    """The class of every pixel, C where no class has a score."""
    mask = pseudo_mask(maps, allowed, min_score=0.0, min_margin=0.0)
    return np.where(mask == IGNORE, len(maps.present), mask).astype(np.intp)


def take_for_all(counts: Changes) -> Choice:
    """The first refiner for every class, whatever it does to them."""
    return measure_refiners(counts, (1,) * counts.shape[0])


def measure_refiners(counts: Changes, refiners: Refiners, *, seed: int = 0) -> Choice:
    """What given refiners do to the classes on labelled blocks; arguments as for :func:`choose_refiners`."""
    cells = _Cells.of(counts, seed)
    before, after = cells.iou(_none(refiners)), cells.iou(refiners)
    return Choice(refiners, before[0], after[0], np.where(np.array(refiners) > 0, _low(after - before), 0.0))


def choose_refiners(counts: Changes, *, seed: int = 0) -> Choice:
    """The refiner of each class that serves the whole best without a loss to any class.

    For each refiner all classes take it at first. As long as one of them loses IoU on the labelled blocks, or a loss of
    more than :data:`TOLERANCE` cannot be ruled out (blocks are redrawn; a rare class has a wide interval), the one with
    the lowest bound gives it back and the rest is measured again. From the best of these each class in turn moves to
    another refiner, or none, where that raises the mean IoU and no class loses. What is left has to raise the mean by
    more than the noise, or no class takes any. A class that the blocks do not hold takes none: nothing is known of it.

    Args:
        counts: of :func:`count_changes`, all areas together. Blocks of one area are not
            independent, so the bounds are somewhat too tight; and they are those of the best of several choices.
    """
    if len(counts.shape) < 3 or not counts.pixels.any():
        found = f"counts {counts.shape} of {counts.pixels.sum()} px"
        raise DataError(found, expected="labelled blocks", cure="label N1")
    cells, classes, tried = _Cells.of(counts, seed), counts.shape[0], len(counts.shape) - 2
    starts = [_give_back(cells, (number,) * classes) for number in range(1, tried + 1)]
    best = _improve(cells, max(starts, key=cells.mean), tried)
    before = cells.iou(_none(best))
    if any(best) and not _low(np.nanmean(cells.iou(best) - before, axis=1, keepdims=True))[0] > 0:
        best = _none(best)
    return measure_refiners(counts, best, seed=seed)


def mix_maps(maps: Sequence[ScoreMaps], allowed: Allowed, refiners: Refiners) -> ScoreMaps:
    """The maps of an area under a choice: whole pixels are of one of ``maps``, so scores stay comparable.

    Args:
        maps: those before, then those of R refiners. allowed: winners are counted among these classes.
    """
    if len(set(refiners)) == 1:
        return maps[refiners[0]]
    _, origin = _settle([_winners(one, allowed) for one in maps], refiners)
    present = np.logical_or.reduce([one.present for one in maps])
    return ScoreMaps(np.choose(origin, [one.over(np.flatnonzero(present)) for one in maps]), present)


def _settle(winners: Sequence[Winners], refiners: Refiners) -> tuple[Winners, Winners]:
    """The winner of each pixel under a choice, and the number of the maps that it is of; C is none."""
    if len(set(refiners)) == 1:
        return winners[refiners[0]], np.full(winners[0].shape, refiners[0])
    owner = np.array([*refiners, -1])
    claims, found, origin = np.zeros(winners[0].shape, np.intp), winners[0], np.zeros(winners[0].shape, np.intp)
    for number, winner in enumerate(winners):
        mine = owner[winner] == number
        claims += mine
        found, origin = np.where(mine, winner, found), np.where(mine, number, origin)
    return np.where(claims == 1, found, winners[0]), np.where(claims == 1, origin, 0)


@dataclass(frozen=True)
class _Cells:
    """The K cells of the counts that hold a pixel: what they are, and how many pixels each draw of blocks gives them.

    Attributes:
        truth: (K,). winners: one (K,) per maps. pixels: float64 (1 + draws, K), the first all blocks once.
    """

    truth: Winners
    winners: tuple[Winners, ...]
    pixels: Floats
    classes: int

    @classmethod
    def of(cls, counts: Changes, seed: int) -> _Cells:
        blocks, classes = len(counts.pixels), counts.shape[0]
        picks = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS)
        times = np.concatenate([np.ones((1, blocks)), picks])
        truth, *winners = np.unravel_index(counts.cells, counts.shape)
        return cls(truth, tuple(winners), times @ counts.pixels.astype(np.float64), classes)

    def iou(self, refiners: Refiners) -> Floats:
        """IoU (1 + draws, C) under a choice."""
        winner, _ = _settle(self.winners, refiners)
        truth, claimed = self._by_class(self.truth), self._by_class(winner)
        hits = self._by_class(np.where(winner == self.truth, winner, self.classes))
        return ratio(hits, truth + claimed - hits)

    def _by_class(self, index: Winners) -> Floats:
        """Pixels (1 + draws, C) by a class of each cell, (K,), C being none; not by pairs, which may be many."""
        cells = np.arange(len(index))
        table = csr_array((np.ones(len(index)), (cells, index)), shape=(len(index), self.classes + 1))
        return np.asarray(self.pixels @ table)[:, : self.classes]

    def mean(self, refiners: Refiners) -> float:
        """Mean IoU under a choice."""
        return _mean(self.iou(refiners)[0])

    def lost(self, refiners: Refiners) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Which classes (C,) may have lost by their refiner, and the lower bounds of their gains."""
        gain = self.iou(refiners) - self.iou(_none(refiners))
        low = _low(gain)
        return (np.array(refiners) > 0) & ~((gain[0] >= 0) & (low >= -TOLERANCE)), low  # NaN counts as lost


def _give_back(cells: _Cells, refiners: Refiners) -> Refiners:
    """The choice without the refiners of classes that may lose by them, the worst first."""
    while True:
        lost, low = cells.lost(refiners)
        if not lost.any():
            return refiners
        refiners = _with(refiners, int(np.where(lost, low, np.inf).argmin()), 0)


def _improve(cells: _Cells, refiners: Refiners, tried: int) -> Refiners:
    """Move one class at a time as long as the mean IoU rises and none loses."""
    moved = True
    while moved:
        moved = False
        for one in _moves(refiners, tried):
            if cells.mean(one) > cells.mean(refiners) and not cells.lost(one)[0].any():
                refiners, moved = one, True
                break
    return refiners


def _moves(refiners: Refiners, tried: int) -> Iterator[Refiners]:
    for index, now in enumerate(refiners):
        yield from (_with(refiners, index, number) for number in range(tried + 1) if number != now)


def _with(refiners: Refiners, index: int, number: int) -> Refiners:
    return (*refiners[:index], number, *refiners[index + 1 :])


def _none(refiners: Refiners) -> Refiners:
    return (0,) * len(refiners)


def _low(gain: Floats) -> Floats:
    """Lower bound over the draws (rows 1 and on) of each column; a draw without the class counts as a total loss."""
    return np.asarray(np.quantile(np.nan_to_num(gain[1:], nan=-1.0), 1 - LEVEL, axis=0))


def _mean(iou: Floats) -> float:
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
