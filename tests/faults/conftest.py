"""One finished pipeline on the tiny workspace, from which all faults start; every fault works on a copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.clones import Clone, make_clone, warm_up
from tests.faults.tally import INJECTED, table
from tests.slim import slim

MORE = {"steps": 4, "batch": 4, "report_every": 2}


def less_slim(params: dict[str, Any]) -> None:
    """Every stage of the pipeline in a second at most, all trainings with a report in the middle."""
    slim(params)
    params["irnet"] |= {"walk_steps": [2, 4], "anchors": [1.0, 0.8], "classes": "best"}
    for section in ("classifier", "irnet", "single_stage"):
        params[section]["optimiser"] |= MORE


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Clone:
    """A workspace under DVC in which nothing has run."""
    warm_up()
    return make_clone(tmp_path_factory.mktemp("home") / "fresh", make_workspace, less_slim)


@pytest.fixture(scope="session")
def finished(fresh: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of it after an undisturbed `dvc repro`; WEAKSEG_FAULTS_FINISHED keeps it from one run to the next."""
    kept = os.environ.get("WEAKSEG_FAULTS_FINISHED")
    place = Path(kept) if kept else tmp_path_factory.mktemp("home") / "finished"
    if place.exists():
        return Clone(place)
    done = fresh.copy(place)
    done.dvc("repro")
    return done


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of docs/reliability.md."""
    if INJECTED:
        terminalreporter.section("faults")
        for line in table():
            terminalreporter.write_line(line)
