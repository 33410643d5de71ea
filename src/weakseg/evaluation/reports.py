"""The one door through which reports/evaluate and reports/audit are written and read: numbers under their own names.

A JSON object has no order, so no order of classes is ever taken from its keys: a report carries ``classes``, the order
of the rows and columns of every matrix in it, and whoever puts two reports side by side aligns them by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from weakseg.core.errors import DataError, StageError
from weakseg.evaluation.metrics import Confusion, Spread, class_iou

DENSE: Final = 24  # classes up to which a report holds whole matrices
_SAME: Final[Any] = {"rtol": 0, "atol": 1e-9, "equal_nan": True}  # an IoU in a report and the one its matrix gives


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _matrix(value: Any) -> Confusion:
    counts = _dense(value) if isinstance(value, dict) else np.asarray(value)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError("a confusion matrix is square and holds whole numbers, 0 or more")
    return counts.astype(np.int64)


def _dense(value: dict[str, Any]) -> Confusion:
    """What :func:`_written` made of a matrix of many classes."""
    count, cells = value["classes"], np.asarray(value["cells"], np.int64).reshape(-1, 3)
    if not isinstance(count, int) or (cells < 0).any() or (cells[:, :2] >= count).any():
        raise ValueError("cells of a confusion matrix lie inside it and hold whole numbers, 0 or more")
    counts = np.zeros((count, count), np.int64)
    counts[cells[:, 0], cells[:, 1]] = cells[:, 2]
    return counts


def _written(counts: Confusion) -> Any:
    """A matrix for JSON: of many classes the cells that are not 0, as (row, column, px); there are few in one area."""
    if len(counts) <= DENSE:
        return counts
    rows, columns = np.nonzero(counts)
    return {"classes": len(counts), "cells": np.stack([rows, columns, counts[rows, columns]], 1).tolist()}


def _spread(value: Any) -> Any:
    return {key: _number(number) for key, number in value.items()} if isinstance(value, dict) else value


Number = Annotated[float, BeforeValidator(_number)]  # null in a file is NaN: undefined
Matrix = Annotated[Confusion, PlainValidator(_matrix), PlainSerializer(_written)]


Model = TypeVar("Model", bound=BaseModel)


class _Record(BaseModel):
    """Part of a report; a newer weakseg may say more than is known here, and what an older one left out is NaN."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class AreaScores(_Record):
    """One validation area, seeds pooled.

    Attributes:
        confusion: int64 (C, C), rows truth, rows and columns in the order of the report's ``classes``.
        iou, f1: by class name, NaN for a class that is nowhere; like the other scores they follow from ``confusion``.
    """

    confusion: Matrix
    miou: Number = math.nan
    iou: dict[str, Number] = {}
    f1: dict[str, Number] = {}
    mf1: Number = math.nan
    oa: Number = math.nan
    kappa: Number = math.nan


class NetworkScores(_Record):
    """The scores of one seed's network, or their means over the seeds, in [0, 1] (kappa in [-1, 1]); NaN: undefined.

    Attributes:
        miou_objects: mean IoU without the background, NaN for schemes that have none.
        ece, ece_calibrated: expected calibration error of the winners' probabilities, as the network says them and at
            the temperatures that were fitted on the hold-out.
    """

    miou: Number
    iou: dict[str, Number]
    f1: dict[str, Number] = {}
    mf1: Number = math.nan
    oa: Number = math.nan
    kappa: Number = math.nan
    miou_eroded: Number = math.nan
    oa_eroded: Number = math.nan
    iou_batch_mean: Number = math.nan
    miou_objects: Number = math.nan
    ece: Number = math.nan
    ece_calibrated: Number = math.nan


class ObjectScores(_Record):
    """Objects of one class and size: see :mod:`weakseg.evaluation.objects`.

    Attributes:
        smallest, largest: px; None: no limit.
        objects: in the truth.  found: of them, half of their pixels or more.  unsure: not found, without a guess there;
            what is left is swallowed by other classes.  strays: regions of the mask that meet no object.
        recall: found of objects.  iou: over the pixels of these objects and what is laid to them.
    """

    smallest: int
    largest: int | None
    objects: int
    found: int
    unsure: int
    strays: int
    recall: Number
    iou: Number


class EvaluationReport(NetworkScores):
    """What evaluate@SOURCE says: reports/evaluate/SOURCE.json.

    Attributes:
        classes: the C names in the order of every matrix in the report.
        areas: by name of the validation area.
        seeds: by ``seed0``, ``seed1``, ...
        selection, steps: how checkpoints were chosen and how long was trained.
        validation_data: hash of the validation areas.
        objects: by class name and size, counted over all seeds; {} in reports of before.

    Raises (ValidationError, from :func:`parse_evaluation` a DataError): names and matrices that do not fit each other.
    """

    classes: tuple[str, ...]
    areas: dict[str, AreaScores]
    seeds: dict[str, NetworkScores] = {}
    miou_over_seeds: Annotated[Spread, BeforeValidator(_spread)] = Spread(math.nan, math.nan, math.nan, 0)
    selection: str = ""
    steps: int | None = None
    seam_share: Number = math.nan
    validation_data: str
    objects: dict[str, tuple[ObjectScores, ...]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_names(self.classes, self.iou)
        for name, area in self.areas.items():
            if area.confusion.shape[0] != len(self.classes):
                raise ValueError(f"area {name} has a matrix of {area.confusion.shape[0]} classes")
            if area.iou:
                check_names(self.classes, area.iou)
                pairs = zip(self.classes, class_iou(area.confusion), strict=True)
                if wrong := [n for n, iou in pairs if not np.isclose(area.iou[n], iou, **_SAME)]:
                    raise ValueError(f"area {name}: the IoU of {wrong[0]} is not what its confusion matrix gives")
        return self

    @property
    def confusions(self) -> dict[str, Confusion]:
        """int64 (C, C) per validation area, summed over the seeds, in the order of ``classes``."""
        return {name: area.confusion for name, area in self.areas.items()}

    @property
    def pooled(self) -> Confusion:
        """int64 (C, C) over all areas and seeds."""
        return sum(self.confusions.values(), np.zeros((len(self.classes),) * 2, np.int64))

    def aligned_to(self, classes: Sequence[str], what: str) -> EvaluationReport:
        """The same report with its matrices in this order of the classes.

        Args:
            classes: the same names in any order.
            what: the report is of, for the message.

        Raises:
            StageError: the names are others.
        """
        order = order_among(self.classes, classes, what)
        areas = {
            name: area.model_copy(update={"confusion": area.confusion[np.ix_(order, order)]})
            for name, area in self.areas.items()
        }
        return self.model_copy(update={"classes": tuple(classes), "areas": areas})


class WinnerScores(_Record):
    """What the maps behind pseudo-masks say without thresholds: the top class of every pixel that they know.

    Attributes:
        iou: by class name. objects: by class name and size.
    """

    miou: Number
    iou: dict[str, Number]
    coverage: Number
    objects: dict[str, tuple[ObjectScores, ...]] = {}


class AuditReport(_Record):
    """What audit@METHOD says of pseudo-masks: reports/audit/METHOD.json; it holds no matrix, so names alone will do.

    Attributes:
        classes: the class names in index order; () in reports of before.
        areas: number of N2 areas with a mask and truth.
        iou: by class name.
        miou_objects: mean IoU without the background, NaN for schemes that have none.
        objects: by class name and size; {} in reports of before.
        winners: the same before thresholds; None in reports of before.
        rounds: the same of each round of a teacher of several, the last being the masks in force.
    """

    classes: tuple[str, ...] = ()
    areas: int = 0
    miou: Number
    miou_objects: Number = math.nan
    iou: dict[str, Number]
    accuracy: Number
    coverage: Number
    objects: dict[str, tuple[ObjectScores, ...]] = {}
    winners: WinnerScores | None = None
    rounds: tuple[AuditReport, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.classes:
            check_names(self.classes, self.iou)
        return self


def check_names(classes: Sequence[str], named: dict[str, float]) -> None:
    """Raise ValueError unless ``classes`` are names, each once, and ``named`` has a value for each and no other."""
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes {', '.join(classes) or 'none'}: one name at least and each once")
    if set(classes) != set(named):
        raise ValueError(f"classes {', '.join(classes)}, but IoU of {', '.join(named) or 'none'}")


def order_among(found: Sequence[str], wanted: Sequence[str], what: str) -> list[int]:
    """For each wanted class its place among the found ones.

    Raises:
        StageError: the names are others.
    """
    if set(found) != set(wanted):
        raise StageError(
            f"{what} has classes {', '.join(found)}",
            expected=f"{', '.join(wanted)}, in any order",
            cure="evaluate again with one class scheme",
        )
    return [list(found).index(name) for name in wanted]


def read_evaluation(path: Path) -> EvaluationReport:
    """reports/evaluate/SOURCE.json of a workspace.

    Raises:
        DataError: it does not say the order of its classes, or is no such report.
    """
    return parse_evaluation(path.read_text(), str(path), cure=f"run `dvc repro -f -s evaluate@{path.stem}`")


def read_audit(path: Path) -> AuditReport:
    """reports/audit/METHOD.json of a workspace; DataError if it is no such report."""
    cure = f"run `dvc repro -f -s audit@{path.stem}`"
    return _validated(AuditReport, _parsed(path.read_text(), str(path), cure), str(path), cure)


def parse_evaluation(text: str, what: str, *, cure: str, any_order: bool = False) -> EvaluationReport:
    """A report of evaluate from its JSON.

    A report of before ``classes`` were written is taken where it proves its order: the IoUs of its areas stand there by
    name and follow from matrices in class order, so where they leave one order, that is the order. Else it is refused.

    Args:
        what: to call it in messages.
        cure: how to get a report that says its classes.
        any_order: take a report whose order is unknown in some order: for mIoU alone, which no order changes.

    Raises:
        DataError: no JSON, no such report, or one that does not say the order of its classes.
    """
    content = _parsed(text, what, cure)
    if "classes" not in content:
        names = order_of(content)
        if names is None and any_order and isinstance(content.get("iou"), dict):
            names = tuple(sorted(content["iou"]))
            content = {**content, "areas": {n: {"confusion": a["confusion"]} for n, a in content["areas"].items()}}
        if names is None:
            raise DataError(
                f"{what} does not say which class each row of its confusion matrices is",
                expected="a list `classes` (reports of older weakseg had none)",
                cure=cure,
            )
        content = {**content, "classes": names}
    return _validated(EvaluationReport, content, what, cure)


def order_of(content: dict[str, Any]) -> tuple[str, ...] | None:
    """The one order of classes in which every area's matrix gives the IoUs that the area has by name; None if not one.

    Two classes with the same IoU in every area (none of them there, for instance) leave two orders.
    """
    try:
        areas = [AreaScores.model_validate(area) for area in content["areas"].values()]
    except (KeyError, AttributeError, ValidationError):
        return None
    return _one_order(areas)


def _one_order(areas: Sequence[AreaScores]) -> tuple[str, ...] | None:
    names = sorted(areas[0].iou) if areas else []
    if not names or any(sorted(area.iou) != names or len(area.confusion) != len(names) for area in areas):
        return None
    named = np.array([[area.iou[name] for name in names] for area in areas])  # (areas, names)
    placed = np.array([class_iou(area.confusion) for area in areas])  # (areas, places)
    fits = np.isclose(named[:, :, None], placed[:, None, :], **_SAME).all(0)
    if (fits.sum(0) != 1).any() or (fits.sum(1) != 1).any():
        return None
    return tuple(names[index] for index in fits.argmax(0))


def _parsed(text: str, what: str, cure: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{what} is no JSON ({error})", expected="a report", cure=cure) from error
    if not isinstance(content, dict):
        raise DataError(f"{what} is a JSON {type(content).__name__}", expected="a report", cure=cure)
    return content


def _validated(kind: type[Model], content: dict[str, Any], what: str, cure: str) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise DataError(
            f"{what}: {place + ': ' if place else ''}{said}", expected="what weakseg writes", cure=cure
        ) from error
