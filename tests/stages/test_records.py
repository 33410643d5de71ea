"""What the stages leave in MLflow, read from the store; and two recorded evaluations side by side."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from weakseg.core.classes import ISPRS
from weakseg.core.errors import StageError, TrackingError
from weakseg.core.layout import Layout
from weakseg.evaluation.metrics import scores_of
from weakseg.report.comparison import compare_evaluations
from weakseg.tracking import connect, send_spool
from weakseg.training.checkpoints import load_checkpoint

DIGEST = "0123456789abcdef0123456789abcdef.dir"


@dataclass
class Records:
    """The workspace and all runs of its store by name."""

    root: Path
    runs: dict[str, list[Any]]

    def one(self, name: str) -> Any:
        (run,) = self.runs[name]
        return run

    def artefact(self, run: Any, path: str) -> Path:
        return Path(run.info.artifact_uri.removeprefix("file://")) / path

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        points = connect(self.root).get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in points]


def execute(root: Path, *stages: str) -> None:
    for name in stages:
        stage, _, source = name.partition("@")
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Records:
    """Task (i) with one seed, then, as the DVC experiment bold-ant, with two seeds and without dropout."""
    root = make_workspace(tmp_path_factory.mktemp("workspace"))
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["segment"]["refit"] = False  # so that the best network of the hold-out is kept beside the last
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "data.dvc").write_text(f"outs:\n- md5: {DIGEST}\n  size: 5\n  nfiles: 11\n  path: data\n")
    (root / ".gitignore").write_text("/data\n/out\n/.weakseg\nmlflow.db\nmlruns\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=root, check=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
            patch.delenv(name)
        patch.setenv("WEAKSEG_TRACKING", "spool")
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
        execute(root, "tiles", "segment@pixel", "evaluate@pixel")
        params = yaml.safe_load((root / "params.yaml").read_text())
        params["segment"] |= {"seeds": [0, 1]}
        params["segment"]["network"]["dropout"] = 0.0
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        patch.setenv("DVC_EXP_NAME", "bold-ant")
        execute(root, "segment@pixel", "evaluate@pixel")
        assert send_spool(root).problem == ""
        client = connect(root)
        found = client.search_runs(["1"], order_by=["attributes.start_time ASC"])
    runs: dict[str, list[Any]] = {}
    for run in found:
        runs.setdefault(run.info.run_name, []).append(run)
    return Records(root, runs)


def test_each_execution_has_one_parent_with_a_child_per_stage(records: Records) -> None:
    first, second = records.runs["pipeline"]
    children = {
        parent.info.run_id: [
            run.info.run_name
            for runs in records.runs.values()
            for run in runs
            if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
        ]
        for parent in (first, second)
    }
    assert sorted(children[first.info.run_id]) == ["evaluate@pixel", "segment@pixel", "tiles"]
    assert sorted(children[second.info.run_id]) == ["evaluate@pixel", "segment@pixel"]
    assert {run.info.status for runs in records.runs.values() for run in runs} == {"FINISHED"}


def test_holdout_metrics_have_the_same_names_with_one_seed_and_with_several(records: Records) -> None:
    """Per report, as users of MLflow look for them; the curve that DVC plots says the same."""
    one, several = records.runs["segment@pixel"]
    seeds = [records.one("segment@pixel seed 0"), records.one("segment@pixel seed 1")]
    names = {"val/miou", *(f"val/iou/{name}" for name in ("car", "tree", "building", "low_vegetation"))}
    for run in (one, *seeds):
        assert names <= set(run.data.metrics)
        assert [step for step, _ in records.history(run, "val/iou/car")] == [2, 4]
        assert "train/loss" in run.data.metrics
        assert not [name for name in run.data.metrics if "holdout" in name or "seed" in name]
    assert [run.data.tags["seed"] for run in (one, *seeds)] == ["0", "0", "1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {several.info.run_id}
    means = np.mean([run.data.metrics["val/miou"] for run in seeds])
    assert several.data.metrics["val/miou"] == pytest.approx(means)
    curve = Layout(records.root).curve("pixel").read_text().splitlines()
    assert len(curve) == 1 + 4  # of the second training


def test_best_and_last_checkpoints_are_kept(records: Records) -> None:
    run = records.runs["segment@pixel"][0]
    history = dict(records.history(run, "val/miou"))
    files = {kind: records.artefact(run, f"checkpoints/{kind}/seed0.pt") for kind in ("last", "best")}
    last, best = (load_checkpoint(files[kind])["weights"] for kind in ("last", "best"))
    same = all(bool((last[name] == best[name]).all()) for name in last)
    assert same == (history[4] > history[2])  # the first of equals is kept
    folder = Layout(records.root).checkpoints("pixel")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.pt")} == {
        *("seed0.pt", "seed1.pt", "best/seed0.pt", "best/seed1.pt"),
    }


def test_a_run_says_what_made_it(records: Records) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=records.root, capture_output=True, text=True, check=True)
    clean, dirty = (run.data.tags for run in records.runs["segment@pixel"])
    assert clean["mlflow.source.git.commit"] == dirty["mlflow.source.git.commit"] == commit.stdout.strip()
    assert (clean["weakseg.git_dirty"], dirty["weakseg.git_dirty"]) == ("false", "true")  # params.yaml was edited
    assert (clean.get("weakseg.dvc_exp"), dirty["weakseg.dvc_exp"]) == (None, "bold-ant")
    assert clean["weakseg.data_md5"] == DIGEST
    assert clean["weakseg.params"] != dirty["weakseg.params"]
    for run in records.runs["segment@pixel"]:
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("data", DIGEST)
    assert [run.data.params["network.dropout"] for run in records.runs["segment@pixel"]] == ["0.2", "0.0"]


def test_the_machine_is_watched(records: Records) -> None:
    metrics = records.runs["segment@pixel"][0].data.metrics
    assert metrics["system/process_memory_usage_megabytes"] > 50
    assert "system/cpu_utilization_percentage" in metrics


def test_evaluations_keep_their_report_and_figures(records: Records) -> None:
    run = records.runs["evaluate@pixel"][1]
    report = json.loads(Layout(records.root).report("evaluate", "pixel").read_text())
    assert run.data.metrics["miou"] == pytest.approx(report["miou"])
    assert json.loads(records.artefact(run, "evaluate/pixel.json").read_text()) == report
    first = records.runs["evaluate@pixel"][0]  # of one seed: the metric of a class is its row's and column's
    old = json.loads(records.artefact(first, "evaluate/pixel.json").read_text())
    assert old["classes"] == list(ISPRS.names)
    matrix = np.array(old["areas"]["v1"]["confusion"])
    for index, name in enumerate(ISPRS.names):
        union = matrix[index].sum() + matrix[:, index].sum() - matrix[index, index]
        assert first.data.metrics[f"iou/{name}"] == pytest.approx(matrix[index, index] / union)
    table = records.artefact(run, "confusion/pixel.csv").read_text().splitlines()
    assert len(table) == 1 + 5
    for name in ("confusion/confusion.png", "overlays/v1.png"):
        picture = cv2.imread(str(records.artefact(run, name)))
        assert picture is not None
        assert picture.std() > 5


def test_two_recorded_evaluations_side_by_side(records: Records) -> None:
    first, second = records.runs["evaluate@pixel"]
    table = compare_evaluations(records.root, first.info.run_id, second.info.run_id)
    assert table is not None
    header, miou, *classes = table.splitlines()
    assert header.split()[:2] == [first.info.run_id[:8], second.info.run_id[:8]]
    pooled = []
    for run in (first, second):
        report = json.loads(records.artefact(run, "evaluate/pixel.json").read_text())
        pooled.append(scores_of(np.array(report["areas"]["v1"]["confusion"]), ISPRS.names)["miou"])
    assert pooled[0] == pytest.approx(first.data.metrics["miou"])  # one seed
    one, two, difference, *_ = map(float, miou.replace("[", "").replace(",", "").replace("]", "").split()[1:])
    assert [one, two, difference] == pytest.approx([*pooled, pooled[1] - pooled[0]], abs=1e-4)
    assert len(classes) == 5
    assert compare_evaluations(records.root, "pixel", second.info.run_id) is not None  # a source here, a run there
    assert compare_evaluations(records.root, "segment@pixel", "pixel") is None  # no evaluation


def evaluation(right: int) -> dict[str, Any]:
    iou = right / (200 - right)
    areas = {area: {"confusion": [[right, 100 - right], [100 - right, right]]} for area in ("v1", "v2")}
    return {"classes": ["a", "b"], "validation_data": "h", "miou": iou, "iou": {"a": iou, "b": iou}, "areas": areas}


def test_the_paired_table_by_hand(workspace: Path) -> None:
    """60 and 80 of 100 pixels right in both areas: every draw says the same, so the interval is a point."""
    folder = workspace / "reports" / "evaluate"
    folder.mkdir(parents=True)
    for name, right in (("pixel", 60), ("fused", 80)):
        (folder / f"{name}.json").write_text(json.dumps(evaluation(right)))
    lines = (compare_evaluations(workspace, "pixel", "fused") or "").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["mIoU", "a", "b"]
    assert lines[1].split()[1:] == ["0.4286", "0.6667", "+0.2381", "[+0.2381,", "+0.2381]"]
    (folder / "fused.json").write_text(json.dumps(evaluation(80) | {"validation_data": "other"}))
    with pytest.raises(StageError, match="different validation data"):
        compare_evaluations(workspace, "pixel", "fused")


def test_an_unknown_name_is_refused(records: Records) -> None:
    with pytest.raises(TrackingError, match="no run 'nobody'"):
        compare_evaluations(records.root, "nobody", "pixel")
