"""ScoreMaps and tags to pseudo-masks, and the sweep of the two thresholds that decide what stays unlabelled.

No background class: the top class stands where its score and its lead over the second are large enough, 255 elsewhere
(spec 11.5). Where the tags allow one class only, every pixel is that class (spec 11.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.classes import IGNORE, Mask
from weakseg.errors import DataError
from weakseg.metrics import class_iou
from weakseg.weak.scores import ScoreMaps

Bits = npt.NDArray[np.int32]
Floats = npt.NDArray[np.floating]
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


def pseudo_mask(maps: ScoreMaps, allowed: Bits, *, min_score: float | Floats, min_margin: float) -> Mask:
    """The pseudo-mask uint8 (H, W) of one area.

    Args:
        maps: scores (C, H, W) in [0, 1].
        allowed: int32 (H, W), bit c set where class c may occur; scores of other classes do not count.
        min_score: least score of the top class, one for all or one per class (C,).
        min_margin: least lead of the top class over the second (over 0 where there is no second).

    Returns:
        The top class where both hold, the allowed class where there is one only, else 255; a pixel whose allowed
        classes all score 0, or that no class is allowed at (tags that contradict each other), has no top class.

    Raises:
        DataError: shapes do not match, a pixel allows a class that the maps lack, or scores are NaN.
    """
    limits = np.broadcast_to(np.asarray(min_score, np.float32), (len(maps.present),))
    mask = np.full(allowed.shape, IGNORE, np.uint8)
    for part in _rank(maps, allowed):
        clear = (part.top > 0) & (part.top >= limits[part.winner]) & (part.margin >= np.float32(min_margin))
        sure = clear | part.certain
        mask[part.rows][sure] = part.winner[sure]
    return mask


def _rank(maps: ScoreMaps, allowed: Bits) -> Iterator[_Rows]:
    """Rows of an area in chunks, so that memory does not grow with it."""
    classes, height, width = maps.scores.shape
    if allowed.shape != (height, width):
        raise DataError(
            f"allowed {allowed.shape} for scores {maps.scores.shape}", expected="(H, W) and (C, H, W)", cure="rerun it"
        )
    step = max(1, CHUNK_PIXELS // max(1, width))
    index = np.arange(classes, dtype=np.int32)[:, None, None]
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        bits = np.asarray(allowed[rows], np.int32)
        _check_bits(bits, classes, start)
        scores = np.where(bits >> index & 1, maps.scores[:, rows], 0).astype(np.float32)
        winner = scores.argmax(0)
        top = scores.max(0)
        if not np.isfinite(top).all():
            raise DataError("scores hold NaN or infinity", expected="0..1", cure="rerun the stage that made them")
        np.put_along_axis(scores, winner[None], 0, 0)
        certain = (bits != 0) & (bits & (bits - 1) == 0)
        winner[certain] = np.frexp(bits[certain])[1] - 1  # the place of the only bit
        yield _Rows(rows, winner, top, top - scores.max(0), certain)


def _check_bits(bits: Bits, classes: int, start: int) -> None:
    wrong = (bits < 0) | (bits >> classes != 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{int(wrong.sum())} px allow bits {int(bits[row, column])}, first row {start + row}, column {column}",
            expected=f"bits of {classes} classes, and no other",
            cure="set all bits where there is no tag; mend tags that the class scheme does not know",
        )


def count_sweep(
    maps: ScoreMaps, allowed: Bits, truth: Mask, *, scores_grid: Sequence[float], margins_grid: Sequence[float]
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


@dataclass(frozen=True)
class SweepRow:
    """Quality of the pseudo-masks under one pair of thresholds, all in 0..1.

    Attributes:
        coverage: labelled share of the pixels with truth. accuracy: correct share of the labelled ones, NaN if none.
        class_iou: (C,) inside the coverage; a class that the truth holds but no labelled pixel shows is 0, not left
            out, so that giving up a rare class never looks like a gain; a class in neither is NaN.
        miou: mean over the classes that are not NaN.
    """

    min_score: float
    min_margin: float
    coverage: float
    accuracy: float
    miou: float
    class_iou: tuple[float, ...]


def sweep_table(counts: Counts, *, scores_grid: Sequence[float], margins_grid: Sequence[float]) -> list[SweepRow]:
    """A row for every pair of thresholds, scores first, from the (summed) counts of :func:`count_sweep`."""
    total = counts.sum((0, 1))
    if not total.any():
        raise DataError("no pixel with truth", expected="a labelled area", cure="use other areas")
    covered = counts[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1]
    return [
        _sweep_row(covered[i + 1, j + 1], total, float(score), float(margin))
        for i, score in enumerate(scores_grid)
        for j, margin in enumerate(margins_grid)
    ]


def _sweep_row(confusion: Counts, total: Counts, score: float, margin: float) -> SweepRow:
    labelled = confusion.sum()
    accuracy = float(np.diag(confusion).sum() / labelled) if labelled else float("nan")
    iou = class_iou(confusion)
    iou[np.isnan(iou) & (total.sum(1) > 0)] = 0
    coverage = float(labelled / total.sum())
    return SweepRow(score, margin, coverage, accuracy, float(np.nanmean(iou)), tuple(iou.tolist()))


def sweep_thresholds(
    areas: Iterable[tuple[ScoreMaps, Bits, Mask]], *, scores_grid: Sequence[float], margins_grid: Sequence[float]
) -> list[SweepRow]:
    """The table over areas of (maps, allowed, truth), read one at a time; equal to scoring the masks of each pair."""
    counts: Counts | None = None
    for maps, allowed, truth in areas:
        one = count_sweep(maps, allowed, truth, scores_grid=scores_grid, margins_grid=margins_grid)
        counts = one if counts is None else counts + one
    if counts is None:
        raise DataError("no areas to sweep", expected="one at least", cure="check the split in params.yaml")
    return sweep_table(counts, scores_grid=scores_grid, margins_grid=margins_grid)


def choose_thresholds(table: Sequence[SweepRow], *, min_coverage: float) -> SweepRow:
    """The row of the largest mIoU among those that cover enough; of equals the one that covers most.

    Raises DataError if no row covers ``min_coverage`` (0..1) of the pixels.
    """
    enough = [row for row in table if row.coverage >= min_coverage]
    if not enough:
        best = max((row.coverage for row in table), default=0.0)
        raise DataError(
            f"the thresholds cover {best:.3f} at most",
            expected=f"{min_coverage} or more",
            cure="add lower values to pseudo.scores and pseudo.margins, or lower pseudo.min_coverage",
        )
    return max(enough, key=_quality)


def _quality(row: SweepRow) -> tuple[float, float]:
    return row.miou, row.coverage
