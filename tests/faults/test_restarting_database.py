"""PostgreSQL restarts while four workers are at a study: with --resume no trial is lost, none is counted twice."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from tests.faults import tally
from tests.faults.objectives import slow_bowl

from weakseg.core.errors import WeaksegError
from weakseg.core.params import load_params
from weakseg.studies import Range, TuneParams, load_study, open_storage, tune
from weakseg.studies.study import counted

PROJECT = Path(__file__).parents[2]
TRIALS, RESTARTS = 16, 3
USER = 65534  # nobody: PostgreSQL does not run as root


class Database:
    """A cluster of its own in a folder."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder / "cluster", binaries
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
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


@pytest.fixture
def database() -> Iterator[Database]:
    """Debian: apt install postgresql."""
    pytest.importorskip("psycopg2")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL here: apt install postgresql")
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    made = Database(folder, found[-1].parent)
    made.start()
    yield made
    made.stop("immediate")
    shutil.rmtree(folder)


@pytest.mark.faults
def test_a_database_that_restarts(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKSEG_TRACKING", "off")
    params = load_params(PROJECT / "params.yaml")
    space = {"segment.network.dropout": Range(low=0.0, high=0.6, log=False)}
    search = TuneParams(
        source="pixel", trials=TRIALS, steps=5, seed=0, objectives="miou", allowance=1.0, pruner="none", startup=3,
        space=space,
    )  # fmt: skip
    ended = threading.Event()

    begun = tmp_path / "begun"
    monkeypatch.setenv("FAULTS_BEGUN", str(begun))

    def disturb() -> None:
        while not begun.exists() and not ended.wait(0.1):
            pass
        for mode in ("fast", "immediate", "fast")[:RESTARTS]:
            if ended.wait(4):
                return
            database.stop(mode)
            tally.injected("restart of PostgreSQL under a study")
            database.start()

    thread = threading.Thread(target=disturb)
    thread.start()
    told: list[str] = []
    for attempt in range(20):
        try:
            tune(tmp_path, params, search, slow_bowl, study="s", storage=database.url, workers=4, resume=attempt > 0)
            break
        except WeaksegError as error:
            told.append(str(error))
            time.sleep(1)
    ended.set()
    thread.join()
    study = load_study(open_storage(tmp_path, database.url), "s")
    states = Counter(study.trials[number].state for number in counted(study))
    assert states == {TrialState.COMPLETE: TRIALS}, (states, told)
    assert all("\n" not in line for line in told)
    retried = [trial.user_attrs["retry_of"] for trial in study.trials if "retry_of" in trial.user_attrs]
    assert len(set(retried)) == len(retried)  # none twice at once
    tally.survived("restart of PostgreSQL under a study", tally.INJECTED["restart of PostgreSQL under a study"])
