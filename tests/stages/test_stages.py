"""Stages end to end on a tiny workspace, called as the command line calls them, and the report's table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tests.bit_sets import bits_of

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.data.manifest import load_manifest
from weakseg.data.store import list_areas, open_allowed, open_array, save_array
from weakseg.evaluation.metrics import confusion_matrix, scores_of, to_json
from weakseg.evaluation.objects import count_objects, object_scores
from weakseg.evaluation.reports import EvaluationReport
from weakseg.export.own_data import check_own
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import load_scores
from weakseg.pipeline.context import open_context
from weakseg.stages import segment
from weakseg.training.checkpoints import load_checkpoint

PLAN = [
    *(("tiles", ""), ("segment", "pixel"), ("evaluate", "pixel"), ("teacher", ""), ("pseudo", "teacher")),
    *(("audit", "teacher"), ("segment", "consistency"), ("evaluate", "consistency"), ("report", "")),
]


def run(root: Path, stage: str, source: str = "") -> None:
    module = import_module(f"weakseg.stages.{stage}")
    module.run(root, source) if source else module.run(root)


def edit(root: Path, **changes: Any) -> None:
    """Change params.yaml; names are dotted, ``.`` written ``__``."""
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        place, *keys = raw, *name.split("__")
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """The workspace after all stages of PLAN."""
    root = make_workspace(tmp_path_factory.mktemp("workspace"))
    for stage, source in PLAN:
        run(root, stage, source)
    return Layout(root)


# ---- trust ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".", "best"])
def test_model_files_say_what_they_were_trained_on_and_how_sure_to_be(done: Layout, workspace: Path, kind: str) -> None:
    if kind == "best":  # of a network that is reported as it was chosen
        edit(workspace, segment__refit=False)
        run(workspace, "tiles")
        run(workspace, "segment", "pixel")
    content = load_checkpoint((done if kind == "." else Layout(workspace)).checkpoints("pixel") / kind / "seed0.pt")
    assert len(content["temperatures"]) == len(ISPRS)
    assert content["applicability"]["prototypes"].dtype == torch.float16
    check_own((done if kind == "." else Layout(workspace)).checkpoints("pixel") / kind / "seed0.pt", done.tiles)
    assert len(content["n1"]) == 32


def test_the_evaluation_has_the_error_of_the_confidence_before_and_after(done: Layout) -> None:
    found = EvaluationReport.model_validate(json.loads(done.report("evaluate", "pixel").read_text()))
    assert 0 <= found.ece <= 1
    assert 0 <= found.ece_calibrated <= 1
    assert found.ece != found.ece_calibrated
    assert 'id="confidence"' in (done.reports / "index.html").read_text()


# ---- tiles ----------------------------------------------------------------------------------------------------------


def test_tiles_lists_and_images(done: Layout, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
    assert list_areas(done.tiles, "pixel") == ["p1", "p2"]
    assert list_areas(done.tiles, "tags") == ["t1", "t2"]
    assert list_areas(done.validation) == ["v1"]
    assert np.array_equal(open_array(done.tiles / "images", "t1"), paint(2)[0])
    assert np.array_equal(open_array(done.validation / "labels", "v1"), paint(4)[1])
    assert not (done.tiles / "images" / "v1.npy").exists()


def test_truth_of_n2_is_hidden_and_nowhere_else(
    done: Layout, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> None:
    assert np.array_equal(open_array(done.hidden, "t1"), paint(2)[1])
    assert sorted(path.stem for path in (done.tiles / "labels").iterdir()) == ["p1", "p2"]
    assert sorted(path.stem for path in (done.tiles / "holdout").iterdir()) == ["p1", "p2"]


def test_holdout_is_a_block_and_the_two_parts_are_the_whole(
    done: Layout, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> None:
    train, held, mask = open_array(done.tiles / "labels", "p1"), open_array(done.tiles / "holdout", "p1"), paint(0)[1]
    assert (train[:, 48:] == IGNORE).all()  # a quarter of four columns of crops
    assert (held[:, :48] == IGNORE).all()
    assert np.array_equal(np.where(train != IGNORE, train, held), mask)


def test_manifest_tags_are_the_masks_classes(
    done: Layout, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> None:
    crops = load_manifest(done.tiles / "manifest.csv", ISPRS.names)
    assert len(crops.ids) == 4 * 16
    for seed, area in enumerate(("p1", "p2", "t1", "t2")):
        mask, mine = paint(seed)[1], crops.select(area=area)
        for (row, column, height, width), present in zip(mine.windows, mine.present, strict=True):
            inside = set(mask[row : row + height, column : column + width].ravel().tolist()) - {IGNORE}
            assert inside == set(np.flatnonzero(present).tolist())
    splits = crops.select(area="p1")
    assert [s for s, w in zip(splits.splits, splits.windows, strict=True) if w[1] >= 48] == ["holdout"] * 4
    assert splits.splits.count("pixel") == 12


def test_allowed_raster_never_forbids_the_truth(
    done: Layout, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> None:
    for seed, area in enumerate(("p1", "p2", "t1", "t2")):
        mask, allowed = paint(seed)[1], bits_of(open_allowed(done.tiles, area))
        known = mask != IGNORE
        assert (allowed[known] >> mask[known] & 1 == 1).all()
        assert (allowed != 31).any()


def test_tiles_at_half_scale(workspace: Path, paint: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
    edit(workspace, tiles__scale=0.5, tiles__tag_size=8)
    run(workspace, "tiles")
    layout = Layout(workspace)
    assert open_array(layout.tiles / "images", "p1").shape == (32, 32, 3)
    mask = open_array(layout.hidden, "t1")
    assert mask.shape == (32, 32)
    assert set(np.unique(mask)) <= set(np.unique(paint(2)[1]))  # no invented labels
    assert len(load_manifest(layout.tiles / "manifest.csv", ISPRS.names).ids) == 64


def test_tags_from_csv_are_used_for_n2_alone(workspace: Path) -> None:
    edit(workspace, tiles__tag_source="csv")
    layout = Layout(workspace)
    layout.tags_csv.parent.mkdir(parents=True)
    layout.tags_csv.write_text("area,row,column,height,width,tags,unknown\nt1,0,0,32,64,tree car,building\n")
    run(workspace, "tiles")
    allowed = bits_of(open_allowed(layout.tiles, "t1"))
    assert (allowed[:32] == 0b11010).all()
    assert (allowed[32:] == 31).all()
    assert (open_array(layout.tiles / "windows", "t2") == -1).all()
    crops = load_manifest(layout.tiles / "manifest.csv", ISPRS.names)
    assert crops.select(split="tags").ids == ("t1_0_0",)
    assert len(crops.select(area="p1").ids) == 16


def test_n2_needs_no_masks(workspace: Path) -> None:
    (workspace / "data" / "labels" / "t1.tif").unlink()
    run(workspace, "tiles")
    layout = Layout(workspace)
    assert (open_array(layout.hidden, "t1") == IGNORE).all()
    assert (bits_of(open_allowed(layout.tiles, "t1")) == 31).all()  # nothing is known
    (workspace / "data" / "labels" / "p1.tif").unlink()
    with pytest.raises(DataError, match=r"none for area p1; expected exactly one raster; .*data split"):
        run(workspace, "tiles")


# ---- segment, evaluate ----------------------------------------------------------------------------------------------


def test_segment_writes_all_it_declares(done: Layout) -> None:
    for source in ("pixel", "consistency"):
        content = load_checkpoint(done.checkpoints(source) / "seed0.pt")
        assert content["network"]["width"] == 16
        assert content["scale"] == 1.0
        assert content["classes"]["names"] == list(ISPRS.names)
        curve = pd.read_csv(done.curve(source))
        assert curve["step"].tolist() == [2, 4]
        assert {"seed", "train/loss", "train/pixel", "holdout/miou", "holdout/iou/car"} <= set(curve.columns)
        summary = json.loads(done.report("segment", source).read_text())
        assert summary["seed0"]["holdout/miou"] == pytest.approx(curve["holdout/miou"].iloc[-1], abs=1e-5)
    assert "train/presence" in pd.read_csv(done.curve("consistency")).columns
    assert not list((done.out / "resume").glob("*"))


def test_evaluate_scores_what_it_predicted(done: Layout) -> None:
    found = json.loads(done.report("evaluate", "pixel").read_text())
    assert 0.0 <= found["seam_share"] < 0.5
    truth, guess = open_array(done.validation / "labels", "v1"), open_array(done.predictions("pixel"), "v1")
    matrix = confusion_matrix(np.asarray(truth), np.asarray(guess), 5)
    want = scores_of(matrix, ISPRS.names)
    assert found["areas"]["v1"]["confusion"] == matrix.tolist()
    assert found["classes"] == list(ISPRS.names)
    assert found["miou"] == pytest.approx(want["miou"])
    assert found["oa"] == pytest.approx(want["oa"])
    counted = count_objects(np.asarray(truth), np.asarray(guess), 5)
    assert found["objects"] == to_json(object_scores(counted, ISPRS.names))
    assert found["miou_over_seeds"] == {"mean": found["miou"], "low": found["miou"], "high": found["miou"], "count": 1}
    assert (found["selection"], found["steps"]) == ("last", 4)
    table = pd.read_csv(done.confusion("pixel"), index_col=0)
    assert table.to_numpy().tolist() == matrix.tolist()
    assert table.loc["car"].sum() == (truth == 4).sum()
    assert (done.predictions("pixel") / "v1.png").is_file()


def test_teacher_is_held_to_the_tags(done: Layout) -> None:
    for area in ("p1", "p2", "t1", "t2"):
        maps, allowed = load_scores(done.scores("teacher") / f"{area}.npz"), bits_of(open_allowed(done.tiles, area))
        forbidden = (allowed[None] >> np.arange(5)[:, None, None]) & 1 == 0
        assert not maps.dense()[forbidden].any()
        assert maps.scores.sum(0) == pytest.approx(np.ones((64, 64)), abs=2e-3)


def test_pseudo_masks_and_their_audit(done: Layout) -> None:
    chosen = json.loads(done.report("pseudo", "teacher").read_text())
    assert list(chosen["min_score"]) == list(chosen["min_margin"]) == sorted(ISPRS.names)
    assert set(chosen["min_score"].values()) <= {0.0, 0.5}
    assert set(chosen["min_margin"].values()) <= {0.0, 0.1}
    masks = {area: np.asarray(open_array(done.pseudo("teacher"), area)) for area in ("t1", "t2")}
    coverage = np.mean([(mask != IGNORE).mean() for mask in masks.values()])
    assert chosen["coverage"] == pytest.approx(coverage)
    truth = {area: np.asarray(open_array(done.hidden, area)) for area in masks}
    scored = sum(int((t != IGNORE).sum()) for t in truth.values())
    both = {area: (truth[area] != IGNORE) & (masks[area] != IGNORE) for area in masks}
    inside = sum(int(part.sum()) for part in both.values())
    right = sum(int((masks[area] == truth[area])[both[area]].sum()) for area in masks)
    audit = json.loads(done.report("audit", "teacher").read_text())
    assert audit["coverage"] == pytest.approx(inside / scored)
    assert audit["accuracy"] == pytest.approx(right / inside)
    assert audit["areas"] == 2
    tables = sum(count_objects(truth[area], masks[area], len(ISPRS)) for area in masks)
    assert audit["objects"] == to_json(object_scores(np.asarray(tables), ISPRS.names))
    assert sum(row["objects"] for row in audit["objects"]["building"]) > 0
    sweep = pd.read_csv(done.reports / "sweeps" / "teacher.csv")
    assert len(sweep) == 4
    maps = {area: load_scores(done.scores("teacher") / f"{area}.npz") for area in masks}
    allowed = {area: open_allowed(done.tiles, area) for area in masks}
    for row in sweep.itertuples():
        guess = {a: pseudo_mask(maps[a], allowed[a], min_score=row.min_score, min_margin=row.min_margin) for a in masks}
        both = {area: (truth[area] != IGNORE) & (guess[area] != IGNORE) for area in masks}
        inside = sum(int(part.sum()) for part in both.values())
        right = sum(int((guess[area] == truth[area])[both[area]].sum()) for area in masks)
        assert row.coverage == pytest.approx(inside / scored, abs=1e-4)
        assert row.accuracy == pytest.approx(right / inside, abs=1e-4)
    assert (done.sheets("teacher") / "t1.jpg").is_file()


def test_results_table_of_the_run(done: Layout) -> None:
    text = done.results.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| task")]
    assert [row.split("|")[1].strip() for row in rows] == ["task (i): N1 pixels", "task (ii): consistency with tags"]
    numbers = json.loads(done.report("report").read_text())
    assert set(numbers) == {"pixel", "consistency"}
    gain = numbers["consistency"]["gain"]["value"]
    assert gain == pytest.approx(numbers["consistency"]["miou"] - numbers["pixel"]["miou"])
    assert f"{gain:+.3f}" in rows[1]
    assert "| teacher |" in text


def test_page_of_the_run(done: Layout) -> None:
    html = done.page.read_text()
    keys = re.findall(r'data-key="(\w+)"', html)
    validation, weak = ["image", "truth", "pixel", "consistency"], ["image", "truth", "teacher"]
    worst = (
        ["image", "truth", "map"] * 2 * len(json.loads((done.pictures("evaluate", "pixel") / "worst.json").read_text()))
    )
    assert keys == validation + weak * 2 + worst
    assert html.count('src="data:image/') == len(keys)
    assert 'data-name="v1"' in html
    assert "label_cost.json" in html  # not measured, and said so
    score = json.loads(done.report("evaluate", "consistency").read_text())["areas"]["v1"]["miou"]
    assert f"mIoU {score:.3f}" in html


def test_a_second_training_is_the_same(done: Layout, tmp_path: Path, make_workspace: Callable[[Path], Path]) -> None:
    root = make_workspace(tmp_path)
    run(root, "tiles")
    run(root, "segment", "pixel")
    first = load_checkpoint(done.checkpoints("pixel") / "seed0.pt")["weights"]
    second = load_checkpoint(Layout(root).checkpoints("pixel") / "seed0.pt")["weights"]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_best_on_the_holdout_survives_an_interruption(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best checkpoint lies before the interruption; the hold-out here only falls."""
    edit(workspace, segment__selection="holdout", segment__refit=False, segment__optimiser__steps=6)
    run(workspace, "tiles")
    context = open_context(workspace)
    labelled, weak = segment.open_sources(context, "pixel")
    scores: list[float] = []

    def falling(context: object, model: object) -> dict[str, float]:
        return {"holdout/miou": scores.pop(0)}

    monkeypatch.setattr(segment, "evaluate_holdout", falling)

    def go(report: Callable[[Mapping[str, float], int], None]) -> dict[str, torch.Tensor]:
        return segment.train_segmenter(context, "pixel", labelled, weak, 0, "x", report)[1].state_dict()

    def stop(row: Mapping[str, float], step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    scores[:] = [0.9, 0.5, 0.1]
    unbroken = {name: value.clone() for name, value in go(lambda row, step: None).items()}
    scores[:] = [0.9, 0.5, 0.1]
    with pytest.raises(KeyboardInterrupt):
        go(stop)
    scores[:] = [0.1]
    resumed = go(lambda row, step: None)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    scores[:] = [0.1, 0.5, 0.9]
    last = go(lambda row, step: None)
    assert any(not torch.equal(unbroken[name], last[name]) for name in unbroken)
    assert not list((Layout(workspace).out / "resume").glob("*"))  # neither resume file nor best one


def test_selection_on_the_holdout_needs_one(workspace: Path) -> None:
    edit(workspace, segment__selection="holdout", segment__refit=False, tiles__holdout=0.0)
    run(workspace, "tiles")
    with pytest.raises(StageError, match=r"no hold-out in N1; expected tiles\.holdout above 0; or segment\.selection"):
        run(workspace, "segment", "pixel")


def test_tag_sources_need_n2(workspace: Path) -> None:
    edit(workspace, tiles__areas__tags=[])
    run(workspace, "tiles")
    with pytest.raises(StageError, match=r"no N2 areas; .*skip segment@consistency"):
        run(workspace, "segment", "consistency")


def test_an_oracle_needs_truth_of_n2(workspace: Path) -> None:
    run(workspace, "tiles")
    for area in ("t1", "t2"):
        save_array(Layout(workspace).hidden, area, np.full((64, 64), IGNORE, np.uint8))
    with pytest.raises(StageError, match=r"no mask of any of 2 N2 areas; .*take full out of sources"):
        run(workspace, "segment", "full")


def test_thresholds_need_a_holdout(workspace: Path) -> None:
    edit(workspace, tiles__holdout=0.0)
    run(workspace, "tiles")
    with pytest.raises(StageError, match=r"no hold-out in N1; expected tiles\.holdout above 0"):
        run(workspace, "pseudo", "teacher")


def test_report_needs_task_i(workspace: Path) -> None:
    with pytest.raises(StageError, match="no report of source pixel"):
        run(workspace, "report")
