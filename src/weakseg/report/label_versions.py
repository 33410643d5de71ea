"""`weakseg labels diff REV`: which labels changed between two versions of data/, by whom, and what that did to mIoU.

DVC knows the labels: data.dvc of a commit names every file, its cache has them. The metrics are those of the runs that
read these very data: of `reports/` where its dvc.lock says so, else of DVC's cache, else of MLflow.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError, TrackingError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.evaluation.bootstrap import Interval, paired_bootstrap
from weakseg.evaluation.reports import EvaluationReport, parse_evaluation
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import Box, BoxTable
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
from weakseg.labels.tag_table import RASTERS, raster_sizes, read_tags
from weakseg.labels.tags import TagWindow
from weakseg.raster.open import read_mask
from weakseg.tracking import data_hash, find_evaluation_of_data
from weakseg.tracking.data_versions import (
    DataVersion,
    cache_folder,
    cached_file,
    link_version,
    locked_output,
    read_version,
)

NOW: Final = "now"
_LABELS: Final = ("labels/", "tags/", "boxes/", "classes.yaml", "images/")


@dataclass(frozen=True)
class Labels:
    """All labels of one version of data/.

    Attributes:
        masks: path by area.  digests: content md5 of each.
    """

    scheme: ClassScheme
    tags: Sequence[TagWindow]
    boxes: BoxTable
    masks: Mapping[str, Path]
    digests: Mapping[str, str]
    answers: Sequence[TagAnswer]


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
    after = read_version(root, new, cache) if new else _workspace_version(root, cache)
    with tempfile.TemporaryDirectory() as scratch:
        places = [
            _place(layout, version, Path(scratch) / name, cache) for version, name in ((before, "a"), (after, "b"))
        ]
        one, two = (_read_labels(place, version) for place, version in zip(places, (before, after), strict=True))
        return _compare(root, (before, after), one, two, cache)


def _workspace_version(root: Path, cache: Path) -> DataVersion:
    """data/ as it lies there. Its md5 is that of data.dvc if the labels are still those that DVC has recorded."""
    data = Layout(root).data
    files = {
        path.relative_to(data).as_posix(): ""
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.relative_to(data).as_posix().startswith(_LABELS)
    }
    labels = {name: _md5(data / name) if not name.startswith("images/") else "" for name in files}
    md5 = data_hash(root)
    listed = cached_file(cache, md5)
    recorded = {entry["relpath"]: entry["md5"] for entry in json.loads(listed.read_text())} if listed else {}
    same = {name: md5 for name, md5 in recorded.items() if name.startswith(_LABELS) and not name.startswith("images/")}
    if same != {name: digest for name, digest in labels.items() if digest}:
        md5 = ""
    lock = root / "dvc.lock"
    return DataVersion(NOW, "", md5, labels, (load_yaml(lock) or {}) if lock.is_file() else {})


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _place(layout: Layout, version: DataVersion, scratch: Path, cache: Path) -> Layout:
    """Where the files of a version can be read by their names."""
    if version.rev == NOW and not version.commit:
        return layout
    names = [name for name in version.files if name.startswith(_LABELS)]
    return link_version(version, Layout(scratch), cache, names)


def _read_labels(layout: Layout, version: DataVersion) -> Labels:
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    masks = (
        {path.stem: path for path in sorted(layout.labels.glob("*")) if path.suffix.casefold() in RASTERS}
        if layout.labels.is_dir()
        else {}
    )
    return Labels(
        scheme,
        read_tags(layout.tags_csv, scheme, sizes) if layout.tags_csv.is_file() else [],
        read_boxes(layout.box_file, scheme, sizes) if layout.box_file.is_file() else BoxTable(),
        masks,
        {area: version.files[f"labels/{path.name}"] for area, path in masks.items()},
        read_answers(layout.merged_answers, scheme),
    )


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
