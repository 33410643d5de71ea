"""scripts/compare_weak_labels.py: its rows fit the params, its numbers by hand, one row made by the stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from scripts.compare_weak_labels import Row, at_coverage, compare, rows_of, table_of

from weakseg.core.params import load_params, with_changes
from weakseg.methods.pseudo import SweepRow
from weakseg.stages import tiles

PROJECT = Path(__file__).parents[1]


def test_rows_fit_the_params_and_cam_can_see_as_many_crops() -> None:
    base = load_params(PROJECT / "params.yaml")
    rows = rows_of(base, ablations=True)
    changed = [with_changes(base, row.changes) for row in rows]
    assert sum(params == base for params in changed) == 2  # cam and single_stage as they are
    plan, own = changed[3].classifier.optimiser, base.single_stage.optimiser
    assert abs(plan.steps * plan.batch - own.steps * own.batch) < plan.batch
    assert rows_of(base, ablations=False) == rows[:4]
    assert len(rows_of(changed[3], ablations=False)) == 3  # cam has as many crops already


def test_quality_at_a_coverage_lies_between_its_rows() -> None:
    table = [
        SweepRow(min_score=0.0, min_margin=0.0, coverage=1.0, accuracy=0.5, miou=0.4, class_iou=(0.3, 0.5)),
        SweepRow(min_score=0.0, min_margin=0.5, coverage=0.6, accuracy=0.7, miou=0.6, class_iou=(0.5, 0.7)),
    ]
    assert at_coverage(table, 0.8, ("a", "b")) == {
        "coverage": 0.8,
        "accuracy": pytest.approx(0.6),
        "miou": pytest.approx(0.5),
        "iou": {"a": pytest.approx(0.4), "b": pytest.approx(0.6)},
    }
    assert at_coverage(table, 0.2, ("a", "b"))["miou"] == pytest.approx(0.6)  # nothing surer is known


def test_table_by_hand() -> None:
    def score(miou: float) -> dict[str, object]:
        return {"coverage": 0.5, "accuracy": 0.8, "miou": miou, "iou": {"car": miou / 2}}

    found = [
        {
            "name": "cam",
            "seed": s,
            "chosen": score(0.2 + 0.2 * s),
            "equal": {k: score(0.3) for k in ("1.00", "0.75", "0.50")},
        }
        for s in (0, 1)
    ]
    lines = table_of(found, ["car"]).splitlines()
    assert lines[3:5] == [
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| cam | 2 | 0.50 | 0.800 | 0.300 | 0.200 to 0.400 | 0.150 |",
    ]
    assert sum(line.startswith("| cam") for line in lines) == 4


def test_a_row_is_made_by_the_stages_once_and_leaves_its_numbers_alone(workspace: Path) -> None:
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["single_stage"] |= {"backbone": "resnet38", "weights": "none", "width": 16, "channels": 16, "crop": 32}
    raw["single_stage"]["optimiser"] |= {"steps": 2, "batch": 2, "report_every": 2}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    tiles.run(workspace)
    rows = [Row("mine", "single_stage", {"single_stage.self_training": False})]
    first, again = (compare(workspace, rows, [3]) for _ in range(2))
    assert first == again
    assert first[0]["equal"]["1.00"]["miou"] >= 0
    assert not (workspace / "out" / "scores").exists()
    assert [p.name for p in (workspace / ".weakseg" / "comparison").iterdir()] == ["rows.json"]
