"""`weakseg label-cost` on a tiny workspace: labels per budget, trainings once, a curve, advice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import BudgetParams, load_params
from weakseg.labels.box_files import read_boxes
from weakseg.labels.tag_table import read_tags
from weakseg.studies import apart, budgets
from weakseg.studies.budget_workspace import prepare_workspace
from weakseg.studies.budgets import named_budgets, run_label_cost, stages_of

SIZES = dict.fromkeys(("p1", "p2", "t1", "t2", "v1"), (64, 64))
BUDGETS = [
    {"name": "one area", "source": "consistency", "pixel": 1, "tags": 0.0, "boxes": 0.0},
    {"name": "two areas", "source": "consistency", "pixel": 2, "tags": 0.0, "boxes": 0.0},
    {"name": "half the tags", "source": "consistency", "pixel": 2, "tags": 0.5, "boxes": 0.0},
]


def edit(root: Path, **sections: dict[str, Any]) -> None:
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    for name, changes in sections.items():
        raw[name] |= changes
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def prepared(root: Path, place: Path, **changes: Any) -> tuple[Layout, Any]:
    """The workspace of a budget, and what it bought."""
    budget = BudgetParams(**({"name": "x", "source": "consistency", "pixel": 2, "tags": 0.0, "boxes": 0.0} | changes))
    layout = Layout(place)
    return layout, prepare_workspace(Layout(root), layout, load_params(root / "params.yaml"), budget, ISPRS, 3)


def test_labels_of_a_budget_are_a_part_of_those_of_a_larger_one(workspace: Path, tmp_path: Path) -> None:
    rows: dict[float, set[Any]] = {}
    for share in (0.25, 0.5, 1.0):
        layout, labels = prepared(workspace, tmp_path / str(share), tags=share)
        rows[share] = {(row.area, row.window) for row in read_tags(layout.tags_csv, ISPRS, SIZES)}
        assert labels.tag_crops == len(rows[share]) == 32 * share
        assert load_params(layout.params).tiles.areas.tags == ("t1", "t2")
        assert load_params(layout.params).boxes.classes == ()
    assert rows[0.25] < rows[0.5] < rows[1.0]
    assert {area for area, _ in rows[0.25]} == {"t1", "t2"}


def test_pixel_areas_come_from_n1_then_from_n2_and_the_rest_is_unlabelled(workspace: Path, tmp_path: Path) -> None:
    layout, labels = prepared(workspace, tmp_path / "1", pixel=1, tags=1.0)
    params = load_params(layout.params)
    assert (params.tiles.areas.pixel, params.tiles.areas.tags) == (("p1",), ("p2", "t1", "t2"))
    assert (labels.pixel_areas, labels.pixels, labels.tag_crops) == (1, 64 * 64, 32)  # p2 gets no tags
    assert params.segment.optimiser.steps == 3
    layout, labels = prepared(workspace, tmp_path / "3", pixel=3, tags=1.0)
    assert load_params(layout.params).tiles.areas.pixel == ("p1", "p2", "t1")
    assert labels.tag_crops == 16
    (workspace / "data" / "labels" / "t2.tif").unlink()
    with pytest.raises(ParamsError, match=r"budget 'x': 4 pixel areas; expected at most 3"):
        prepared(workspace, tmp_path / "4", pixel=4)


def test_boxes_of_a_budget_are_those_of_whole_areas(workspace: Path, tmp_path: Path) -> None:
    layout, labels = prepared(workspace, tmp_path / "half", boxes=0.5)
    table = read_boxes(layout.box_file, ISPRS, SIZES)
    assert len(table.searched) == 1
    assert labels.boxes == table.count() > 0
    section = load_params(layout.params).boxes
    assert (section.source, section.constrain, section.classes) == ("file", True, ("car",))
    edit(workspace, tiles={"tag_source": "csv"})
    (workspace / "data" / "tags").mkdir()
    (workspace / "data" / "tags" / "tags.csv").write_text("area,row,column,height,width,tags,unknown\n")
    with pytest.raises(ParamsError, match="tag crops: none"):
        prepared(workspace, tmp_path / "none", tags=0.5)


def test_stages_of_a_source() -> None:
    assert stages_of("pixel") == ["tiles", "segment@pixel", "evaluate@pixel"]
    assert stages_of("boxes") == [
        *("tiles", "segment@pixel", "teacher", "boxes", "pseudo@boxes", "segment@boxes", "evaluate@boxes")
    ]
    assert stages_of("joint")[:6] == ["tiles", "classifier", "cam", "crf", "irnet", "single_stage"]
    untagged = ["tiles", "experts", "segment@pixel", "choice@joint", "segment@joint", "evaluate@joint"]
    assert stages_of("joint", tagged=False) == untagged


def test_a_budget_trains_what_the_workspace_trains(workspace: Path) -> None:
    path = workspace / "params.yaml"

    def sources(*names: str, source: str = "auto") -> list[str]:
        edit(workspace, label_cost={"budgets": [BUDGETS[0] | {"source": source}, BUDGETS[2] | {"source": "auto"}]})
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"sources": list(names)}))
        return [budget.source for budget in named_budgets(load_params(path))]

    assert sources("pixel", "full", "untagged", "joint") == ["joint", "joint"]
    assert sources("pixel", "consistency", "teacher") == ["consistency", "consistency"]
    assert sources("pixel", "teacher", "cam", source="boxes") == ["boxes", "teacher"]
    with pytest.raises(ParamsError, match=r"budgets of source auto, sources pixel, full; expected .*such as joint"):
        sources("pixel", "full")


def test_joint_without_tags_trains_without_its_experts(workspace: Path, tmp_path: Path) -> None:
    layout, _ = prepared(workspace, tmp_path / "none", source="joint")
    assert load_params(layout.params).fused.experts == ()
    layout, _ = prepared(workspace, tmp_path / "some", source="joint", tags=0.5)
    assert load_params(layout.params).fused.experts == ("irnet", "single_stage")


@pytest.mark.slow
def test_joint_with_boxes_and_no_tags_is_a_point(workspace: Path) -> None:
    edit(workspace, label_cost={"budgets": [BUDGETS[1] | {"source": "auto", "boxes": 1.0}]})
    points, said = run_label_cost(workspace, steps=2)
    assert (points[0].source, points[0].labels.tag_crops) == ("joint", 0)
    assert points[0].labels.boxes > 0
    assert said[0].startswith("prices: tags 1.00 s per class and crop (literature: ")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    root = make_workspace(tmp_path_factory.mktemp("budgets"))
    edit(root, label_cost={"budgets": BUDGETS})
    result = CliRunner().invoke(app, ["--root", str(root), "label-cost", "--steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (root / "said.txt").write_text(result.stdout)
    return Layout(root)


def test_curve_and_advice_are_written(measured: Layout) -> None:
    report = json.loads(measured.report("label_cost").read_text())
    assert [row["budget_name"] for row in report["curve"]] == ["one area", "two areas", "half the tags"]
    first, last = report["curve"][0], report["curve"][-1]
    assert (first["pixel_areas"], first["tag_crops"], first["boxes"]) == (1, 0, 0)
    assert first["cost_hours"] == pytest.approx(64 * 64 / 1e6 * 2575 / 3600)
    assert last["tag_crops"] == 16
    assert last["cost_hours"] == pytest.approx(2 * first["cost_hours"] + 16 * 5 / 3600)
    assert last["seeds"] == [last["miou"]]
    assert {(gain["kind"], gain["base"], gain["more"]) for gain in report["gains"]} == {
        *{("pixel_areas", "one area", "two areas"), ("tag_crops", "two areas", "half the tags")},
    }
    said = (measured.root / "said.txt").read_text().splitlines()
    assert said[-1] == report["advice"]
    assert said[0].startswith("one area")
    assert said[-2] == report["priced"]
    assert report["prices"]["tag"] == {"seconds": 1.0, "source": "literature: Bearman et al. 2016, 20 s for 20 classes"}
    assert report["runs"]["one area"]["steps"] == 2
    for suffix in ("svg", "png"):
        assert (measured.reports / "curves" / f"label_cost.{suffix}").stat().st_size > 1000
    assert not list((measured.root / ".weakseg" / "label_cost").iterdir())
    assert not measured.out.exists()  # the workspace itself is left alone


def test_nothing_is_trained_twice_and_prices_need_no_training(
    measured: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    root = Path(shutil.copytree(measured.root, tmp_path / "copy", symlinks=True))

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(budgets, "train_budget", refuse)
    before = {p.name: p for p in run_label_cost(root, steps=2)[0]}
    edit(root, label_cost={"pixel_seconds_per_megapixel": 5150.0})
    after = {p.name: p for p in run_label_cost(root, steps=2)[0]}
    assert after["one area"].hours == pytest.approx(2 * before["one area"].hours)
    assert after["one area"].miou == before["one area"].miou
    with pytest.raises(AssertionError, match="trained again"):
        run_label_cost(root, steps=3)
    with pytest.raises(ParamsError, match="no budget nothing"):
        run_label_cost(root, only=["nothing"])


def test_an_interrupted_budget_goes_on_where_it_stopped(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(workspace, label_cost={"budgets": BUDGETS[:1]}, segment={"seeds": [0, 1]})
    ran: list[str] = []
    real = apart.run_apart

    def stop_at_evaluate(root: Path, stage: str) -> None:
        ran.append(stage)
        if stage.startswith("evaluate") and ran.count(stage) == 1:
            raise KeyboardInterrupt
        real(root, stage)

    monkeypatch.setattr(apart, "run_apart", stop_at_evaluate)
    with pytest.raises(KeyboardInterrupt):
        run_label_cost(workspace, steps=2)
    points, _ = run_label_cost(workspace, steps=2)
    assert ran == ["tiles", "segment@consistency", "evaluate@consistency", "evaluate@consistency"]
    assert len(points[0].seeds) == 2
    assert points[0].miou == pytest.approx(sum(points[0].seeds) / 2)


def test_the_oracle_is_no_budget(workspace: Path) -> None:
    edit(workspace, label_cost={"budgets": [BUDGETS[0] | {"source": "full"}]})
    with pytest.raises(ParamsError, match=r"label_cost\.budgets\.0: .*source full is not bought"):
        run_label_cost(workspace)
