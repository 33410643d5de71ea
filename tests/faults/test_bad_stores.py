"""MLflow on PostgreSQL and S3, while S3 fails in every way and PostgreSQL restarts: all arrives once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import tally
from tests.faults.bad_server import TROUBLES, BadServer, bad_server
from tests.faults.servers import S3_KEYS, Database, started_database, started_mlflow, started_s3
from tests.faults.test_bad_servers import check_arrived, impatient, record

from weakseg.tracking import send_spool

__all__ = ["impatient"]  # a fixture
SENDS = 8


@pytest.fixture
def bad_s3(tmp_path: Path) -> Iterator[BadServer]:
    with started_s3(tmp_path / "s3.log", "mlflow") as address, bad_server(address) as server:
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
