"""One definition of every reported number, from confusion matrices pooled over areas.

Four steps, as in torchmetrics: check, format, update (:func:`confusion_matrix`) and reduce (:func:`scores_of`).
Matrices are int64 (C, C), rows = truth, columns = prediction, and matrices of the same classes simply add up.
Undefined numbers are NaN and stay NaN through means of everything else; :func:`to_json` writes them as null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.errors import DataError, ParamsError

Confusion = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_EXACT = 1 << 24  # px counted at a time: OpenCV hands its counts over as float32, exact up to here


class Scores(TypedDict):
    """All scores of one confusion matrix, in [0, 1] (kappa in [-1, 1]); NaN where undefined."""

    miou: float
    iou: dict[str, float]
    f1: dict[str, float]
    mf1: float
    oa: float
    kappa: float


class MapScores(Scores):
    """All scores of one map, and ``confusion``: int64 (C, C) px, rows = truth, columns = prediction."""

    confusion: Confusion


@dataclass(frozen=True)
class Spread:
    """Mean, smallest and largest value over ``count`` seeds; NaN and count 0 where no seed gave a value."""

    mean: float
    low: float
    high: float
    count: int


def confusion_matrix(truth: Mask, prediction: npt.NDArray[np.integer], classes: int) -> Confusion:
    """Count pixels by true and predicted class.

    Args:
        truth: uint8, any shape, classes 0..C-1 or 255 = ignore; ignored pixels are dropped whatever was predicted.
        prediction: integers of the same shape; 0..C-1 wherever the truth is labelled.
        classes: C, 1 to 255.

    Returns:
        int64 (C, C), rows = truth, columns = prediction.

    Raises:
        DataError: shapes differ, truth is not uint8, or a label is outside 0..C-1. A prediction of 255 on a labelled
            pixel is refused as well: to score a partial mask, set the truth to 255 there and report the coverage.
    """
    _check_masks(truth, prediction)
    table = _joint_histogram(truth, _format_prediction(prediction))
    stray = table[classes:IGNORE].any(axis=1)
    if stray.any():
        raise DataError(
            f"truth label {classes + int(stray.argmax())}",
            expected=f"0..{classes - 1} or {IGNORE}",
            cure="use the class scheme that the mask was made with",
        )
    unscored = table[:classes, classes:].sum(axis=0)
    if unscored.any():
        raise DataError(
            f"{unscored.sum()} labelled px have predictions such as {classes + int(unscored.argmax())}",
            expected=f"0..{classes - 1} wherever the truth is labelled",
            cure="predict every pixel, or set the truth to 255 where there is no prediction",
        )
    return table[:classes, :classes].copy()


def _check_masks(truth: Mask, prediction: npt.NDArray[np.integer]) -> None:
    if truth.shape != prediction.shape:
        raise DataError(
            f"truth {truth.shape} and prediction {prediction.shape}",
            expected="the same shape",
            cure="score the prediction against the mask of its own area",
        )
    if truth.dtype != np.uint8 or prediction.dtype.kind not in "iu":
        raise DataError(
            f"truth of {truth.dtype} and prediction of {prediction.dtype}",
            expected="uint8 truth and integer prediction",
            cure="turn logits into classes by argmax, and masks into uint8",
        )


def _format_prediction(prediction: npt.NDArray[np.integer]) -> Mask:
    """uint8; what does not fit becomes 255, which no class can be."""
    if prediction.dtype == np.uint8:
        return prediction.astype(np.uint8, copy=False)
    return np.where((prediction < 0) | (prediction > IGNORE), IGNORE, prediction).astype(np.uint8)


def _joint_histogram(truth: Mask, prediction: Mask) -> Confusion:
    """int64 (256, 256): pixels of each pair of labels. Twice as fast as bincount, which needs an int64 copy."""
    table = np.zeros((256, 256), np.int64)
    flat_truth, flat_prediction = truth.reshape(1, -1), prediction.reshape(1, -1)
    for start in range(0, flat_truth.size, _EXACT):
        pieces = [mask[:, start : start + _EXACT] for mask in (flat_truth, flat_prediction)]
        table += cv2.calcHist(pieces, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return table


def class_iou(confusion: npt.NDArray[np.number]) -> Floats:
    """IoU = TP / (TP + FP + FN) per class, (..., C, C) -> float64 (..., C); NaN for a class in neither mask."""
    return iou_of_counts(class_counts(confusion))


def class_counts(confusion: npt.NDArray[np.number]) -> Floats:
    """Right, true and predicted px per class, (..., C, C) -> float64 (..., 3, C): all that an IoU is made of.

    They add up as matrices do, and a hundred classes take a hundredth of the room.
    """
    return np.stack(_marginals(confusion), axis=-2)


def iou_of_counts(counts: Floats) -> Floats:
    """:func:`class_iou` from :func:`class_counts`, (..., 3, C) -> float64 (..., C)."""
    hits, truth, predicted = np.moveaxis(counts, -2, 0)
    return ratio(hits, truth + predicted - hits)


def class_f1(confusion: npt.NDArray[np.number]) -> Floats:
    """F1 = 2 TP / (2 TP + FP + FN) per class, (..., C, C) -> float64 (..., C); NaN for a class in neither mask."""
    hits, truth, predicted = _marginals(confusion)
    return ratio(2 * hits, truth + predicted)


def mean_iou(confusion: npt.NDArray[np.number]) -> Floats:
    """Plain mean of :func:`class_iou` over the classes that have one, (..., C, C) -> float64 (...)."""
    return mean_known(class_iou(confusion))


def scores_of(confusion: Confusion, names: Sequence[str]) -> Scores:
    """Reduce one confusion matrix to the reported scores.

    A class that occurs neither in the truth nor in the prediction has IoU and F1 NaN and is left out of both means: it
    counts as neither 0 nor 1. A class that is predicted but never true has IoU 0 and counts. Overall accuracy is the
    share of labelled pixels that are right; kappa is Cohen's, NaN where chance agreement is already 1. With no labelled
    pixel at all everything is NaN.

    Args:
        confusion: int64 (C, C), rows = truth.
        names: the C class names.
    """
    check_confusion(confusion, len(names))
    iou, f1 = class_iou(confusion), class_f1(confusion)
    hits, truth, predicted = _marginals(confusion)
    total = confusion.sum(dtype=np.float64)
    accuracy = ratio(hits.sum(), total)
    chance = ratio((truth * predicted).sum(), total * total)
    kappa = ratio(accuracy - chance, 1.0 - chance)
    return Scores(
        miou=float(mean_known(iou)),
        iou={name: float(value) for name, value in zip(names, iou, strict=True)},
        f1={name: float(value) for name, value in zip(names, f1, strict=True)},
        mf1=float(mean_known(f1)),
        oa=float(accuracy),
        kappa=float(kappa),
    )


def miou_objects(iou: Mapping[str, float], background: str) -> float:
    """Mean IoU without the background: by class name, NaN left out; NaN where no object has one, or without any.

    A background covers most of an image and is mostly right, so that a mean with it flatters.
    """
    objects = np.array([value for name, value in iou.items() if name != background], np.float64)
    return float(mean_known(objects)) if background else math.nan


def score(truth: Mask, prediction: npt.NDArray[np.integer], classes: ClassScheme | Sequence[str]) -> MapScores:
    """All scores of one map, and the confusion matrix that they come from; matrices of several maps add up.

    Args:
        truth: uint8 (H, W), class indices, 255 = ignore.
        prediction: integers (H, W), class indices; 255 only where the truth is 255 too.
        classes: the scheme of both, or its C names in index order.

    Raises:
        DataError: shapes or values that do not fit, as :func:`confusion_matrix` says.
    """
    names = classes.names if isinstance(classes, ClassScheme) else tuple(classes)
    confusion = confusion_matrix(truth, prediction, len(names))
    return MapScores(**scores_of(confusion, names), confusion=confusion)


def check_confusion(confusion: npt.NDArray[np.number], classes: int) -> None:
    """Raise DataError unless ``confusion`` is a (C, C) matrix of counts."""
    if confusion.shape != (classes, classes) or (confusion < 0).any():
        raise DataError(
            f"confusion matrix {confusion.shape} for {classes} classes",
            expected=f"counts ({classes}, {classes})",
            cure="evaluate with the class scheme of the data",
        )


def _marginals(confusion: npt.NDArray[np.number]) -> tuple[Floats, Floats, Floats]:
    counts = np.asarray(confusion, np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """part / whole as float64, NaN where whole is 0."""
    divisor = np.asarray(whole, np.float64)
    return np.asarray(part, np.float64) / np.where(divisor == 0, np.nan, divisor)


def mean_known(values: Floats) -> Floats:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1))


def erode_boundaries(mask: Mask, radius: int = 3) -> Mask:
    """Ignore what lies near a boundary between labels: the rule of the ISPRS benchmark.

    Every pixel with a different label within ``radius`` px of it (a disc: distance <= radius, centre to centre) becomes
    255, which is erosion of each label's region by that disc. 255 counts as a label of its own, because clutter, which
    we ignore, has eroded borders in the benchmark too; so use complete masks, not already eroded ones. The rim of the
    mask is no boundary.

    Args:
        mask: uint8 (H, W); not changed.
        radius: px, 0 or more; the benchmark uses 3.
    """
    if radius < 0:
        raise ParamsError(f"radius {radius}", expected="0 px or more", cure="use 3, the ISPRS rule")
    offsets = np.arange(-radius, radius + 1)
    disc = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.uint8)
    lowest, highest = cv2.erode(mask, disc), cv2.dilate(mask, disc)  # smallest and largest label in the disc
    return np.where(lowest == highest, mask, np.uint8(IGNORE))


def iou_batch_mean(
    pairs: Iterable[tuple[Mask, npt.NDArray[np.integer]]], names: Sequence[str], *, tile: int = 200, batch: int = 10
) -> tuple[float, dict[str, float]]:
    """Mean of per-batch IoU: only for comparison with the published 0.531 and 0.603, never for a claim.

    Protocol of github.com/LucaBon/weakly_semi-supervised_segmentation: every area is cut into ``tile`` px squares from
    its upper left corner, row by row, and the strips that are left at the right and lower edge are dropped; the squares
    of all areas form one sequence, cut into batches of ``batch`` (a batch may span two areas; the last may be smaller
    and weighs as much as any other). A batch gives one IoU per class from its own confusion matrix; a class in neither
    truth nor prediction of the batch is NaN and left out of that class's mean over batches, while a class that is only
    predicted gives 0. The result is the mean over classes of these means. Deviation: pixels of clutter are ignored here
    and count as errors there; a class in no batch is left out of the last mean here and makes it NaN there.

    Args:
        pairs: (truth uint8 (H, W), prediction (H, W)) of each area, in the order of the split's list.
        names: the C class names.

    Returns:
        The mean (NaN where no tile fits) and the mean per class name.
    """
    counts = [confusion_matrix(*piece, len(names)) for pair in pairs for piece in _cut_tiles(*pair, tile)]
    starts = range(0, len(counts), batch)
    batches = np.array([np.sum(counts[start : start + batch], axis=0) for start in starts], np.int64)
    per_class = mean_known(class_iou(batches.reshape(-1, len(names), len(names))).T)
    return float(mean_known(per_class)), {name: float(value) for name, value in zip(names, per_class, strict=True)}


def _cut_tiles(
    truth: Mask, prediction: npt.NDArray[np.integer], tile: int
) -> Iterator[tuple[Mask, npt.NDArray[np.integer]]]:
    _check_masks(truth, prediction)
    for row in range(0, truth.shape[0] - tile + 1, tile):
        for column in range(0, truth.shape[1] - tile + 1, tile):
            here = np.s_[row : row + tile, column : column + tile]
            yield truth[here], prediction[here]


def over_seeds(values: Iterable[float]) -> Spread:
    """Mean and range of one number over seeds; NaN values (undefined in that run) are left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan, 0)
    return Spread(math.fsum(known) / len(known), min(known), max(known), len(known))


def average_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over seeds of every number, keeping the nesting of ``iou`` and ``f1``; NaN is left out as in over_seeds.

    Args:
        rows: the scores of each seed's network; all have the keys of the first.
    """
    mean: dict[str, Any] = {}
    for key, value in rows[0].items():
        if isinstance(value, Mapping):
            mean[key] = average_scores([row[key] for row in rows])
        else:
            mean[key] = over_seeds([row[key] for row in rows]).mean
    return mean


def to_json(value: object) -> object:
    """Plain JSON types: NaN and infinities -> None, dataclasses and mappings -> dict, arrays and tuples -> list."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    raise DataError(f"a {type(value).__name__}", expected="numbers, text, lists and mappings", cure="convert it first")
