"""What the page shows, as plain data: filled by the report stage, drawn by ``render``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import ClassScheme
from weakseg.evaluation.bootstrap import Interval
from weakseg.report.embed import shrink

Role = Literal["task_i", "untagged", "task_ii", "oracle"]
Item = TypeVar("Item")
Points = list[tuple[float, float]]
SIDES = (640, 480, 360, 256)  # px, tried in turn until all pictures fit


@dataclass(frozen=True)
class Row:
    """One line of the table of results.

    Attributes:
        source: name in the pipeline.  label: for readers.  short: for narrow places.
        miou: mean over seeds.  low, high: smallest and largest seed.  seeds: how many.
        iou: by class name, None where undefined.
        gain: mIoU over task (i).  gain_by_tags: over untagged.
        gap: share of the gap between task (i) and the oracle; None where it says nothing.
        ece: expected calibration error as the network says its confidence, and calibrated.
        miou_objects: mean IoU without a background.
    """

    source: str
    label: str
    short: str
    role: Role
    miou: float
    low: float
    high: float
    seeds: int
    iou: dict[str, float | None]
    oa: float | None
    miou_eroded: float | None
    gain: Interval | None = None
    gain_by_tags: Interval | None = None
    gap: Interval | None = None
    ece: tuple[float, float] | None = None
    miou_objects: float | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the error of the confidence is known before and after calibration."""
        return self.ece is not None and not any(math.isnan(error) for error in self.ece)


@dataclass(frozen=True)
class Layer:
    """One picture of a scene: the image, the truth, or a map, with a short note such as its mIoU."""

    key: str
    label: str
    data: bytes
    note: str = ""


@dataclass(frozen=True)
class Scene:
    """One area, or one crop, in several layers of equal size."""

    name: str
    layers: tuple[Layer, ...]
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One training, per seed: (step, value) pairs."""

    source: str
    label: str
    seeds: tuple[Points, ...]


@dataclass(frozen=True)
class Audit:
    """Pseudo-masks of one method against the hidden truth of N2."""

    method: str
    coverage: float | None
    accuracy: float | None
    miou: float | None
    iou: dict[str, float | None]
    miou_objects: float | None = None


@dataclass(frozen=True)
class CostPoint:
    """mIoU of one source at one budget of labelling hours."""

    budget: str
    source: str
    hours: float
    miou: float
    seeds: int


@dataclass(frozen=True)
class MeasuredAreas:
    """What ``weakseg areas --json reports/areas.json`` found; its zones as they stand there.

    Attributes:
        map: the map.  corrected: whether for its errors.  notes: what to know first.
        zones: with ``zone``, ``covered`` and ``classes``, each with ``name``, ``mapped``, ``adjusted``, ``low`` and
            ``high`` in m2, None where undefined.
    """

    map: str
    corrected: bool
    notes: tuple[str, ...]
    zones: list[dict[str, Any]]


@dataclass(frozen=True)
class LabelChanges:
    """What the report says of two versions of labels.

    Attributes:
        head: which versions.  points: what changed, by whom.
        rows: of the table of runs, cells under ``label_words.COLUMNS``.
    """

    head: str
    points: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Tuning:
    """One study of `weakseg tune`: how its trials ended, and what the best one is worth on the hold-out inside N1.

    Attributes:
        states: how many trials by Optuna's state; untuned, best: mIoU on the hold-out.
        number: of the best trial.  values: its settings by path.  pictures: plots of the study.
    """

    name: str
    states: dict[str, int]
    untuned: float
    best: float
    number: int
    values: dict[str, float]
    pictures: tuple[Layer, ...]


@dataclass(frozen=True)
class Page:
    """Everything on the page.

    Attributes:
        scheme: classes in the colours of all pictures.
        safe_colours: whether these are told apart by colour-blind readers.
        counts: areas of N1, N2 and validation.
        rows: task (i) first; the order of all charts.
        confusions: int64 (C, C) by source, rows truth.
        curve_name: what ``curves`` shows, e.g. "mIoU on the hold-out inside N1".
        tuning: the last study of `weakseg tune`; None where there is none.
        costs_said: sentences about ``costs``: what labels cost and who says so, what an hour more buys.
        label_changes: of `weakseg labels diff`; None where it has not run.
        measured: class areas of a map of `weakseg areas`; None where there are none.
        validation, weak: scenes of validation and N2 areas; the first layer is the image.
        validation_all, weak_all: how many areas there are, shown or not.
        worst: by source, the crops with the largest share of wrong pixels, worst first.
        facts: (name, value) of hashes and versions.  runs: MLflow run id by stage, as far as known.
        warnings: sentences that qualify all numbers.
    """

    title: str
    written: str
    scheme: ClassScheme
    safe_colours: bool
    counts: tuple[int, int, int]
    rows: list[Row]
    audits: list[Audit] = field(default_factory=list)
    confusions: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    curve_name: str = ""
    tuning: Tuning | None = None
    measured: MeasuredAreas | None = None
    costs: list[CostPoint] = field(default_factory=list)
    costs_said: list[str] = field(default_factory=list)
    label_changes: LabelChanges | None = None
    validation: list[Scene] = field(default_factory=list)
    weak: list[Scene] = field(default_factory=list)
    validation_all: int = 0
    weak_all: int = 0
    worst: dict[str, list[Scene]] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, evenly spaced, first and last among them."""
    if len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def fit_pictures(page: Page, budget: int) -> Page:
    """The page with pictures of at most ``budget`` bytes together: smaller ones first, then fewer areas.

    Crops and plots are small and stay as they are.
    """
    plots = page.tuning.pictures if page.tuning else ()
    room = budget - sum(_weight(scenes) for scenes in page.worst.values()) - sum(len(plot.data) for plot in plots)
    validation, weak = page.validation, page.weak
    for side in SIDES:
        validation, weak = _shrunk(page.validation, side), _shrunk(page.weak, side)
        if _weight(validation) + _weight(weak) <= room:
            break
    while _weight(validation) + _weight(weak) > room and len(validation) + len(weak) > 2:
        weak = evenly(weak, max(1, len(weak) // 2))
        validation = evenly(validation, max(1, len(validation) * 3 // 4))
    return replace(page, validation=validation, weak=weak)


def _shrunk(scenes: list[Scene], side: int) -> list[Scene]:
    return [
        replace(scene, layers=tuple(replace(layer, data=shrink(layer.data, side)) for layer in scene.layers))
        for scene in scenes
    ]


def _weight(scenes: list[Scene]) -> int:
    return sum(len(layer.data) for scene in scenes for layer in scene.layers)
