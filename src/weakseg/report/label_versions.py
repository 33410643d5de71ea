"""`weakseg labels diff REV`: which labels changed between two versions of data/, by whom, and what that did to mIoU.

DVC knows the labels: data.dvc of a commit names every file, its cache has them. The metrics are those of the runs that
read these very data: of `reports/` where its dvc.lock says so, else of DVC's cache, else of MLflow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg.core.classes import load_classes
from weakseg.core.errors import DataError, TrackingError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.evaluation.bootstrap import Interval, paired_bootstrap
from weakseg.evaluation.reports import EvaluationReport, parse_evaluation
from weakseg.labels.box_table import Box
from weakseg.labels.changes import (
    CropChange,
    PixelChange,
    Work,
    box_changes,
    crop_changes,
    pixel_change,
    unanswered,
    work_between,
)
from weakseg.labels.prices import read_prices
from weakseg.raster.open import read_mask
from weakseg.report.label_reading import Labels, place_of, read_labels, workspace_version
from weakseg.tracking import find_evaluation_of_data
from weakseg.tracking.data_versions import (
    DataVersion,
    cache_folder,
    locked_output,
    read_version,
)


@dataclass(frozen=True)
class RunChange:
    """One source of labels, trained on both versions.

    Attributes:
        before, after: mIoU on the validation areas; None where no run of that version is known.
        difference: after minus before, paired over the validation areas, seeds pooled; None where it cannot be said.
        why: there is none.
    """

    source: str
    before: float | None
    after: float | None
    difference: Interval | None
    why: str


@dataclass(frozen=True)
class LabelComparison:
    """Two versions of labels.

    Attributes:
        before, after: as they were named.  data: md5 of data/ of both; "" of data that DVC does not know yet.
        unanswered: changed crops that nobody has answered in between.
        estimated: seconds that new boxes and newly labelled pixels take by the prices of the workspace.
    """

    before: str
    after: str
    data: tuple[str, str]
    crops: Sequence[CropChange]
    boxes_added: Sequence[Box]
    boxes_removed: Sequence[Box]
    pixels: Sequence[PixelChange]
    work: Sequence[Work]
    unanswered: int
    estimated: float
    runs: Sequence[RunChange]


def compare_labels(root: Path, revs: str) -> LabelComparison:
    """The labels of a commit against those of the workspace, or ``A..B``: of two commits; and the runs of both.

    Raises:
        DataError: no such commit, or data that is not in DVC's cache.
    """
    old, _, new = revs.partition("..")
    if not old or (".." in revs and not new) or new.startswith("."):
        raise DataError(f"revision {revs!r}", expected="a commit, or two with .. between them", cure="name them so")
    cache, layout = cache_folder(root), Layout(root)
    before = read_version(root, old, cache)
    after = read_version(root, new, cache) if new else workspace_version(root, cache)
    with tempfile.TemporaryDirectory() as scratch:
        places = [
            place_of(layout, version, Path(scratch) / name, cache) for version, name in ((before, "a"), (after, "b"))
        ]
        one, two = (read_labels(place, version) for place, version in zip(places, (before, after), strict=True))
        return _compare(root, (before, after), one, two, cache)


def _compare(
    root: Path, versions: tuple[DataVersion, DataVersion], one: Labels, two: Labels, cache: Path
) -> LabelComparison:
    schemes = (one.scheme, two.scheme)
    crops = crop_changes(one.tags, two.tags, schemes)
    added, removed = box_changes(one.boxes, two.boxes)
    pixels = list(_pixel_changes(one, two))
    layout = Layout(root)
    prices = read_prices(layout, load_classes(layout.classes), load_params(layout.params).label_cost)
    fresh = sum(change.changed for change in pixels if change.what != "removed")
    before, after = versions
    return LabelComparison(
        before.rev,
        after.rev,
        (before.md5, after.md5),
        crops,
        added,
        removed,
        pixels,
        work_between(one.answers, two.answers),
        unanswered(crops, one.answers, two.answers),
        prices.pixel_seconds(fresh) + len(added) * prices.box.seconds,
        _run_changes(root, versions, cache),
    )


def _run_changes(root: Path, versions: tuple[DataVersion, DataVersion], cache: Path) -> list[RunChange]:
    """Of all sources of params.yaml that have been trained on one of the versions; of all where none has."""
    runs = [_compare_runs(root, versions, source, cache) for source in load_params(Layout(root).params).sources]
    return [run for run in runs if (run.before, run.after) != (None, None)] or runs


def _pixel_changes(one: Labels, two: Labels) -> Iterable[PixelChange]:
    schemes = (one.scheme, two.scheme)
    for area in sorted({**one.masks, **two.masks}):
        if one.digests.get(area) == two.digests.get(area) and schemes[0] == schemes[1]:
            continue
        masks = [
            read_mask(labels.masks[area], labels.scheme) if area in labels.masks else None for labels in (one, two)
        ]
        if (change := pixel_change(area, masks[0], masks[1], schemes)) is not None:
            yield change


def _compare_runs(root: Path, versions: tuple[DataVersion, DataVersion], source: str, cache: Path) -> RunChange:
    """The evaluations of a source that were trained on either version, side by side."""
    left, right = (_evaluation(root, version, source, cache) for version in versions)
    known = [None if report is None else report.miou for report in (left, right)]
    why = ""
    if left is None or right is None:
        missing = " and ".join(v.rev for v, report in zip(versions, (left, right), strict=True) if report is None)
        why = f"no run on the data of {missing}"
    elif left.validation_data != right.validation_data:
        why = "other validation areas"
    elif set(left.classes) != set(right.classes):
        why = "other classes"
    if left is None or right is None or why:
        return RunChange(source, known[0], known[1], None, why)
    options = load_params(Layout(root).params).report
    right = right.aligned_to(left.classes, source)
    found = paired_bootstrap(
        left.confusions, right.confusions, left.classes, draws=options.draws, seed=options.seed
    ).miou
    return RunChange(source, known[0], known[1], found, "")


def _evaluation(root: Path, version: DataVersion, source: str, cache: Path) -> EvaluationReport | None:
    """The report of a source that was trained on these data; None where none is known."""
    if not version.md5:
        return None
    cure = f"evaluate {source} again"
    if version.trained_on(source) == version.md5:
        path = f"reports/evaluate/{source}.json"
        here = root / path if not version.commit else locked_output(version, cache, path)
        if here is not None and here.is_file():
            return parse_evaluation(here.read_text(), f"{path} of {version.rev}", cure=cure)
    try:
        text = find_evaluation_of_data(root, source, version.md5)
    except TrackingError:  # the two reports may both lie here: they are compared without a server
        return None
    return parse_evaluation(text, f"the run of {source} on {version.rev}", cure=cure) if text else None
