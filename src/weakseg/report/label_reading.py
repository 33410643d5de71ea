"""The labels of a version of data/, out of the workspace or out of DVC's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.config import load_yaml
from weakseg.core.layout import Layout
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import BoxTable
from weakseg.labels.tag_table import RASTERS, raster_sizes, read_tags
from weakseg.labels.tags import TagWindow
from weakseg.tracking import data_hash
from weakseg.tracking.data_versions import DataVersion, cached_file, link_version

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


def workspace_version(root: Path, cache: Path) -> DataVersion:
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


def place_of(layout: Layout, version: DataVersion, scratch: Path, cache: Path) -> Layout:
    """Where the files of a version can be read by their names."""
    if version.rev == NOW and not version.commit:
        return layout
    names = [name for name in version.files if name.startswith(_LABELS)]
    return link_version(version, Layout(scratch), cache, names)


def read_labels(layout: Layout, version: DataVersion) -> Labels:
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
