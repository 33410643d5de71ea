"""PostgreSQL restarts while four workers are at a study: with --resume no trial is lost, none is counted twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.faults import tally
from tests.faults.objectives import slow_bowl
from tests.faults.servers import Database, started_database

from weakseg.core.errors import WeaksegError
from weakseg.core.params import load_params
from weakseg.studies import Range, TuneParams, load_study, open_storage, tune
from weakseg.studies.study import counted

PROJECT = Path(__file__).parents[2]
TRIALS, RESTARTS = 16, 3


@pytest.fixture
def database() -> Iterator[Database]:
    with started_database() as made:
        yield made


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
