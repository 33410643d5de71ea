"""Real servers as processes of their own: PostgreSQL, MLflow, S3 (moto)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER = 65534  # nobody: PostgreSQL does not run as root
S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "password",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Database:
    """A cluster of PostgreSQL of its own in a folder."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries, self.port = folder / "cluster", binaries, free_port()
        folder.chmod(0o777)
        self._run("initdb", "-D", str(self.folder), "-U", "weakseg", "-A", "trust", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://weakseg@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -F"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-t", "300", "-l", log, "-o", options, "start")

    def stop(self, mode: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-t", "300", "-m", mode, "stop")

    def _run(self, name: str, *words: str) -> None:
        user: dict[str, Any] = {"user": USER, "group": USER} if os.getuid() == 0 else {}
        done = subprocess.run(
            [str(self.binaries / name), *words], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
        )
        assert done.returncode == 0, (name, words)


@contextmanager
def started_database() -> Iterator[Database]:
    """Debian: apt install postgresql; without it the test is skipped."""
    pytest.importorskip("psycopg2")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL here: apt install postgresql")
    folder = Path(tempfile.mkdtemp())
    made = Database(folder, found[-1].parent)
    made.start()
    try:
        yield made
    finally:
        made.stop("immediate")
        shutil.rmtree(folder)


@contextmanager
def started(words: list[str], health: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """`python -m WORDS` until ``health`` answers; killed with all that it has started."""
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=said, stderr=said, env=environment, start_new_session=True
        )
    try:
        for _ in range(1500):
            try:
                urllib.request.urlopen(health, timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
        else:
            raise AssertionError(log.read_text())
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def started_s3(log: Path, *buckets: str) -> Iterator[str]:
    """moto's server with these buckets, its address."""
    import boto3

    address = f"http://127.0.0.1:{(port := free_port())}"
    words = ["moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started(words, f"{address}/moto-api/data.json", log, os.environ):
        keys = {"aws_access_key_id": "user", "aws_secret_access_key": "password", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=address, **keys)
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield address


@contextmanager
def started_mlflow(log: Path, store: str, artifacts: str, **more: str) -> Iterator[str]:
    """MLflow's server on a database and a place of artefacts, its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", store, "--artifacts-destination", artifacts]
    lean = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **more}  # else eight more processes start
    with started(words, f"{address}/health", log, lean):
        yield address
