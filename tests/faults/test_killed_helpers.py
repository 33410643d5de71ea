"""Kills of one process among several: a loader worker, one rank of two, DVC itself while its stage goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from tests.faults import forks, tally
from tests.faults.clones import Clone, differing, remove, run_dvc, run_stage
from tests.faults.forks import Ended
from tests.faults.typed import sentence_of, typed

STAGE, MADE = ("segment", "pixel"), ("out/checkpoints/pixel", "reports/segment/pixel.json", "reports/curves/pixel.csv")


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    made = finished.copy(tmp_path / "home" / "work")
    remove(made.root, MADE)
    return made


def kill_a_child(pid: int, draw: random.Random) -> bool:
    """Kill one of its children as soon as it has two; False if it ended before."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if len(children := process.children()) == 2:
                draw.choice(children).kill()
                return True
            time.sleep(0.005)
    return False


@pytest.mark.faults
def test_a_loader_worker_that_is_killed_is_a_sentence(clone: Clone, finished: Clone) -> None:
    draw, whole = random.Random(0), finished.outputs(*MADE)
    environment = clone.environment | {"WEAKSEG_WORKERS": "2"}
    for _ in range(4):
        at_work = forks.start(typed("stage", *STAGE), folder=clone.root, environment=environment)
        killed = kill_a_child(at_work.pid, draw)
        ended = at_work.wait()
        tally.injected("kill of a loader worker", int(killed))
        if ended.code != 0:  # else all crops were there already
            assert ended.code == 1, ended.said
            assert "a loader process was killed" in sentence_of(ended.said)
            assert not (clone.root / MADE[0]).exists()
        clone.stage(*STAGE)
        assert differing(whole, clone.outputs(*MADE)) == []
        remove(clone.root, MADE)
        tally.survived("kill of a loader worker", int(killed))


def start_ranks(clone: Clone) -> list[forks.Fork]:
    """The stage in two processes, with what torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        forks.start(
            lambda: run_stage(clone.root, *STAGE),
            folder=clone.root,
            environment=clone.environment | both | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]


@pytest.mark.faults
def test_one_rank_of_two_that_is_killed(clone: Clone) -> None:
    """The other one ends with an error, soon; the next run of two gives the bytes of two that nobody disturbed."""
    began = time.monotonic()
    assert [one.wait().code for one in start_ranks(clone)] == [0, 0]
    length, whole, draw = time.monotonic() - began, clone.outputs(*MADE), random.Random(1)
    for _ in range(4):
        remove(clone.root, MADE)
        ranks, victim = start_ranks(clone), draw.randrange(2)
        lost = ranks[victim].wait(kill_after=max(0.3, length * draw.random()))
        since = time.monotonic() - ranks[1 - victim].began
        other = ranks[1 - victim].wait(limit=since + 60.0)  # it does not wait for the dead one
        tally.injected("kill of one rank of two", int(lost.killed))
        assert other.code in ((1, 0) if lost.killed else (0,)), other.said
        assert [one.wait().code for one in start_ranks(clone)] == [0, 0]
        assert differing(whole, clone.outputs(*MADE)) == []
        tally.survived("kill of one rank of two", int(lost.killed))


def kill_alone(at_work: forks.Fork, seconds: float) -> Ended:
    """Kill the first process of a fork after some seconds and let those that it has started go on."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(at_work.pid, signal.SIGKILL)
    _, status = os.waitpid(at_work.pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), 0, seconds, at_work.log.read_text())


@pytest.mark.faults
def test_dvc_alone_is_killed_and_its_stage_goes_on(clone: Clone, finished: Clone) -> None:
    """The next `dvc repro` comes at once, while the stage of the dead one still writes."""
    target, whole, draw = "segment@pixel", finished.outputs(), random.Random(2)
    began = time.monotonic()
    clone.dvc("repro", target)
    length = time.monotonic() - began
    lock = clone.root / "dvc.lock"
    for number in range(4):
        kept = lock.read_bytes()  # what git has
        clone.change(lambda params, n=number: params["segment"]["network"].update(dropout=0.2 if n % 2 else 0.37))
        at_work = forks.start(
            lambda: run_dvc(clone.root, ["repro", target]), folder=clone.root, environment=clone.environment
        )
        ended = kill_alone(at_work, length * (0.3 + 0.6 * draw.random()))
        tally.injected("kill of DVC alone", int(ended.killed))
        again = forks.run(
            lambda: run_dvc(clone.root, ["repro", target]), folder=clone.root, environment=clone.environment
        )
        if (
            again.code and "dvc.lock' validation failed" in again.said
        ):  # cut by the kill: docs/reliability.md has the cure
            lock.write_bytes(kept)
            clone.dvc("repro", target)
        else:
            assert again.code == 0, again.said
        if number % 2:
            assert differing(whole, clone.outputs()) == []
        tally.survived("kill of DVC alone", int(ended.killed))
