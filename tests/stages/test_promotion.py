"""Promotion of what the pipeline trained: a first champion, a refusal that says why, a better one, and the way back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from weakseg.errors import StageError
from weakseg.registry import Gates, champion_of, rollback
from weakseg.stages import evaluate, segment, tiles
from weakseg.stages.promotion import compare_sources, evidence_of, promote_source


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


def test_a_source_that_was_not_evaluated_is_refused(workspace: Path) -> None:
    with pytest.raises(StageError, match="run `dvc repro evaluate@pixel`"):
        promote_source(workspace, "pixel", name="m", gates=Gates())


def test_null_in_a_report_is_a_class_that_is_nowhere() -> None:
    evidence = evidence_of({"validation_data": "h", "miou": 0.5, "iou": {"car": None, "tree": 0.5}})
    assert np.isnan(evidence.iou["car"])
    assert evidence.iou["tree"] == 0.5


def test_two_sources_side_by_side(workspace: Path) -> None:
    folder = workspace / "reports" / "evaluate"
    folder.mkdir(parents=True)
    for name, right in (("pixel", 60), ("fused", 80)):
        areas = {area: {"confusion": [[right, 100 - right], [100 - right, right]]} for area in ("v1", "v2")}
        iou = right / (200 - right)
        report = {"validation_data": "h", "miou": iou, "iou": {"a": iou, "b": iou}, "areas": areas}
        (folder / f"{name}.json").write_text(json.dumps(report))
    lines = compare_sources(workspace, "pixel", "fused").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["mIoU", "a", "b"]
    assert lines[1].split()[1:] == ["0.4286", "0.6667", "+0.2381", "[+0.2381,", "+0.2381]"]
    (folder / "fused.json").write_text((folder / "fused.json").read_text().replace('"h"', '"other"'))
    with pytest.raises(StageError, match="different validation data"):
        compare_sources(workspace, "pixel", "fused")


@pytest.mark.slow
def test_promotion_of_a_trained_model(workspace: Path) -> None:
    tiles.run(workspace)
    segment.run(workspace, "pixel")
    evaluate.run(workspace, "pixel")
    first = promote_source(workspace, "pixel", name="m", gates=Gates())
    assert (first.moved, first.version, first.previous) == (True, "1", None)

    import mlflow

    from weakseg.tracking import tracking_uri

    mlflow.set_tracking_uri(tracking_uri(workspace))
    mlflow.set_registry_uri(tracking_uri(workspace))
    model = mlflow.pyfunc.load_model("models:/m@champion")
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 56, 3), dtype=np.uint8)
    prediction = model.predict(image)
    assert (prediction.shape, prediction.dtype) == ((1, 40, 56), np.uint8)

    again = promote_source(workspace, "pixel", name="m", gates=Gates())  # no gain over itself
    assert (again.moved, again.failed) == (False, ["mIoU gain"])
    assert champion_of(workspace, "m")[0] == "1"  # type: ignore[index]

    file = workspace / "reports" / "evaluate" / "pixel.json"
    report = json.loads(file.read_text())
    report["miou"] = 1.0
    report["iou"] = dict.fromkeys(report["iou"], 1.0)
    area = report["areas"].pop("v1")
    area["confusion"] = np.diag(np.sum(area["confusion"], axis=1)).tolist()
    report["areas"] = {"v1": area}
    file.write_text(json.dumps(report))
    one_area = promote_source(workspace, "pixel", name="m", gates=Gates())
    assert one_area.failed == ["mIoU gain"]  # one area allows no interval, however good the model is
    with pytest.raises(Exception, match="is the first champion"):
        rollback(workspace, "m")
