"""Layout: every path once, under the root, distinct."""

from __future__ import annotations

from pathlib import Path

from weakseg.core.layout import Layout

LAYOUT = Layout(Path("w"))


def test_paths_by_hand() -> None:
    found = {
        LAYOUT.params: "w/params.yaml",
        LAYOUT.images: "w/data/images",
        LAYOUT.labels: "w/data/labels",
        LAYOUT.tags_csv: "w/data/tags/tags.csv",
        LAYOUT.box_file: "w/data/boxes/boxes.json",
        LAYOUT.classes: "w/data/classes.yaml",
        LAYOUT.boxes: "w/out/boxes",
        LAYOUT.tiles: "w/out/tiles",
        LAYOUT.hidden: "w/out/labels/full",
        LAYOUT.validation: "w/out/validation",
        LAYOUT.scores("cam"): "w/out/scores/cam",
        LAYOUT.pseudo("cam"): "w/out/labels/cam",
        LAYOUT.checkpoints("pixel"): "w/out/checkpoints/pixel",
        LAYOUT.predictions("pixel"): "w/out/predictions/pixel",
        LAYOUT.pictures("audit", "cam"): "w/out/pictures/audit/cam",
        LAYOUT.sheets("cam"): "w/out/sheets/cam",
        LAYOUT.report("fused"): "w/reports/fused.json",
        LAYOUT.report("evaluate", "pixel"): "w/reports/evaluate/pixel.json",
        LAYOUT.curve("pixel"): "w/reports/curves/pixel.csv",
        LAYOUT.confusion("pixel"): "w/reports/confusion/pixel.csv",
        LAYOUT.results: "w/reports/results.md",
        LAYOUT.page: "w/reports/index.html",
    }
    assert {path: path.as_posix() for path in found} == found
    assert len(found) == 22  # no two of them are the same


def test_nothing_but_raw_data_lies_in_data() -> None:
    """data.dvc tracks data/ whole, and DVC refuses overlapping outputs."""
    made = [LAYOUT.tiles, LAYOUT.hidden, LAYOUT.validation, LAYOUT.scores("a"), LAYOUT.checkpoints("a"), LAYOUT.results]
    assert not [path for path in made if path.is_relative_to(LAYOUT.data)]


def test_sources_are_kept_apart() -> None:
    for kind in (LAYOUT.scores, LAYOUT.pseudo, LAYOUT.checkpoints, LAYOUT.predictions, LAYOUT.curve, LAYOUT.confusion):
        assert kind("a") != kind("b")
