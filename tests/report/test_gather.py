"""What the page reads from a workspace, and what it says of gaps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import weakseg.tracking
from weakseg.core.errors import StageError, TrackingError
from weakseg.core.layout import Layout
from weakseg.evaluation.bootstrap import Interval
from weakseg.evaluation.metrics import Spread
from weakseg.evaluation.reports import EvaluationReport
from weakseg.report import gather as content
from weakseg.report.content import CostPoint, Row


def compared(source: str, **changes: Any) -> dict[str, Any]:
    """A row as the report stage compares it."""
    return {
        **{"source": source, "miou": 0.4, "iou": {"road": 0.4}, "oa": 0.7, "mf1": 0.5, "miou_eroded": 0.45},
        **{"iou_batch_mean": 0.4, "spread": Spread(0.4, 0.39, 0.41, 3), "selection": "last"},
        **{"gain": None, "gap_closed": None},
        **changes,
    }


def evaluated(**changes: Any) -> EvaluationReport:
    """A report of one class and one area, as it comes from JSON."""
    content = {
        **{"classes": ["road"], "miou": 0.5, "iou": {"road": 0.5}, "validation_data": "feed"},
        **{"areas": {"v": {"confusion": [[1]], "miou": 0.5}}, "selection": "last", "steps": 10},
        **changes,
    }
    return EvaluationReport.model_validate(content)


def rows(*sources: str) -> list[Row]:
    return [content.row_of(compared(source)) for source in sources]


def test_a_row_of_the_table() -> None:
    gain = Interval(0.1, 0.0, 0.2)
    row = content.row_of(compared("single_stage", gain=gain))
    assert (row.role, row.short, row.label) == ("task_ii", "single stage", "task (ii): single stage")
    assert (row.low, row.high, row.seeds, row.gain) == (0.39, 0.41, 3, gain)
    assert [(row.role, row.short) for row in rows("pixel", "full")] == [("task_i", "task (i)"), ("oracle", "oracle")]


def test_curves_are_read_by_seed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.curve("pixel").parent.mkdir(parents=True)
    layout.curve("pixel").write_text("seed,step,train/loss,holdout/miou\n0,10,2,0.1\n0,20,1,0.2\n5,10,2,0.3\n5,20,1,\n")
    curves, name = content.read_curves(layout, rows("pixel", "cam"))
    assert [curve.source for curve in curves] == ["pixel"]
    assert curves[0].seeds[0] == [(10, 0.1), (20, 0.2)]
    assert curves[0].seeds[1][0] == (10, 0.3)
    assert "hold-out" in name
    layout.curve("cam").write_text("seed,step,train/loss\n0,10,2\n")
    curves, name = content.read_curves(layout, rows("pixel", "cam"))
    assert curves[1].seeds == ([(10, 2.0)],)
    assert name.startswith("Training loss")


def test_label_costs(tmp_path: Path) -> None:
    path = tmp_path / "label_cost.json"
    assert content.read_costs(path) == []
    point = {"budget_name": "all", "source": "full", "cost_hours": 30, "miou": 0.5, "seeds": [0, 1]}
    path.write_text(json.dumps({"curve": [point, point | {"seeds": 3}]}))
    assert content.read_costs(path) == [CostPoint("all", "full", 30.0, 0.5, 2), CostPoint("all", "full", 30.0, 0.5, 3)]
    assert content.read_cost_words(path) == []
    path.write_text(json.dumps({"curve": [], "advice": "Label boxes.", "priced": "prices: tags 1 s", "runs": {}}))
    assert content.read_cost_words(path) == ["prices: tags 1 s", "Label boxes."]
    path.write_text(json.dumps({"curve": [{"source": "full"}]}))
    with pytest.raises(StageError, match=r"no curve of label costs \(KeyError: 'budget_name'\); expected .*curve"):
        content.read_costs(path)


def test_warnings() -> None:
    good = evaluated()
    assert content.warnings({"pixel": good, "cam": good}, []) == []
    other = evaluated(selection="validation", steps=20, validation_data="y")
    said = content.warnings({"pixel": good, "cam": other}, ["single_stage"])
    for words, line in zip(("chosen on", "same state", "same number", "single stage"), said, strict=True):
        assert words in line


def test_no_pictures_yet(tmp_path: Path) -> None:
    reports = {"pixel": evaluated()}
    assert content.validation_scenes(Layout(tmp_path), ["pixel"], rows("pixel"), reports) == ([], ["pixel"])
    assert content.worst_scenes(Layout(tmp_path), "pixel") == []


def test_facts_name_data_and_params(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    found = dict(content.facts(tmp_path, {"pixel": evaluated()}))
    assert found["data, md5 in data.dvc"] == "abc.dir"
    assert found["params.yaml, md5"] == "e0ccdaf42c593022e15b18cc0e96d201"
    assert (found["validation areas, blake2b"], found["training steps"]) == ("feed", "10")
    assert found["checkpoint used"] == "the last"
    assert "dvc.lock before this stage, md5" not in found


def test_runs_are_named_only_if_they_are_the_reported_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = {"pixel": evaluated(), "cam": evaluated(miou=0.4), "crf": evaluated(miou=0.3)}
    assert content.known_runs(tmp_path, reports) == {}  # tracking is off in tests
    assert list(tmp_path.iterdir()) == []  # not even a database was made

    def find_run(root: Path, name: str) -> Any:
        if name == "evaluate@crf":
            raise TrackingError("no run", expected="one", cure="none")
        value = {"evaluate@pixel": 0.5, "evaluate@cam": 0.41}[name]
        return SimpleNamespace(
            data=SimpleNamespace(metrics={"miou": value}), info=SimpleNamespace(run_id=f"id of {name}")
        )

    monkeypatch.setenv("WEAKSEG_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert content.known_runs(tmp_path, reports) == {}
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setattr(weakseg.tracking, "find_run", find_run)
    assert content.known_runs(tmp_path, reports) == {"evaluate@pixel": "id of evaluate@pixel"}
