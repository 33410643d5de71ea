"""Tracking: what a stage reports arrives in MLflow once and whole, and no server can hold the stage up."""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from weakseg import tracking
from weakseg.core.errors import ParamsError, StageError, TrackingError
from weakseg.tracking import (
    compare,
    connect,
    create_run,
    data_hash,
    find_evaluation_of_data,
    find_run,
    pipeline_key,
    provenance,
    send_spool,
    sender,
    track,
    tracking_uri,
)
from weakseg.tracking.client import known_cause
from weakseg.tracking.system_metrics import _gpu_metrics

SOURCE = str(Path(tracking.__file__).parents[2])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One workspace, and so one sqlite file, for the module: making the tables takes seconds."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "params.yaml").write_text("segment: {dropout: 0.3}\n")
    (folder / "data.dvc").write_text(
        "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  size: 1234\n  nfiles: 5\n  path: data\n"
    )
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    return folder


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "WEAKSEG_", "DVC_EXP")) or name == "RANK":
            monkeypatch.delenv(name)
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")  # else a sample stands before every end


def history(root: Path, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in connect(root).get_metric_history(run_id, name)]


def spooled(root: Path) -> list[Path]:
    return sorted((root / ".weakseg" / "spool").glob("*/journal.jsonl"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_all_that_a_stage_reports_arrives(root: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"png")
    with track(
        "segment@pixel", root=root, params={"segment": {"dropout": 0.3, "steps": [1, 2]}}, tags={"x": "y"}
    ) as run:
        run.log_metrics({"val/iou/car": 0.25, "val/iou/low vegetation (x)": math.nan}, step=0)
        run.log_metrics({"val/iou/car": 0.5, "loss": math.inf}, step=1)
        run.log_artifact(tmp_path / "best.pt", "checkpoints")
        (tmp_path / "best.pt").write_bytes(b"changed later")
        run.log_artifact(tmp_path / "pictures")
        run.log_dict({"miou": 0.5}, "evaluate/pixel.json")
        run.log_dataset("scenes", data_hash(root), "data")
    assert [json.loads(line)["op"] for line in spooled(root)[0].read_text().splitlines()] == [
        "start", "params", "dataset", "metrics", "metrics", "artifact", "artifact", "artifact", "dataset", "end",
    ]  # fmt: skip
    report = send_spool(root)
    assert (report.sent, report.left, report.problem) == (1, 0, "")
    assert spooled(root) == []

    found = find_run(root, run.key)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "segment@pixel"
    assert found.data.params == {"segment.dropout": "0.3", "segment.steps": "[1, 2]"}
    assert history(root, found.info.run_id, "val/iou/car") == [(0, 0.25), (1, 0.5)]
    assert math.isnan(found.data.metrics["val/iou/low vegetation _x_"])
    assert math.isnan(found.data.metrics["loss"])
    assert found.data.tags["x"] == "y"
    assert found.data.tags["weakseg.data_md5"] == "0123456789abcdef0123456789abcdef.dir"
    artifacts = Path(found.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(root / "mlruns")
    assert (artifacts / "checkpoints" / "best.pt").read_bytes() == b"weights"
    assert (artifacts / "pictures" / "a.png").read_bytes() == b"png"
    assert json.loads((artifacts / "evaluate" / "pixel.json").read_text()) == {"miou": 0.5}
    inputs = {item.dataset.name: item for item in found.inputs.dataset_inputs}
    assert {name: item.dataset.digest for name, item in inputs.items()} == dict.fromkeys(
        ("data", "scenes"), data_hash(root)
    )
    assert {name: item.tags[0].value for name, item in inputs.items()} == {
        "data": "segment@pixel",
        "scenes": "training",
    }
    assert json.loads(inputs["data"].dataset.profile) == {"bytes": 1234, "files": 5}
    from mlflow.data import get_source

    assert get_source(inputs["data"]).uri == str(root / "data")
    assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["DO_NOT_TRACK"]) == ("true", "true")


def test_stages_of_one_execution_meet_in_one_parent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for stage, execution in [("a", "one"), ("b", "one"), ("c", "two")]:
        monkeypatch.setenv("WEAKSEG_PIPELINE_RUN", execution)
        with track(stage, root=root, params={}) as run:
            runs.append(run)
        send_spool(root)
    found = [find_run(root, run.key) for run in runs]
    parents = [run.data.tags["mlflow.parentRunId"] for run in found]
    assert parents[0] == parents[1] != parents[2]
    parent = connect(root).get_run(parents[0])
    assert parent.data.tags["weakseg.pipeline"] == "one"
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time == found[1].info.end_time


def test_mlflow_run_id_becomes_the_parent_and_is_never_reused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(root)
    outer = client.create_run(client.create_experiment("project")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    with track("stage", root=root, params={"a": 1}) as run:
        assert "MLFLOW_RUN_ID" not in os.environ
        run.log_metrics({"m": 1.0})
    assert os.environ["MLFLOW_RUN_ID"] == outer
    send_spool(root)
    found, parent = find_run(root, run.key), client.get_run(outer)
    assert found.data.tags["mlflow.parentRunId"] == outer
    assert found.info.experiment_id == parent.info.experiment_id
    assert (parent.info.status, parent.data.params, parent.data.metrics) == ("RUNNING", {}, {})


def test_unknown_mlflow_run_id_falls_back_to_the_pipeline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with track("stage", root=root, params={}) as run:
        pass
    assert send_spool(root).problem == ""
    parent = connect(root).get_run(find_run(root, run.key).data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "pipeline"


def test_trials_nest_under_their_study_whichever_is_sent_first(root: Path) -> None:
    with track("tune", root=root, params={"trials": 2}) as study:
        with track("trial", root=root, params={}) as inner:
            pass
        os.environ.pop("WEAKSEG_PARENT_RUN")  # as in a worker that was told the key
        with track("trial", root=root, params={}, parent=study.key) as told:
            pass
        for folder in [file.parent for file in spooled(root)][1:]:
            assert sender._deliver(folder, None)
    send_spool(root)
    found = find_run(root, study.key)
    for trial in (inner, told):
        assert find_run(root, trial.key).data.tags["mlflow.parentRunId"] == found.info.run_id
    assert (found.info.run_name, found.info.status, found.data.params) == ("tune", "FINISHED", {"trials": "2"})
    assert found.data.tags["weakseg.stage"] == "tune"


DVC = """
import os, subprocess, sys
from pathlib import Path
ask = "from weakseg.tracking import pipeline_key; print(pipeline_key({'weakseg.dvc_exp': '%s'}))"
for stage, experiment in (("tiles", "a"), ("segment@pixel", "a"), ("tiles", "b")):
    environment = {**os.environ, "DVC_STAGE": stage}
    subprocess.run(["sh", "-c", f'{sys.executable} -c "{ask % experiment}"; true'], env=environment, check=True)
"""


def test_each_execution_of_dvc_has_a_parent_of_its_own() -> None:
    """A stand-in for DVC that starts stages as DVC does: a shell with DVC_STAGE set."""
    command, environment = [sys.executable, "-c", DVC], {**os.environ, "PYTHONPATH": SOURCE}
    one, two = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert one[0] == one[1] != one[2]
    assert not set(one) & set(two)


def test_an_error_in_the_stage_is_passed_on_and_recorded(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), track("broken", root=root, params={}) as run:
        run.log_metrics({"loss": 1 / 0})
    assert "WEAKSEG_PARENT_RUN" not in os.environ
    send_spool(root)
    assert find_run(root, run.key).info.status == "FAILED"


def test_stop_between_sending_and_noting_it_duplicates_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with track("stopped", root=root, params={"a": 1}) as run:
        for step in range(3):
            run.log_metrics({"loss": 1.0 / (step + 1), "nan": math.nan}, step=step)
        run.log_dict({"x": 1}, "x.json")
        run.log_dataset("scenes", "d" * 36, "data")
    real = sender.write_state
    lines = len(spooled(root)[0].read_text().splitlines())
    for _ in range(lines):  # every line is sent, then "crashes" before the cursor moves; the next try sends it again

        def crash(folder: Path, state: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(sender, "write_state", crash)
            with pytest.raises(KeyboardInterrupt):
                send_spool(root)
        calls = []

        def once(folder: Path, state: Any, calls: list[int] = calls) -> None:
            if calls:
                raise KeyboardInterrupt
            calls.append(1)
            real(folder, state)

        with monkeypatch.context() as patch:
            patch.setattr(sender, "write_state", once)
            try:
                send_spool(root)
            except KeyboardInterrupt:
                continue
    assert send_spool(root).left == 0
    found = find_run(root, run.key)
    assert history(root, found.info.run_id, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]
    assert len(history(root, found.info.run_id, "nan")) == 3
    assert sorted(item.dataset.name for item in found.inputs.dataset_inputs) == ["data", "scenes"]
    experiment = [found.info.experiment_id]
    assert len(connect(root).search_runs(experiment, f"tags.`weakseg.run` = '{run.key}'")) == 1


def test_what_mlflow_refuses_for_good_does_not_hold_up_the_rest(root: Path) -> None:
    with track("refused", root=root, params={"a": 1}) as run:
        run.log_params({"a": 2})
        run.log_metrics({"after": 1.0})
    assert send_spool(root).left == 0
    found = find_run(root, run.key)
    assert found.data.params == {"a": "1"}
    assert found.data.metrics == {"after": 1.0}
    assert found.data.tags["weakseg.refused"].startswith("params: ")


def test_a_killed_stage_is_recorded_as_killed(root: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from weakseg.tracking import track\n"
        f"with track('killed', root=Path({str(root)!r}), params={{}}) as run:\n"
        "    run.log_metrics({'loss': 0.5})\n"
        "    print(run.key, 'mlflow' in sys.modules, 'torch' in sys.modules, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    key, *imported = done.stdout.split()
    assert imported == ["False", "False"]  # a stage pays for neither import
    assert send_spool(root).sent == 1
    found = find_run(root, key)
    assert found.info.status == "KILLED"
    assert found.data.metrics == {"loss": 0.5}


def test_an_open_run_is_sent_as_far_as_it_goes_and_a_torn_line_waits(root: Path) -> None:
    with track("open", root=root, params={}) as run:
        run.log_metrics({"loss": 0.5})
        assert (send_spool(root).sent, send_spool(root).left) == (0, 1)
        assert find_run(root, run.key).info.status == "RUNNING"
        with spooled(root)[0].open("a") as journal:
            journal.write('{"op": "metr')
            journal.flush()
            assert send_spool(root).problem == ""
            journal.write('ics", "t": 1, "step": 9, "values": {"late": 2.0}}\n')
    assert send_spool(root).sent == 1
    found = find_run(root, run.key)
    assert found.data.metrics == {"loss": 0.5, "late": 2.0}
    assert found.info.status == "FINISHED"


def test_a_sender_process_delivers_while_the_stage_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKSEG_TRACKING", "on")
    monkeypatch.setenv("WEAKSEG_TRACKING_WAIT", "60")
    with track("live", root=root, params={}) as run:
        run.log_metrics({"loss": 0.25})
    assert spooled(root) == []
    found = find_run(root, run.key)
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 0.25)


def test_no_server_costs_one_line_and_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEAKSEG_TRACKING", "on")  # the sender of the test before still waits for more work
    monkeypatch.setenv("WEAKSEG_TRACKING_WAIT", "60")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    slowest = 0.0
    with track("alone", root=root, params={}) as run:
        for step in range(20):
            start = time.monotonic()
            run.log_metrics({"loss": float(step)}, step=step)
            slowest = max(slowest, time.monotonic() - start)
    assert slowest < 0.5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "cannot be reached" in told[0]
    assert "weakseg runs send" in told[0]
    assert "secret" not in told[0]
    assert len(spooled(root)) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert send_spool(root, uri=tracking.tracking_uri(root)).sent == 1
    assert len(history(root, find_run(root, run.key).info.run_id, "loss")) == 20


def test_a_slow_server_is_not_called_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first stage of a workspace meets one: MLflow makes its database. A root of its own: its sender lingers."""
    monkeypatch.setenv("WEAKSEG_TRACKING", "on")
    monkeypatch.setenv("WEAKSEG_TRACKING_WAIT", "0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with track("slow", root=tmp_path, params={}):
            pass
    (told,) = capsys.readouterr().err.splitlines()
    assert "did not take all within 0 s: work goes on" in told
    assert "cannot be reached" not in told
    assert len(spooled(tmp_path)) == 1


def test_a_disk_that_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".weakseg").write_text("a file where the folder should be")
    with track("full", root=tmp_path, params={"a": 1}) as run:
        run.log_metrics({"loss": 1.0})
        run.log_dict({}, "x.json")
    assert run.folder is None
    assert capsys.readouterr().err.count("is not tracked") == 1


@pytest.mark.parametrize(("name", "value"), [("WEAKSEG_TRACKING", "off"), ("RANK", "1")])
def test_runs_that_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with track("quiet", root=tmp_path, params={"a": 1}) as run:
        run.log_metrics({"loss": 1.0})
        run.log_dict({}, "x.json")
    assert list(tmp_path.iterdir()) == []


def test_refusals_name_the_cure(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageError, match=r"gone\.pt is missing.*write it"), track("x", root=tmp_path, params={}) as run:
        run.log_artifact(tmp_path / "gone.pt")
    with pytest.raises(TrackingError, match=r"no run 'nobody'.*mlflow ui"):
        find_run(root, "nobody")
    with pytest.raises(TrackingError, match="quote"):
        find_run(root, "a'b")
    monkeypatch.setenv("WEAKSEG_TRACKING_WAIT", "soon")
    with pytest.raises(ParamsError, match=r"'soon'.*set a number"), track("x", root=tmp_path, params={}):
        pass
    monkeypatch.setenv("WEAKSEG_TRACKING", "maybe")
    with pytest.raises(ParamsError, match=r"'maybe'.*on, spool or off"), track("x", root=tmp_path, params={}):
        pass


def test_system_metrics_are_sampled_while_the_run_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with track("long", root=tmp_path, params={}):
        time.sleep(0.6)
    lines = [json.loads(line) for line in spooled(tmp_path)[0].read_text().splitlines()]
    samples = [line for line in lines if line["op"] == "metrics"]
    assert [sample["step"] for sample in samples] == list(range(len(samples)))
    assert len(samples) >= 2
    assert samples[0]["values"]["system/process_memory_usage_megabytes"] > 1
    assert 0 <= samples[0]["values"]["system/system_memory_usage_percentage"] <= 100


def test_a_stage_shorter_than_the_interval_is_sampled_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "10")
    for wanted, count in (("true", 1), ("false", 0)):
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", wanted)
        with track("short", root=tmp_path / wanted, params={}):
            pass
        lines = [json.loads(line) for line in spooled(tmp_path / wanted)[0].read_text().splitlines()]
        samples = [line["values"] for line in lines if line["op"] == "metrics"]
        assert len(samples) == count
        assert all(sample["system/process_memory_usage_megabytes"] > 1 for sample in samples)
        assert lines[-1]["op"] == "end"


def test_gpu_lines_of_nvidia_smi() -> None:
    assert _gpu_metrics("0, 97, 1000, 350.5\n1, [N/A], 0, [N/A]\n") == {
        "gpu_0_utilization_percentage": 97.0,
        "gpu_0_memory_usage_megabytes": 1048.576,
        "gpu_0_power_usage_watts": 350.5,
        "gpu_1_memory_usage_megabytes": 0.0,
    }


def test_stage_outputs_do_not_split_an_execution_but_code_and_params_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "code.py").write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    clean = provenance(tmp_path)
    assert clean["weakseg.git_dirty"] == "false"
    assert len(clean["mlflow.source.git.commit"]) == 40
    (tmp_path / "dvc.lock").write_text("x")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "new.json").write_text("{}")
    with track("x", root=tmp_path, params={}):
        pass
    after = provenance(tmp_path)
    assert after["weakseg.dvc_lock"] == "9dd4e461268c8034f5c8564e155c67a6"
    assert after["weakseg.git_dirty"] == "false"
    assert pipeline_key(after) == pipeline_key(clean)
    (tmp_path / "code.py").write_text("2\n")
    assert provenance(tmp_path)["weakseg.git_dirty"] == "true"
    git("checkout", "code.py")
    (tmp_path / "params.yaml").write_text("a: 2\n")
    keys = {pipeline_key(clean), pipeline_key(provenance(tmp_path))}
    monkeypatch.setenv("DVC_EXP_NAME", "bold-ant")
    assert provenance(tmp_path)["weakseg.dvc_exp"] == "bold-ant"
    assert len(keys | {pipeline_key(provenance(tmp_path))}) == 3


def test_stop_while_clearing_up_keeps_the_status(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with track("cleared", root=root, params={}) as run:
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sender.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            send_spool(root)
    assert send_spool(root).sent == 1
    assert find_run(root, run.key).info.status == "FINISHED"


def test_a_journal_of_another_host_counts_as_open_for_an_hour(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "container")
    with track("abroad", root=root, params={}) as run:
        copy = spooled(root)[0].read_text()
    journal = spooled(root)[0]
    journal.write_text(copy)  # no end: as if that container had been killed
    monkeypatch.undo()
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    assert (send_spool(root).sent, send_spool(root).left) == (0, 1)
    os.utime(journal, (time.time() - 3700, time.time() - 3700))
    assert send_spool(root).sent == 1
    assert find_run(root, run.key).info.status == "KILLED"


def test_a_damaged_line_costs_that_line_only(root: Path) -> None:
    with track("damaged", root=root, params={}) as run:
        run.log_metrics({"a": 1.0})
        with spooled(root)[0].open("ab") as journal:
            journal.write(b"\x00\x00\n")
        run.log_metrics({"b": 2.0})
    assert str(send_spool(root)) == "1 runs sent, 0 left"
    assert find_run(root, run.key).data.metrics == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize("folder", [".dvc/tmp/exps/tmpabc", ".dvc/tmp/exps/standalone/tmpabc"])
def test_queued_dvc_experiments_are_recorded_where_they_came_from(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder / "city"
    place.mkdir(parents=True)
    with track("x", root=place, params={}):
        pass
    assert list(place.iterdir()) == []
    start = json.loads(spooled(tmp_path / "city")[0].read_text().splitlines()[0])
    assert start["uri"] == f"sqlite:///{tmp_path}/city/mlflow.db"
    assert start["artifacts"] == (tmp_path / "city" / "mlruns").as_uri()


def test_compare_puts_two_runs_side_by_side(root: Path) -> None:
    for stage, miou, dropout in [("evaluate@pixel", 0.5, 0.1), ("evaluate@fused", 0.75, 0.3)]:
        with track(stage, root=root, params={"dropout": dropout, "seed": 0}) as run:
            run.log_metrics({"miou": 0.0, "system/cpu": 3.0}, step=0)
            run.log_metrics({"miou": miou} | ({"only": 1.0} if miou > 0.5 else {}), step=1)
    send_spool(root)
    found = compare(root, "evaluate@pixel", run.key)
    assert found.names == ("evaluate@pixel", "evaluate@fused")
    assert found.metrics[0] == ("miou", 0.5, 0.75, 0.25)
    assert found.metrics[1][:3] == ("only", None, 1.0)
    assert math.isnan(found.metrics[1][3])
    assert len(found.metrics) == 2
    assert found.params == [("dropout", "0.1", "0.3")]


def test_a_deleted_experiment_is_one_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(root))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
    experiment = connect(root).create_experiment("gone")
    connect(root).delete_experiment(experiment)
    command = f"MLFLOW_TRACKING_URI={tracking_uri(root)} mlflow experiments restore --experiment-id {experiment}"
    sentence = (
        f"experiment gone at {tracking_uri(root)} is deleted; expected an active one; stop all that writes there, "
        f"back it up, then run `{command}`, or set MLFLOW_EXPERIMENT_NAME to another name"
    )
    for ask in (lambda: find_run(tmp_path, "never@ran"), lambda: create_run(tmp_path, "promote", {}, {})):
        with pytest.raises(TrackingError) as caught:
            ask()
        assert str(caught.value) == sentence
    with track("segment@pixel", root=tmp_path, params={}) as run:
        run.log_metrics({"loss": 1.0}, step=0)
    report = send_spool(tmp_path)
    assert (report.sent, report.left, report.problem) == (0, 1, sentence)
    subprocess.run([sys.executable, "-m", "mlflow", *command.split()[2:]], check=True, capture_output=True)
    assert send_spool(tmp_path).sent == 1
    raw = MlflowException(f"The experiment {experiment} must be in the 'active' state. Current state is deleted.")
    assert f"experiment {experiment} at" in str(known_cause(raw, tracking_uri(root)))


def test_a_database_of_an_older_schema_is_one_sentence_with_the_command(tmp_path: Path) -> None:
    """A real one: MLflow's own migrations up to the one before the last."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    uri = tracking_uri(tmp_path)
    Base.metadata.create_all(engine := create_engine(uri))
    config = _get_alembic_config(uri)
    last = ScriptDirectory.from_config(config).get_revision("head")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, last.down_revision)
    with pytest.raises(TrackingError) as caught:
        find_run(tmp_path, "evaluate@pixel")
    assert str(caught.value) == (
        f"the MLflow database {uri} has schema {last.down_revision}, older than MLflow {mlflow.__version__}; expected "
        f"schema {last.revision}; stop all that writes there, back it up, then run `mlflow db upgrade {uri}`"
    )
    with track("segment@pixel", root=tmp_path, params={}) as run:
        run.log_metrics({"loss": 1.0}, step=0)
    assert send_spool(tmp_path).problem == str(caught.value)
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True)
    assert send_spool(tmp_path).sent == 1
    newer = MlflowException("Detected out-of-date database schema (found version ffffffffffff, but expected abc).")
    assert str(known_cause(newer, "postgresql://me:secret@host/db")) == (
        f"the MLflow database postgresql://host/db has schema ffffffffffff, which MLflow {mlflow.__version__} does not "
        "know; expected schema abc or an older one; install the MLflow that wrote it, or a newer one"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """Start (again) and kill a real tracking server on one port."""
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> str:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        store = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            f"{tmp_path}/store",
        ]
        log = (tmp_path / "server.log").open("ab")
        started.append(subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True))
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    return f"http://127.0.0.1:{port}"
            except OSError:
                time.sleep(0.2)
        raise AssertionError((tmp_path / "server.log").read_text())

    def kill() -> None:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    yield start, kill
    kill()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_run(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, kill = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", start())
    monkeypatch.setenv("WEAKSEG_TRACKING", "on")
    monkeypatch.setenv("WEAKSEG_TRACKING_WAIT", "60")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with track("segment@pixel", root=workspace, params={"a": 1}) as run:
        run.log_metrics({"loss": 3.0, "absent": math.nan}, step=0)
        deadline = time.monotonic() + 60
        while not (
            found := connect(workspace).search_runs(
                [e.experiment_id for e in connect(workspace).search_experiments()], "metrics.loss = 3.0"
            )
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        kill()
        begin = time.monotonic()
        run.log_metrics({"loss": 2.0}, step=1)
        run.log_dict({"x": 1}, "evaluate/x.json")
        assert time.monotonic() - begin < 0.5
    assert capsys.readouterr().err.count("weakseg runs send") == 1
    assert len(spooled(workspace)) == 1
    failed = send_spool(workspace)
    assert (failed.sent, failed.left) == (0, 1)
    assert failed.problem

    start()
    assert send_spool(workspace).sent == 1
    run_id = find_run(workspace, run.key).info.run_id
    assert run_id == found[0].info.run_id
    assert history(workspace, run_id, "loss") == [(0, 3.0), (1, 2.0)]
    assert len(history(workspace, run_id, "absent")) == 1
    assert [item.path for item in connect(workspace).list_artifacts(run_id, "evaluate")] == ["evaluate/x.json"]
    assert find_run(workspace, "segment@pixel").info.status == "FINISHED"


def test_the_evaluation_of_a_version_of_the_data_is_found(root: Path, tmp_path: Path) -> None:
    md5 = "0123456789abcdef0123456789abcdef.dir"
    report = tmp_path / "pixel.json"
    for text in ("first", "second"):
        report.write_text(text)
        with track("evaluate@pixel", root=root, params={}) as run:
            run.log_artifact(report, "evaluate")
    send_spool(root)
    assert data_hash(root) == md5
    assert find_evaluation_of_data(root, "pixel", md5) == "second"  # the newest
    assert find_evaluation_of_data(root, "pixel", "f" * 32) == ""
    assert find_evaluation_of_data(root, "joint", md5) == ""
    assert find_evaluation_of_data(tmp_path, "pixel", md5) == ""
    assert not (tmp_path / "mlflow.db").exists()  # asking makes no database
