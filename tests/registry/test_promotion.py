"""Promotion of what the pipeline trained: a first champion, a refusal that says why, a better one, and the way back."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.data.store import save_areas
from weakseg.evaluation.metrics import scores_of
from weakseg.evaluation.reports import EvaluationReport
from weakseg.inference.precision import Held
from weakseg.pipeline.context import open_context
from weakseg.registry import promotion
from weakseg.registry.promotion import evidence_of, promote_source
from weakseg.registry.versions import CLASSES, Gates, champion_of
from weakseg.stages.segment import save_segmenter
from weakseg.tracking import connect
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.segmenter import segmenter_of


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


def test_a_source_that_was_not_evaluated_is_refused(workspace: Path) -> None:
    with pytest.raises(StageError, match="run `dvc repro evaluate@pixel`"):
        promote_source(workspace, "pixel", name="m", gates=Gates())


@pytest.mark.parametrize("held", [None, Held("openvino", "bf16", "1", 0.5, 0.5)])
def test_a_registered_model_says_what_bf16_costs_it(
    held: Held | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, kept = Layout(tmp_path), {}
    file = layout.checkpoints("pixel") / "seed0.pt"
    file.parent.mkdir(parents=True)
    save_checkpoint(file, {"scale": 0.5})
    monkeypatch.setattr(promotion, "measure_bf16", lambda weights, tiles: (held, "words"))
    monkeypatch.setattr(
        promotion, "save_pyfunc", lambda weights, *_: kept.update({weights.name: load_checkpoint(weights)})
    )
    promotion._save_model(layout, "pixel", tmp_path / "model")
    assert kept == {"seed0.pt": {"format": 1, "scale": 0.5, **(held.entries() if held else {})}}
    assert "precisions" not in load_checkpoint(file)  # a stage's file


def test_null_in_a_report_is_a_class_that_is_nowhere() -> None:
    report = {**report_of({"car": 50, "tree": 50}), "iou": {"car": None, "tree": 0.5}}
    evidence = evidence_of(EvaluationReport.model_validate(report))
    assert np.isnan(evidence.iou["car"])
    assert evidence.iou["tree"] == 0.5


def report_of(right: dict[str, int], validation: str = "data1") -> dict[str, Any]:
    """A report on three areas of two classes with 100 px each; so many of them are right."""
    names = list(right)
    matrix = np.array([[right[n] if n == m else 100 - right[n] for m in names] for n in names])
    areas = {f"v{i}": {"confusion": (matrix + np.diag([i, i])).tolist()} for i in range(3)}
    pooled = scores_of(sum(np.array(area["confusion"]) for area in areas.values()), tuple(names))
    return {
        **{"classes": names, "validation_data": validation},
        **{"miou": pooled["miou"], "iou": pooled["iou"], "areas": areas},
        **{"miou_over_seeds": {"mean": pooled["miou"], "low": pooled["miou"], "high": pooled["miou"], "count": 1}},
        **{"selection": "last", "steps": 4},
    }


def test_promotion_refusal_and_rollback_as_typed_over_http(
    workspace: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands as typed, against a server: a first champion, a refusal that says why, a better one, and back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    (workspace / "out" / "tiles").mkdir(parents=True)
    ISPRS.save(workspace / "out" / "tiles" / "classes.yaml")
    save_areas(workspace / "out" / "tiles", [])
    context = open_context(workspace)
    network = segmenter_of(context.params.segment.network, len(ISPRS))
    save_segmenter(context.layout.checkpoints("pixel") / "seed0.pt", network, context)
    (workspace / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef.dir\n  path: data\n")

    def command(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["--root", str(workspace), *words])
        return done.exit_code, done.output

    def promote(right: dict[str, int], validation: str = "data1") -> tuple[int, str]:
        file = workspace / "reports" / "evaluate" / "pixel.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report_of(right, validation)))
        return command("promote", "pixel")

    code, said = promote({"car": 50, "tree": 50})
    assert (code, said.splitlines()[-1]) == (0, "champion is now version 1, before none")
    code, said = promote({"car": 90, "tree": 20}, "data2")
    assert code == 2
    failed = [line.split(":")[0] for line in said.splitlines() if line.startswith("FAILED")]
    assert failed == ["FAILED same validation data", "FAILED mIoU gain", "FAILED class tree"]
    client = connect(workspace)
    project = client.create_run(client.create_experiment("project")).info  # as under `mlflow run . -e promote`
    monkeypatch.setenv("MLFLOW_RUN_ID", project.run_id)
    assert promote({"car": 90, "tree": 50})[0] == 0
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert command("rollback") == (0, "champion is version 1 again, was 3\n")

    log = [json.loads(line) for line in (workspace / "results" / "promotions.jsonl").read_text().splitlines()]
    assert [(line["action"], line["version"]) for line in log] == [
        *(("promote", "1"), ("refuse", "2"), ("promote", "3"), ("rollback", "1"))
    ]
    assert log[1]["failed"] == [name.removeprefix("FAILED ") for name in failed]
    champion, evidence = champion_of(workspace, "weakseg")  # type: ignore[misc]
    assert (champion, evidence.data_hash) == ("1", "data1")

    from mlflow.models import get_model_info

    kept = connect(workspace).get_model_version("weakseg", "3")
    for fact in ("Data: 0123456789abcdef.dir; validation data1", "Limits:", "Licence: Apache-2.0", "paired bootstrap"):
        assert fact in kept.description
    (row,) = [line for line in kept.description.splitlines() if line.startswith("| car |")]
    value, low, high = (float(number) for number in re.findall(r"\d\.\d+", row))
    assert low < value < high
    assert value == pytest.approx(report_of({"car": 90, "tree": 50})["iou"]["car"], abs=6e-4)
    run = client.get_run(kept.run_id)
    assert (run.info.run_name, run.info.experiment_id) == ("promote@pixel", project.experiment_id)
    assert run.data.tags["mlflow.parentRunId"] == project.run_id
    assert run.data.metrics["iou/car"] == pytest.approx(value, abs=6e-4)
    assert "mlflow.parentRunId" not in client.get_run(client.get_model_version("weakseg", "1").run_id).data.tags
    folder = connect(workspace).download_artifacts(kept.run_id, "model", str(workspace))
    info = get_model_info(folder)
    assert info.signature is not None
    assert info.saved_input_example_info is not None


def test_a_model_with_a_card_of_before_says_so(
    workspace: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `promote` left it when reports did not carry their classes: no tag, and an evaluation without the list.

    The next `promote` and `runs compare` say so; the model can be replaced all the same, and then nothing is said.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["promote"] |= {"model": "older"}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    (workspace / "out" / "tiles").mkdir(parents=True)
    ISPRS.save(workspace / "out" / "tiles" / "classes.yaml")
    save_areas(workspace / "out" / "tiles", [])
    context = open_context(workspace)
    network = segmenter_of(context.params.segment.network, len(ISPRS))
    save_segmenter(context.layout.checkpoints("pixel") / "seed0.pt", network, context)
    for name, right in (("pixel", 50), ("cam", 90)):
        file = context.layout.report("evaluate", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report_of({"tree": right, "car": right})))

    def command(*words: str) -> Any:
        done = CliRunner().invoke(app, ["--root", str(workspace), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done

    assert "warning: the model card" not in command("promote", "pixel").output
    client = connect(workspace)
    first = client.get_model_version("older", "1")
    assert json.loads(first.tags[CLASSES]) == ["tree", "car"]
    client.delete_model_version_tag("older", "1", CLASSES)
    old = {key: value for key, value in report_of({"tree": 50, "car": 50}).items() if key != "classes"}
    (tmp_path / "evaluation.json").write_text(json.dumps(old))
    client.log_artifact(first.run_id, str(tmp_path / "evaluation.json"), "model/artifacts")

    said = "warning: the model card of version 1 of older (champion) was written before reports named the classes"
    compared = command("runs", "compare", "pixel", "cam")
    assert [line for line in compared.stderr.splitlines() if line.startswith(said)]  # beside what MLflow logs
    assert compared.stdout.splitlines()[2].startswith("tree ")
    (workspace / "reports" / "evaluate" / "cam.json").rename(workspace / "reports" / "evaluate" / "pixel.json")
    promoted = command("promote", "pixel")
    (line,) = [line for line in promoted.stderr.splitlines() if line.startswith("warning")]
    assert line.startswith(said)
    assert "may be wrong; register the model again (`weakseg promote SOURCE`)" in line
    assert promoted.stdout.splitlines()[-1] == "champion is now version 2, before 1"
    assert said not in command("runs", "compare", "pixel", "pixel").output
