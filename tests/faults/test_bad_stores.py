"""MLflow on PostgreSQL and S3, a DVC remote on S3, while S3 fails in every way and PostgreSQL restarts."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import tally
from tests.faults.bad_server import TROUBLES, BadServer, bad_server
from tests.faults.clones import Clone, differing
from tests.faults.forks import Instant
from tests.faults.servers import S3_KEYS, Database, started_database, started_mlflow, started_s3
from tests.faults.test_bad_servers import check_arrived, impatient, record

from weakseg.tracking import send_spool

__all__ = ["impatient"]  # a fixture
SENDS = 8


@pytest.fixture
def bad_s3(tmp_path: Path) -> Iterator[BadServer]:
    with started_s3(tmp_path / "s3.log", "mlflow", "dvc") as address, bad_server(address) as server:
        yield server


@pytest.fixture
def database() -> Iterator[Database]:
    with started_database() as made:
        yield made


@pytest.mark.faults
@pytest.mark.usefixtures("impatient")
def test_all_arrives_once_through_a_bad_store(
    bad_s3: BadServer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, restarts = random.Random(0), 0
    place = {**S3_KEYS, "MLFLOW_S3_ENDPOINT_URL": bad_s3.address, "AWS_MAX_ATTEMPTS": "1"}
    root = tmp_path / "w"
    root.mkdir()
    with started_mlflow(tmp_path / "mlflow.log", database.url, "s3://mlflow/store", **place) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        key = record(root)
        for number in range(SENDS):
            bad_s3.troubles = [draw.choice(TROUBLES) for _ in range(2)]
            if number % 3 == 1:
                database.stop(draw.choice(("fast", "immediate")))
                database.start()
                restarts += 1
            report = send_spool(root)
            assert "\n" not in report.problem
        bad_s3.troubles = []
        kinds = [f"S3: {kind}" for kind in bad_s3.injected] + ["restart of PostgreSQL under MLflow"] * restarts
        for kind in kinds:
            tally.injected(kind)
        if report.left:
            assert send_spool(root).left == 0
        (tmp_path / "got").mkdir()
        check_arrived(root, key, tmp_path / "got")
    for kind in kinds:
        tally.survived(kind)


@pytest.mark.faults
def test_a_remote_that_fails_loses_nothing(bad_s3: BadServer, finished: Clone, tmp_path: Path) -> None:
    """`dvc push` and `pull` end with an error, or well; once S3 is well, the next ones bring all back byte for byte."""
    clone, draw, wanted = finished.copy(tmp_path / "home" / "work"), random.Random(0), finished.outputs("out/scores")
    names = ("crf", "cam")
    clone.dvc("remote", "add", "-q", "-d", "team", "s3://dvc/weakseg")
    clone.dvc("remote", "modify", "-q", "team", "endpointurl", bad_s3.address)

    def move(word: str, *, well: bool) -> None:
        bad_s3.troubles = [] if well else [draw.choice(TROUBLES) for _ in range(3)]
        kill = None if well else Instant(seconds=280.0)
        ended = clone.dvc(word, "-q", *names, kill=kill, **S3_KEYS)
        assert not ended.killed, ended.said[-2000:]

    for _ in range(2):
        move("push", well=False)
    move("push", well=True)
    shutil.rmtree(clone.root / ".dvc" / "cache")
    for name in names:
        shutil.rmtree(clone.root / "out" / "scores" / name)
    for _ in range(2):
        move("pull", well=False)
    move("pull", well=True)
    assert differing(wanted, clone.outputs("out/scores")) == []
    assert os.path.isdir(clone.root / "out" / "scores" / "crf")
    for kind in bad_s3.injected:
        tally.injected(f"S3: {kind}")
        tally.survived(f"S3: {kind}")
