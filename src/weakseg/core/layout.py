"""Every path that a stage reads or writes, relative to one workspace root; dvc.yaml agrees with it (tested)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of one workspace. ``root`` holds params.yaml, dvc.yaml, data/, out/ and reports/."""

    root: Path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    # raw data, tracked by data.dvc
    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def labels(self) -> Path:
        return self.data / "labels"

    @property
    def tags_csv(self) -> Path:
        return self.data / "tags" / "tags.csv"

    @property
    def merged_answers(self) -> Path:
        """The answers that are in the tag table, so that a version of data/ says who tagged it, and for how long."""
        return self.data / "tags" / "answers.jsonl"

    @property
    def box_file(self) -> Path:
        return self.data / "boxes" / "boxes.json"

    @property
    def classes(self) -> Path:
        return self.data / "classes.yaml"

    # what people answer, for git: outside data/, which DVC tracks as a whole and may link to its cache, read-only
    @property
    def answers(self) -> Path:
        return self.root / "tagging" / "answers.jsonl"

    # big intermediate results, cached by DVC
    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def tiles(self) -> Path:
        """N1 and N2: images, N1 labels, tag rasters, manifest."""
        return self.out / "tiles"

    @property
    def hidden(self) -> Path:
        """Pixel truth of N2: for audit and the oracle only."""
        return self.labels_of("full")

    @property
    def validation(self) -> Path:
        """Images and labels of the validation areas: for evaluate only."""
        return self.out / "validation"

    @property
    def boxes(self) -> Path:
        """Boxes of N1 and N2 in px of the resampled areas."""
        return self.out / "boxes"

    def scores(self, method: str) -> Path:
        return self.out / "scores" / method

    @property
    def teacher_rounds(self) -> Path:
        """ScoreMaps of the teacher's earlier rounds, a folder per round, named by its number from 1."""
        return self.scores("teacher") / "rounds"

    def labels_of(self, source: str) -> Path:
        """What a source gives the N2 areas: masks, or nothing but a table without rows (pixel and consistency)."""
        return self.out / "labels" / source

    def experts(self, source: str) -> Path:
        """Digests of the scores that a source makes its masks with; a table without rows for one that uses none."""
        return self.out / "experts" / source

    def choices(self, source: str) -> Path:
        """How a source that makes masks while it trains makes them, per seed."""
        return self.labels_of(source) / "choices.json"

    def pseudo(self, method: str) -> Path:
        """Pseudo-masks of N2."""
        return self.labels_of(method)

    def code(self, stage: str) -> Path:
        """Digest of the code that a stage can reach."""
        return self.out / "code" / f"{stage}.txt"

    def settings(self, stage: str, source: str = "") -> Path:
        """What a training reads of params.yaml."""
        return self.out / "settings" / (f"{stage}_{source}.yaml" if source else f"{stage}.yaml")

    def checkpoints(self, source: str) -> Path:
        return self.out / "checkpoints" / source

    def networks(self, stage: str) -> Path:
        """Networks of the weak-label stages; those of segment@SOURCE are :meth:`checkpoints`."""
        return self.out / "networks" / stage

    def predictions(self, source: str) -> Path:
        return self.out / "predictions" / source

    def pictures(self, stage: str, name: str) -> Path:
        """Small pictures by evaluate@SOURCE and audit@METHOD, for the page of the report."""
        return self.out / "pictures" / stage / name

    # small results, in git
    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def report(self, stage: str, name: str = "") -> Path:
        """``reports/<stage>/<name>.json``, or ``reports/<stage>.json`` for a stage that runs once."""
        return self.reports / stage / f"{name}.json" if name else self.reports / f"{stage}.json"

    def curve(self, name: str) -> Path:
        return self.reports / "curves" / f"{name}.csv"

    def sweep(self, method: str) -> Path:
        return self.reports / "sweeps" / f"{method}.csv"

    def confusion(self, source: str) -> Path:
        return self.reports / "confusion" / f"{source}.csv"

    def sheets(self, method: str) -> Path:
        """Pictures of one method, one sheet per area; outside git."""
        return self.out / "sheets" / method

    @property
    def import_sheet(self) -> Path:
        """The contact sheet of the last import: outside data/, which is tracked as a whole."""
        return self.out / "sheets" / "import.png"

    @property
    def next(self) -> Path:
        """What to label next: an order of crops, a GeoPackage, a sheet of pictures."""
        return self.out / "next"

    @property
    def results(self) -> Path:
        return self.reports / "results.md"

    @property
    def page(self) -> Path:
        return self.reports / "index.html"
