"""A tracking server that fails in every way, a sender that is killed: each metric and file arrives once in the end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.faults import tally
from tests.faults.bad_server import TROUBLES, bad_server
from tests.faults.forks import Instant, run

from weakseg.tracking import connect, find_run, send_spool, track

STEPS, SENDS = 6, 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faults")


def record(root: Path) -> str:
    """A stage's run in the spool, with metrics, params, tags and a file; its key."""
    (root / "model.bin").write_bytes(bytes(range(256)) * 2000)
    with track("segment@pixel", root=root, params={"lr": 0.1}) as log:
        for step in range(STEPS):
            log.log_metrics({"loss": 1.0 / (1 + step), "val/miou": step / 10}, step=step)
        log.log_artifact(root / "model.bin", "checkpoints")
    return log.key


def check_arrived(root: Path, key: str, tmp_path: Path) -> None:
    found, client = find_run(root, key), connect(root)
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.1"
    for name in ("loss", "val/miou"):
        history = client.get_metric_history(found.info.run_id, name)
        assert sorted(point.step for point in history) == list(range(STEPS)), name
    got = Path(client.download_artifacts(found.info.run_id, "checkpoints/model.bin", str(tmp_path)))
    assert got.read_bytes() == (root / "model.bin").read_bytes()
    runs = client.search_runs([found.info.experiment_id], f"tags.`weakseg.run` = '{key}'")
    assert len(runs) == 1


@pytest.mark.faults
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", range(3))
def test_all_arrives_once_whatever_the_server_does(
    seed: int, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    with bad_server(mlflow_server) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        key = record(tmp_path)
        for _ in range(SENDS):
            server.troubles = [draw.choice((*TROUBLES, "", "")) for _ in range(3)]
            report = send_spool(tmp_path)
            assert "\n" not in report.problem
        server.troubles = []
        if report.left:
            assert send_spool(tmp_path).left == 0
        kinds = server.injected
        for kind in kinds:
            tally.injected(f"tracking server: {kind}")
        (tmp_path / "got").mkdir()
        check_arrived(tmp_path, key, tmp_path / "got")
        for kind in kinds:
            tally.survived(f"tracking server: {kind}")


@pytest.mark.faults
@pytest.mark.usefixtures("impatient")
def test_a_sender_that_is_killed_again_and_again(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    root, draw, kills = tmp_path / "home" / "w", random.Random(0), 0
    root.mkdir(parents=True)
    key = record(root)
    for _ in range(12):
        ended = run(lambda: send_spool(root), folder=root, kill=Instant(seconds=0.2 + 2 * draw.random()))
        kills += ended.killed
        if ended.code == 0:
            break
    tally.injected("kill of the sender", kills)
    assert send_spool(root).left == 0
    (tmp_path / "got").mkdir()
    check_arrived(root, key, tmp_path / "got")
    tally.survived("kill of the sender", kills)
