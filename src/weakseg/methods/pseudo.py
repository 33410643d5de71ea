"""ScoreMaps and tags to pseudo-masks, and the choice of the thresholds that decide what stays unlabelled.

No background class: the top class stands where its score and its lead over the second are large enough, 255 elsewhere
(ours, for crops without a background). Where the tags allow one class only, every pixel is that class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import class_iou
from weakseg.methods.scores import ScoreMaps

Counts = npt.NDArray[np.int64]

CHUNK_PIXELS: Final = 1 << 20


@dataclass(frozen=True)
class _Rows:
    """Top class of some rows of an area, (rows, W) each; ``certain`` where the tags leave that class alone."""

    rows: slice
    winner: npt.NDArray[np.intp]
    top: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]
    certain: npt.NDArray[np.bool_]


def pseudo_mask(
    maps: ScoreMaps, allowed: Allowed, *, min_score: float | Sequence[float], min_margin: float | Sequence[float]
) -> Mask:
    """The pseudo-mask uint8 (H, W) of one area.

    Args:
        maps: scores in [0, 1] of H x W px.
        allowed: of H x W px; scores of classes that may not occur do not count.
        min_score: least score of the top class, one for all or one per class (C,).
        min_margin: least lead of the top class over the second (over 0 where there is no second), likewise.

    Returns:
        The top class where both hold, the allowed class where there is one only, else 255; a pixel whose allowed
        classes all score 0, or that no class is allowed at (tags that contradict each other), has no top class.

    Raises:
        DataError: shapes or numbers of classes do not match, or scores are NaN.
    """
    scores, margins = (
        np.broadcast_to(np.asarray(one, np.float32), (len(maps.present),)) for one in (min_score, min_margin)
    )
    mask = np.full(allowed.shape, IGNORE, np.uint8)
    for part in _rank(maps, allowed):
        clear = (part.top > 0) & (part.top >= scores[part.winner]) & (part.margin >= margins[part.winner])
        sure = clear | part.certain
        mask[part.rows][sure] = part.winner[sure]
    return mask


def _rank(maps: ScoreMaps, allowed: Allowed) -> Iterator[_Rows]:
    """Rows of an area in chunks, so that memory does not grow with it."""
    _, height, width = maps.scores.shape
    if allowed.shape != (height, width) or allowed.sets.shape[1] != len(maps.present):
        raise DataError(
            f"allowed classes {allowed.shape} of {allowed.sets.shape[1]} for scores {maps.scores.shape} of "
            f"{len(maps.present)}",
            expected="the same pixels and classes",
            cure="rerun tiles and the stage that made the scores",
        )
    only = np.where(allowed.sets.sum(1) == 1, allowed.sets.argmax(1), -1)  # the class of a set of one
    step = max(1, CHUNK_PIXELS // max(1, width))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        here = allowed[rows]
        scores = np.where(here.planes(maps.classes), maps.scores[:, rows], 0).astype(np.float32)
        winner, top, margin = _lead(scores, maps.classes)
        if not np.isfinite(top).all():
            raise DataError("scores hold NaN or infinity", expected="0..1", cure="rerun the stage that made them")
        alone = only[here.numbers]
        yield _Rows(rows, np.where(alone >= 0, alone, winner), top, margin, alone >= 0)


def _lead(
    scores: npt.NDArray[np.float32], classes: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Winner, its score and its lead over the second, (H, W) each; the first class where none has a score."""
    if not len(scores):
        nothing = np.zeros(scores.shape[1:], np.float32)
        return np.zeros(scores.shape[1:], np.intp), nothing, nothing
    winner, top = scores.argmax(0), scores.max(0)
    np.put_along_axis(scores, winner[None], 0, 0)
    return np.where(top > 0, classes[winner], 0), top, top - scores.max(0)


def count_sweep(
    maps: ScoreMaps, allowed: Allowed, truth: Mask, *, scores_grid: Sequence[float], margins_grid: Sequence[float]
) -> Counts:
    """One histogram of an area from which every pair of thresholds follows; histograms of areas add up.

    Args:
        maps, allowed: as for :func:`pseudo_mask`. truth: uint8 (H, W), 255 counts nowhere.
        scores_grid, margins_grid: S and M thresholds, ascending.

    Returns:
        int64 (S + 1, M + 1, C, C): pixels that pass exactly the first i scores and the first j margins, by true class
        (rows) and top class (columns).
    """
    classes = len(maps.present)
    if truth.shape != allowed.shape or ((truth >= classes) & (truth != IGNORE)).any():
        raise DataError(
            f"truth {truth.shape} with values {np.unique(truth).tolist()}",
            expected=f"shape {allowed.shape}, classes below {classes} or {IGNORE}",
            cure="use the truth of this area and scheme",
        )
    score_limits, margin_limits = _ascending(scores_grid), _ascending(margins_grid)
    shape = (len(score_limits) + 1, len(margin_limits) + 1, classes, classes)
    counts = np.zeros(shape, np.int64)
    for part in _rank(maps, allowed):
        passed_scores = np.searchsorted(score_limits, part.top, side="right")
        passed_margins = np.searchsorted(margin_limits, part.margin, side="right")
        passed_scores[part.top <= 0] = 0
        passed_scores[part.certain], passed_margins[part.certain] = shape[0] - 1, shape[1] - 1
        scored = truth[part.rows] != IGNORE
        place = np.ravel_multi_index(
            (passed_scores[scored], passed_margins[scored], truth[part.rows][scored], part.winner[scored]), shape
        )
        counts += np.bincount(place, minlength=counts.size).reshape(shape)
    return counts


def _ascending(grid: Sequence[float]) -> npt.NDArray[np.float32]:
    limits = np.asarray(grid, np.float32)
    if limits.ndim != 1 or not len(limits) or (np.diff(limits) <= 0).any():
        raise DataError(f"thresholds {list(grid)}", expected="ascending, one at least", cure="sort the grid")
    return limits


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of pseudo-masks, all in 0..1.

    Attributes:
        coverage: labelled share of the pixels with truth. accuracy: correct share of the labelled ones, NaN if none.
        class_iou: (C,) inside the coverage; a class that the truth holds but no labelled pixel shows is 0, not left
            out, so that giving up a rare class never looks like a gain; a class in neither is NaN.
        miou: mean over the classes that are not NaN.
    """

    coverage: float
    accuracy: float
    miou: float
    class_iou: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SweepRow(Quality):
    """The masks under one pair of thresholds for all classes."""

    min_score: float
    min_margin: float


@dataclass(frozen=True, kw_only=True)
class Thresholds(Quality):
    """The thresholds in force, one pair per class (C,), and the masks under them on the areas they were chosen on."""

    min_score: tuple[float, ...]
    min_margin: tuple[float, ...]


def sweep_table(counts: Counts, *, scores_grid: Sequence[float], margins_grid: Sequence[float]) -> list[SweepRow]:
    """A row for every pair of thresholds, scores first, from the (summed) counts of :func:`count_sweep`."""
    covered, total = _covered(counts), _total(counts)
    return [
        SweepRow(min_score=float(score), min_margin=float(margin), **_measure(covered[i, j], total))
        for i, score in enumerate(scores_grid)
        for j, margin in enumerate(margins_grid)
    ]


def _total(counts: Counts) -> Counts:
    total: Counts = counts.sum((0, 1))
    if not total.any():
        raise DataError("no pixel with truth", expected="a labelled area", cure="use other areas")
    return total


def _covered(counts: Counts) -> Counts:
    """(S, M, C, C): pixels that pass at least score i and margin j, by true class and top class."""
    covered: Counts = counts[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1][1:, 1:]
    return covered


def _measure(confusion: Counts, total: Counts) -> dict[str, Any]:
    labelled = confusion.sum()
    iou = class_iou(confusion)
    iou[np.isnan(iou) & (total.sum(1) > 0)] = 0
    return {
        "coverage": float(labelled / total.sum()),
        "accuracy": float(np.diag(confusion).sum() / labelled) if labelled else float("nan"),
        "miou": float(np.nanmean(iou)),
        "class_iou": tuple(iou.tolist()),
    }


def count_areas(
    areas: Iterable[tuple[ScoreMaps, Allowed, Mask]], *, scores_grid: Sequence[float], margins_grid: Sequence[float]
) -> Counts:
    """The summed counts of areas of (maps, allowed, truth), read one at a time."""
    counts: Counts | None = None
    for maps, allowed, truth in areas:
        one = count_sweep(maps, allowed, truth, scores_grid=scores_grid, margins_grid=margins_grid)
        counts = one if counts is None else counts + one
    if counts is None:
        raise DataError("no areas to sweep", expected="one at least", cure="check the split in params.yaml")
    return counts


def sweep_thresholds(
    areas: Iterable[tuple[ScoreMaps, Allowed, Mask]], *, scores_grid: Sequence[float], margins_grid: Sequence[float]
) -> list[SweepRow]:
    """The table over areas; equal to scoring the masks of each pair."""
    counts = count_areas(areas, scores_grid=scores_grid, margins_grid=margins_grid)
    return sweep_table(counts, scores_grid=scores_grid, margins_grid=margins_grid)


def choose_thresholds(
    counts: Counts,
    *,
    scores_grid: Sequence[float],
    margins_grid: Sequence[float],
    min_coverage: float,
    per_class: bool,
) -> Thresholds:
    """The thresholds of the largest mIoU among those that cover enough; of equals those that cover most.

    One pair for all classes is chosen first. With ``per_class`` each class in turn then moves to the pair that serves
    the whole best, until none moves: coordinate ascent, so never worse than the one pair on these areas. A class may
    only move to a pair that keeps ``min_coverage`` of the pixels it wins (a pixel without any score counts for the
    first class): the mIoU inside the coverage alone would gladly give a class up but for its surest pixels. The idea is
    that of class-balanced self-training (Zou et al., ECCV 2018, section 3.2); there the kept share is the same for all
    classes, here it is a lower bound.

    Args:
        counts: as from :func:`count_areas` with the same grids.
        min_coverage: least labelled share, 0..1, of all pixels and of what each class that moves wins.

    Raises:
        DataError: no pair covers ``min_coverage`` of the pixels.
    """
    covered, total = _covered(counts), _total(counts)
    pairs = [(i, j) for i in range(covered.shape[0]) for j in range(covered.shape[1])]
    ranked = {pair: _rank_of(covered, [pair] * len(total), total) for pair in pairs}
    most = max(coverage for _, coverage in ranked.values())
    if most < min_coverage:
        raise DataError(
            f"the thresholds cover {most:.3f} at most",
            expected=f"{min_coverage} or more",
            cure="add lower values to pseudo.scores and pseudo.margins, or lower pseudo.min_coverage",
        )
    common = max((pair for pair in pairs if ranked[pair][1] >= min_coverage), key=ranked.__getitem__)
    chosen = [common] * len(total)
    while per_class:
        before = list(chosen)
        for index, won in enumerate(total.sum(0)):
            kept = [pair for pair in pairs if covered[pair][:, index].sum() >= min_coverage * won]
            tried = [[*chosen[:index], pair, *chosen[index + 1 :]] for pair in kept]
            good = [one for one in tried if _rank_of(covered, one, total)[1] >= min_coverage]
            chosen = max([chosen, *good], key=lambda one: _rank_of(covered, one, total))
        if chosen == before:
            break
    return Thresholds(
        min_score=tuple(float(scores_grid[i]) for i, _ in chosen),
        min_margin=tuple(float(margins_grid[j]) for _, j in chosen),
        **_measure(_confusion(covered, chosen), total),
    )


def _confusion(covered: Counts, pairs: Sequence[tuple[int, int]]) -> Counts:
    """(C, C) by true class and label, each label under the pair of its own class."""
    return np.stack([covered[pair][:, index] for index, pair in enumerate(pairs)], axis=1)


def _rank_of(covered: Counts, pairs: Sequence[tuple[int, int]], total: Counts) -> tuple[float, float]:
    found = _measure(_confusion(covered, pairs), total)
    return found["miou"], found["coverage"]
