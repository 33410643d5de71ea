"""One run over N2 areas that are tagged, partly tagged, not tagged, and without any label: the whole path."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.bit_sets import bits_of
from tests.slim import STEPS, slim

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.layout import Layout
from weakseg.data.manifest import load_manifest
from weakseg.data.store import open_allowed, open_array
from weakseg.labels.box_table import boxes_from_mask, write_boxes
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import tags_from_mask, to_tag_windows, window_grid
from weakseg.methods.scores import load_scores
from weakseg.raster.write import write_raster

N2 = ("t1", "t2", "t3", "u1")  # tagged; half tagged; with a mask and no tag; nothing but an image
PLAN = (
    *(("tiles", ""), ("classifier", ""), ("cam", ""), ("crf", ""), ("irnet", ""), ("single_stage", "")),
    *(("segment", "pixel"), ("teacher", ""), ("fused", ""), ("boxes", ""), ("pseudo", "cam"), ("pseudo", "fused")),
    *(("pseudo", "boxes"), ("audit", "cam"), ("audit", "boxes"), ("segment", "cam"), ("segment", "boxes")),
    *(("segment", "consistency"), ("evaluate", "consistency")),
)


def add_areas(root: Path, paint: Callable[[int], Any]) -> None:
    """t3 with a mask, u1 without; tags for all of t1 and the upper half of t2; boxes for t1 alone."""
    for seed, area in ((7, "t3"), (8, "u1")):
        image, mask = paint(seed)
        write_raster(root / "data" / "images" / f"{area}.tif", image)
        if area == "t3":
            write_raster(root / "data" / "labels" / f"{area}.tif", ISPRS.to_colours(mask))
    rows = []
    for seed, area, windows in ((2, "t1", window_grid(64, 64, 16)), (3, "t2", window_grid(64, 64, 16)[:8])):
        present, known = tags_from_mask(paint(seed)[1], windows, len(ISPRS))
        rows += to_tag_windows(area, windows, present, known, ISPRS)
    write_tags(root / "data" / "tags" / "tags.csv", rows, ISPRS)
    boxes = boxes_from_mask("t1", paint(2)[1], ISPRS, ["car"])
    write_boxes(root / "data" / "boxes" / "boxes.json", boxes, ISPRS, {"t1": (64, 64)})


def settings(raw: dict[str, Any]) -> None:
    raw["tiles"] |= {"tag_source": "csv", "areas": {"pixel": ["p1", "p2"], "tags": list(N2), "validation": ["v1"]}}
    raw["boxes"] |= {"source": "file"}
    slim(raw)
    raw["cam"]["flips"] = False
    raw["fused"]["weights"] = [1.0]
    raw["segment"]["optimiser"] |= STEPS
    raw["students"] |= {"batch": 4}


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
    make_workspace: Callable[[Path], Path],
    paint: Callable[[int], Any],
) -> Layout:
    root = make_workspace(tmp_path_factory.mktemp("mixed"))
    add_areas(root, paint)
    raw = yaml.safe_load((root / "params.yaml").read_text())
    settings(raw)
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)
    return Layout(root)


def test_what_is_not_tagged_forbids_nothing(done: Layout) -> None:
    crops = load_manifest(done.tiles / "manifest.csv", ISPRS.names)
    assert [len(crops.select(area=area).ids) for area in N2] == [16, 8, 0, 0]
    for area in N2:
        allowed, windows = bits_of(open_allowed(done.tiles, area)), np.asarray(open_array(done.tiles / "windows", area))
        assert (allowed[windows < 0] == 31).all()
        assert (windows >= 0).mean() == {"t1": 1.0, "t2": 0.5}.get(area, 0.0)
    assert (bits_of(open_allowed(done.tiles, "t2"))[:32] != 31).any()


@pytest.mark.parametrize("method", ["cam", "crf", "irnet"])
def test_tag_trained_maps_stay_empty_without_tags(done: Layout, method: str) -> None:
    for area in ("t3", "u1"):
        maps = load_scores(done.scores(method) / f"{area}.npz")
        assert not maps.scores.any()
        assert not maps.present.any()
    half = load_scores(done.scores(method) / "t2.npz").scores
    assert half[:, :32].any()
    if method != "irnet":  # the walk may carry scores across the border of the tagged half
        assert not half[:, 40:].any()


@pytest.mark.parametrize("method", ["single_stage", "teacher", "fused", "boxes"])
def test_networks_speak_everywhere(done: Layout, method: str) -> None:
    for area in N2:
        assert load_scores(done.scores(method) / f"{area}.npz").scores.any(0).all()


def test_experts_without_a_word_leave_the_teacher_alone(done: Layout) -> None:
    """Where IRNet has no score and no tag lies, fused is teacher times single_stage; boxes is the teacher."""
    teacher = load_scores(done.scores("teacher") / "u1.npz").scores
    assert load_scores(done.scores("boxes") / "u1.npz").scores == pytest.approx(teacher, abs=2e-3)
    boxed = load_scores(done.scores("boxes") / "t1.npz").scores
    assert (boxed[ISPRS.index("car")] == 0).mean() > 0.8  # searched: no car outside its boxes


def test_pseudo_masks_cover_what_their_scores_know(done: Layout) -> None:
    covered = {area: float((np.asarray(open_array(done.pseudo("cam"), area)) != IGNORE).mean()) for area in N2}
    assert covered["t1"] > 0
    assert 0 < covered["t2"] <= 0.5
    assert covered["t3"] == covered["u1"] == 0
    for area in N2:
        assert (np.asarray(open_array(done.pseudo("fused"), area)) != IGNORE).any()


def test_areas_without_truth_are_audited_nowhere(done: Layout) -> None:
    assert (np.asarray(open_array(done.hidden, "u1")) == IGNORE).all()
    assert json.loads(done.report("audit", "cam").read_text())["areas"] == 3


def test_all_sources_train(done: Layout) -> None:
    for source in ("cam", "boxes", "consistency"):
        curve = pd.read_csv(done.curve(source))
        assert np.isfinite(curve.filter(like="train/").to_numpy()).all()
    assert json.loads(done.report("evaluate", "consistency").read_text())["miou"] >= 0


def test_audit_without_any_truth_says_so(done: Layout, tmp_path: Path) -> None:
    """A user's real N2: nobody has its masks."""
    import shutil

    from weakseg.data.store import save_array

    root = tmp_path / "real"
    shutil.copytree(done.root, root)
    layout = Layout(root)
    for area in N2:
        save_array(layout.hidden, area, np.full((64, 64), IGNORE, np.uint8))
    import_module("weakseg.stages.audit").run(root, "cam")
    report = json.loads(layout.report("audit", "cam").read_text())
    assert (report["areas"], report["coverage"], report["miou"]) == (0, None, None)
    assert layout.sweep("cam").read_text().splitlines() == ["min_score,min_margin,coverage,accuracy,miou"]
