"""The table over pipeline seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.evaluation.reports import AuditReport, EvaluationReport
from weakseg.pipeline.context import write_report
from weakseg.pipeline.presets import seeded
from weakseg.report.pooled import pool_runs

NAMES = ("road", "car")


def workspace(root: Path, params: dict[str, Any], seed: int, right: dict[str, int]) -> Path:
    """Two areas a source, in which ``right`` pixels of road are found and two of car are taken for road."""
    layout = Layout(root)
    layout.tiles.mkdir(parents=True)
    layout.params.write_text(yaml.safe_dump(seeded(params, seed)))
    ClassScheme(NAMES, ((1, 1, 1), (2, 2, 2)), ()).save(layout.tiles / "classes.yaml")
    for source, count in right.items():
        iou = {"road": count / (count + 2), "car": 0.0}
        scores = {"miou": iou["road"] / 2, "iou": iou}
        content = {
            **scores,
            **{"classes": NAMES, "seeds": {f"seed{seed}": scores}, "validation_data": "h", "selection": "last"},
            "areas": {name: {"confusion": [[count, 0], [2, 0]]} for name in "ab"},
        }
        write_report(layout.report("evaluate", source), EvaluationReport.model_validate(content).model_dump())
    audit = AuditReport(miou=0.1 * (seed + 1), iou={"road": 0.5, "car": 0.5}, accuracy=0.5, coverage=0.5)
    write_report(layout.report("audit", "cam"), audit.model_dump())
    return root


def test_sources_that_all_have_are_pooled(tmp_path: Path, tiny: Callable[[], dict[str, Any]]) -> None:
    """Road: task (i) 2 / 4 and 6 / 8, joint 8 / 10 twice; mIoU is half of it. One has cam, so cam is left out."""
    first = workspace(tmp_path / "w0", tiny(), 0, {"pixel": 2, "joint": 8, "cam": 2})
    second = workspace(tmp_path / "w1", tiny(), 1, {"pixel": 6, "joint": 8})
    pool_runs([first, second], tmp_path)
    rows = json.loads((tmp_path / "report.json").read_text())
    assert sorted(rows) == ["joint", "pixel"]
    assert rows["pixel"]["spread"] == pytest.approx({"mean": 0.3125, "low": 0.25, "high": 0.375, "count": 2})
    assert rows["joint"]["gain"]["value"] == pytest.approx(16 / 20 / 2 - 8 / 12 / 2)  # of the pooled matrices
    text = (tmp_path / "results.md").read_text()
    assert "| cam | 0.500 | 0.500 | 0.150 |" in text
    assert "masks are the mean of 2 runs" in text


def test_another_pipeline_is_refused_by_what_differs(tmp_path: Path, tiny: Callable[[], dict[str, Any]]) -> None:
    other = tiny()
    other["segment"]["optimiser"]["lr"] = 0.5
    roots = [workspace(tmp_path / "w0", tiny(), 0, {"pixel": 2}), workspace(tmp_path / "w1", other, 1, {"pixel": 2})]
    with pytest.raises(StageError, match=r"w1 has another segment\.optimiser\.lr than .*w0"):
        pool_runs(roots, tmp_path)
    assert not (tmp_path / "report.json").exists()
