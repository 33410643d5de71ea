"""`weakseg tune` as it is typed: the dashboard's own process, a real git; and, slowly, real trainings on the demo."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.params import Params, load_params
from weakseg.stages import tiles
from weakseg.studies import Metrics, Report, tune
from weakseg.studies.space import value_at
from weakseg.tracking import connect, send_spool

PROJECT = Path(__file__).parents[2]
JOURNAL = Path(".weakseg") / "tuning.journal"


def command(root: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["--root", str(root), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *who, *words], cwd=root, capture_output=True, text=True, check=True).stdout


def by_dropout(params: Params, report: Report) -> Metrics:
    return {"miou": 0.5 + params.segment.network.dropout / 10, "iou/car": 0.5}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the demo's params and a study of three trials."""
    root = tmp_path_factory.mktemp("tune")
    shutil.copy(PROJECT / "params.yaml", root / "params.yaml")
    git(root, "init", "-q")
    git(root, "add", "params.yaml")
    git(root, "commit", "-q", "-m", "params")
    params = load_params(root / "params.yaml")
    tune(root, params, params.tune.model_copy(update={"trials": 3}), by_dropout, study="tune")
    return root


def test_apply_shows_as_a_git_diff(tuned: Path) -> None:
    before = load_params(tuned / "params.yaml")
    said = command(tuned, "tune", "apply", "--trial", "1")
    after = load_params(tuned / "params.yaml")
    lines = git(tuned, "diff", "--unified=0", "params.yaml").splitlines()
    changed = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2 * len(said.splitlines()) == 2 * len(before.tune.space) == 6
    for path in before.tune.space:
        assert value_at(after, path) != value_at(before, path)
        assert f"{path}: {value_at(before, path):g} -> {value_at(after, path):g}" in said
    git(tuned, "checkout", "-q", "params.yaml")


def test_the_dashboard_opens_on_the_study(tuned: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    words = [program, str(JOURNAL), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(words, cwd=tuned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = ask(f"http://127.0.0.1:{port}/api/studies", process)["study_summaries"]
        assert [study["study_name"] for study in studies] == ["tune"]
        trials = ask(f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}?after=0", process)["trials"]
        assert [trial["number"] for trial in trials] == [0, 1, 2]
        assert {trial["state"] for trial in trials} == {"Complete"}
    finally:
        process.kill()
        process.wait()


def ask(url: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.status == 200
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except OSError:
            assert process.poll() is None, "the dashboard ended"
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.slow
def test_every_trial_is_a_run_under_the_run_of_the_study(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real trainings, two trials and one more by --resume; then what MLflow has of them, and the report."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    tiles.run(workspace)
    command(workspace, "tune", "--trials", "2")
    said = command(workspace, "tune", "--trials", "3", "--resume")
    assert "`weakseg tune apply` writes its values into params.yaml" in said
    assert send_spool(workspace).left == 0
    client = connect(workspace)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    stages = {run.data.tags["weakseg.stage"]: run for run in runs if "weakseg.stage" in run.data.tags}
    trials = [run for run in runs if "trial" in run.data.tags]
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {stages["tune"].info.run_id}
    assert all(0 <= run.data.metrics["val/miou"] <= 1 for run in trials)
    kept = {file.path for file in client.list_artifacts(stages["tune"].info.run_id, "tuning")}
    assert {"tuning/history.png", "tuning/study.json"} <= kept
    folder = workspace / "reports" / "tuning"
    assert {"history.png", "importance.png", "parallel.png", "trials.csv"} <= {path.name for path in folder.iterdir()}
    assert sum(json.loads((folder / "study.json").read_text())["states"].values()) == 3


@pytest.mark.slow
def test_twelve_trials_of_the_demo_fit_into_five_minutes_on_two_cores(tmp_path: Path) -> None:
    """By CPU seconds, so that other work on the machine does not count."""
    shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")
    command(tmp_path, "data", "synth")
    command(tmp_path, "data", "tags", "--size", "32", "--write")
    tiles.run(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "weakseg", "--root", str(tmp_path), "tune", "--workers", "2"]
    subprocess.run(words, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((tmp_path / "reports" / "tuning" / "study.json").read_text())
    assert sum(summary["states"].values()) == 12
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 2 < 300
