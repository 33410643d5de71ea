"""Tags and experts on a network's probabilities: hard constraints, claims of missing classes, product of experts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import EVERY_CLASS, Allowed
from weakseg.core.errors import DataError
from weakseg.core.tag_errors import TagErrors
from weakseg.methods.scores import ScoreMaps

Floats = npt.NDArray[np.float32]
CLAIM_SHARE = 0.005  # of a tag crop's pixels, claimed by a tagged class that wins nowhere in it
CLAIM_FLOOR = 0.02  # probability below which even the best pixel is not believed
ALIGN_LIMIT = 4.0  # largest factor by which a class is raised
EXPERT_FLOOR = 0.05  # an expert that gives a class nothing may be wrong: no class is vetoed by one


def silence_ignored(maps: ScoreMaps, allowed: Allowed) -> ScoreMaps:
    """The maps with scores of 0 where no class is allowed: no image data there, or tags that contradict each other."""
    return maps.but_silent(allowed.nothing)


def possible_classes(allowed: Allowed, errors: TagErrors | None) -> Allowed:
    """The classes that may occur at each pixel, where tags of stated errors forbid none that may be missing."""
    return allowed if errors is None else allowed.widened(errors.outside > 0)


def constrain_scores(probabilities: Floats, allowed: Allowed, errors: TagErrors | None = None) -> ScoreMaps:
    """Probabilities (C, H, W) with classes that no tag allows set to zero and the rest renormalised.

    Where no class is allowed all are zero. With stated errors of the tags these classes are weighed down instead
    (:mod:`weakseg.core.tag_errors`, 1).
    """
    classes = possible_classes(allowed, errors).classes
    planes: npt.NDArray[np.bool_] | Floats = allowed.planes(classes)
    if errors is not None:
        planes = _weighed(allowed, classes, errors.inside, errors.outside)
    kept = (probabilities[classes] + 1e-6) * planes
    total = kept.sum(0, keepdims=True)
    scores = (kept / np.where(total > 0, total, 1)).astype(np.float32)
    return ScoreMaps(scores, np.isin(np.arange(len(probabilities)), classes))


def normalise_in_crops(maps: ScoreMaps, windows: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]) -> ScoreMaps:
    """Divide every class by its largest score in each tag crop that holds it, as CAM does: it reaches 1 there.

    A network's probabilities of a rare class may stay below those of a common one even where the rare class is surest;
    thresholds on them would leave the rare class out.

    Args:
        maps: tag-constrained scores of one area.
        windows: int (N, 4) tag crops; present: bool (N, C) their tags.

    Returns:
        New maps; where crops overlap the larger score stands, pixels outside all crops keep their scores, and so do
        classes that a crop does not hold.
    """
    scores = maps.scores.astype(np.float32, copy=True)
    for (row, column, height, width), here in zip(windows, present[:, maps.classes], strict=True):
        place = np.s_[:, row : row + height, column : column + width]
        given = maps.scores[place]
        peak = np.where(here & (given.max((1, 2)) > 0), given.max((1, 2)), 1.0)[:, None, None]
        np.maximum(scores[place], given / peak, out=scores[place])
    return ScoreMaps(scores, maps.present)


def align_scores(
    maps: ScoreMaps, allowed: Allowed, typical: npt.NDArray[np.float32], errors: TagErrors | None = None
) -> ScoreMaps:
    """Constrained probabilities of one area with under-represented classes raised to the share their tags let expect.

    The whole-area form of :func:`weakseg.methods.selftrain.align`; ``typical`` (C,) as there, and ``errors`` as in
    :func:`weakseg.methods.selftrain.expected_shares`. Pixels where no class is allowed count nowhere.
    """
    classes, here = possible_classes(allowed, errors).classes, ~allowed.nothing
    parts, scores = _presence(allowed, errors, classes) * typical[classes, None, None], maps.over(classes)
    total = parts.sum(0, keepdims=True)
    expected = _mean_over(parts / np.where(total > 0, total, 1), here)
    factor = np.clip(expected / np.maximum(_mean_over(scores, here), 1e-6), 1.0, ALIGN_LIMIT)
    raised = scores * factor[:, None, None]
    total = raised.sum(0, keepdims=True)
    return _of_classes((raised / np.where(total > 0, total, 1)).astype(np.float32), classes, maps)


def _presence(
    allowed: Allowed, errors: TagErrors | None, classes: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_] | Floats:
    """Chance that each of some classes is in the tag crop of a pixel, (P, H, W): 1 or 0 but for stated errors."""
    if errors is None:
        return allowed.planes(classes)
    return _weighed(allowed, classes, errors.present_if_named, errors.present_if_not)


def _weighed(
    allowed: Allowed, classes: npt.NDArray[np.intp], inside: npt.NDArray[np.float64], outside: npt.NDArray[np.float64]
) -> Floats:
    """Numbers (C,) of classes in the set of a pixel and outside, (P, H, W): 1 where all fit, 0 where none does."""
    here, there = (one[classes, None, None] for one in (inside, outside))
    found = np.where(allowed.planes(classes), here, there).astype(np.float32)
    found[:, allowed.numbers == EVERY_CLASS] = 1.0
    found[:, allowed.nothing] = 0.0
    return found


def _of_classes(scores: Floats, classes: npt.NDArray[np.intp], like: ScoreMaps) -> ScoreMaps:
    return ScoreMaps(scores, np.isin(np.arange(len(like.present)), classes))


def _mean_over(planes: npt.NDArray[np.floating], here: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Mean (C,) of planes (C, H, W) over some of their pixels, 0 over none."""
    if here.all():
        return np.asarray(planes.mean((1, 2)))
    return np.asarray(planes.sum((1, 2), where=here) / max(1, np.count_nonzero(here)))


def claim_missing(
    maps: ScoreMaps,
    windows: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    *,
    allowed: Allowed | None = None,
    floor: float = CLAIM_FLOOR,
) -> tuple[ScoreMaps, int]:
    """Let every tagged class win somewhere in its tag crop: it takes its best pixels from their winners.

    Args:
        maps: tag-constrained probabilities of one area.
        windows: int (N, 4) tag crops; present: bool (N, C) their tags.
        allowed: of H x W px; pixels where no class is allowed are won and claimed by none. None: there are none such.
        floor: probability below which even the best pixel is not believed.

    Returns:
        New maps, in which at the claimed pixels the class and the former winner have swapped their probabilities (so
        the margin there is what it was, with the opposite sign), and the number of claims.
    """
    scores = maps.scores.astype(np.float32, copy=True)
    claims = 0
    for (row, column, height, width), tags in zip(windows, present[:, maps.classes], strict=True):
        if not len(scores):
            break
        part = scores[:, row : row + height, column : column + width]
        winners = part.argmax(0)
        if allowed is not None:
            winners[allowed[row : row + height, column : column + width].nothing] = -1
        taken = np.zeros(winners.size, bool)  # by another claim, which this one must not undo
        for index in np.flatnonzero(tags):
            if (winners == index).any():
                continue
            plane = np.where(taken, 0, part[index].ravel())
            count = max(1, round(CLAIM_SHARE * np.count_nonzero(winners >= 0)))
            best = np.argpartition(plane, -count)[-count:]
            best = best[plane[best] >= floor]
            if len(best):
                rows, columns = np.divmod(best, width)
                former = winners[rows, columns]
                mine, theirs = part[index, rows, columns].copy(), part[former, rows, columns].copy()
                part[index, rows, columns], part[former, rows, columns] = theirs, mine
                taken[best] = True
                claims += 1
    return ScoreMaps(scores, maps.present), claims


def fuse(teacher: ScoreMaps, experts: Sequence[ScoreMaps], weights: Sequence[float], allowed: Allowed) -> ScoreMaps:
    """Product of experts: ``p ~ teacher * prod(expert ** weight)`` over the allowed classes, renormalised.

    An expert's scores become shares over the allowed classes first, mixed with ``EXPERT_FLOOR`` of the uniform share.
    Where no class is allowed all are zero.
    """
    if len(experts) != len(weights):
        raise DataError(
            f"{len(experts)} experts, {len(weights)} weights", expected="one each", cure="mend fused.experts"
        )
    classes = allowed.classes
    planes = allowed.planes(classes)
    logarithm = np.log(teacher.over(classes).astype(np.float32) + 1e-6)
    for expert, weight in zip(experts, weights, strict=True):
        if weight > 0:
            logarithm += weight * np.log(expert_shares(expert.over(classes), planes))
    logarithm = np.where(planes, logarithm, -np.inf)
    top = logarithm.max(0, keepdims=True)
    product = np.exp(logarithm - np.where(np.isfinite(top), top, 0))
    total = product.sum(0, keepdims=True)
    return _of_classes((product / np.where(total > 0, total, 1)).astype(np.float32), classes, teacher)


def expert_shares(expert: npt.NDArray[np.floating], planes: npt.NDArray[np.bool_]) -> Floats:
    """An expert's scores (P, H, W) as shares over the allowed classes, none below its part of ``EXPERT_FLOOR``."""
    scores = np.where(planes, expert, 0).astype(np.float32)
    uniform = planes / np.maximum(planes.sum(0, keepdims=True), 1)
    total = scores.sum(0, keepdims=True)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), uniform)
    return np.asarray((1 - EXPERT_FLOOR) * shares + EXPERT_FLOOR * uniform + 1e-9, np.float32)
