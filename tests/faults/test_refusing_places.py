"""Read-only places, limits of files, inodes and memory, in real processes: one sentence, and then it works."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults import forks, tally
from tests.faults.clones import Clone, differing
from tests.faults.forks import Instant
from tests.faults.small_disks import read_only, small_disk
from tests.faults.typed import sentence_of, typed

import weakseg.cli  # noqa: F401  # a process that cannot even import it can say nothing

MODEL = "out/checkpoints/pixel/seed0.pt"
PREDICT = ["predict", "data/images/v1.tif", "maps/v1.tif", "--model", MODEL, "--engine", "torch", "--no-resume"]
STAGES = ["tiles", "crf", "pseudo cam", "segment pixel", "evaluate pixel", "audit cam", "report"]


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    return finished.copy(tmp_path / "home" / "work")


LIBRARIES = {127: "cannot allocate memory for thread-local data", -6: "std::bad_alloc"}
"""How glibc and C++ end a process by themselves, and what they say."""


def refused(clone: Clone, *words: str, before: Callable[[], None] = lambda: None, **environment: str) -> str:
    """The sentence of a command that is refused, or of the library that ended it; "" where it ended well."""

    def work() -> None:
        before()
        typed(*words)()

    ended = forks.run(work, folder=clone.root, environment=clone.environment | environment)
    if ended.code in LIBRARIES and LIBRARIES[ended.code] in ended.said:
        return f"out of memory: {ended.said}"
    assert ended.code in (0, 1), ended.said[-3000:]
    return sentence_of(ended.said) if ended.code else ""


@pytest.mark.faults
@pytest.mark.parametrize("name", STAGES)
def test_a_read_only_place_of_results(name: str, clone: Clone, finished: Clone) -> None:
    words = ["stage", *name.split()]
    whole, kind = finished.outputs(), "a place of results that may not be written"
    with read_only(clone.root / "out"), read_only(clone.root / "reports"):
        told = refused(clone, *words)
        tally.injected(kind)
        assert "no right to write" in told
        assert "mend the permissions" in told
    assert differing(whole, clone.outputs()) == []
    assert refused(clone, *words) == ""
    assert differing(whole, clone.outputs()) == []
    tally.survived(kind)


@pytest.mark.faults
def test_a_read_only_cache(clone: Clone, finished: Clone) -> None:
    """DVC says so; nothing is lost, and the next repro is as if nothing had been."""
    clone.change(lambda params: params["pseudo"].update(min_coverage=0.2))
    with read_only(clone.root / ".dvc" / "cache"):
        ended = clone.dvc("repro", "pseudo@cam", kill=Instant(seconds=300.0))  # never
        assert ended.code != 0
        assert "Read-only file system" in ended.said
    tally.injected("a cache that may not be written")
    clone.change(lambda params: params["pseudo"].update(min_coverage=0.1))
    clone.dvc("repro", "pseudo@cam")
    assert differing(finished.outputs(), clone.outputs()) == []
    tally.survived("a cache that may not be written")


@pytest.mark.faults
def test_a_read_only_spool_ends_no_stage(clone: Clone, finished: Clone) -> None:
    """The record is not kept, the work is; one line says so."""
    spool = clone.root / ".weakseg"
    spool.mkdir(exist_ok=True)
    with read_only(spool):
        ended = clone.fork(typed("stage", "crf"), WEAKSEG_TRACKING="spool")
    tally.injected("a spool that may not be written")
    assert "Traceback" not in ended.said, ended.said
    assert "not tracked" in sentence_of(ended.said)
    assert differing(finished.outputs(), clone.outputs()) == []
    tally.survived("a spool that may not be written")


@pytest.mark.faults
@pytest.mark.parametrize("inodes", [1, 2, 3, 4])
def test_a_disk_without_inodes(inodes: int, clone: Clone, finished: Clone) -> None:
    whole, place = finished.outputs(), clone.root / "out" / "scores" / "crf"
    shutil.rmtree(place)
    with small_disk(place, 64 << 20, inodes=inodes):
        told = refused(clone, "stage", "crf")
        tally.injected("a disk without inodes", int(bool(told)))
        assert not told or "no room to write" in told
        assert {path.name for path in place.iterdir()} <= {Path(name).name for name in whole}
        for path in place.glob("*.npz"):
            assert path.read_bytes() == whole[f"out/scores/crf/{path.name}"]
    assert refused(clone, "stage", "crf") == ""
    assert differing(whole, clone.outputs()) == []
    tally.survived("a disk without inodes", int(bool(told)))


def few_files(more: int) -> Callable[[], None]:
    """Let this process open so many files, and not one more."""

    def work() -> None:
        limit = max(map(int, os.listdir("/proc/self/fd"))) + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        held: list[int] = []
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for descriptor in held[:more]:
            os.close(descriptor)

    return work


HELD: list[bytearray] = []


def little_memory(more: int) -> Callable[[], None]:
    """Allow this process so many bytes beside those in use, and what lies free in its heap in less than 64 KiB."""

    def work() -> None:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        with contextlib.suppress(MemoryError):
            while True:
                HELD.append(bytearray(1 << 16))
        resource.setrlimit(resource.RLIMIT_AS, (limit + more, limit + more))

    return work


COMMANDS = {name: ["stage", *name.split()] for name in ("tiles", "crf", "segment pixel")} | {"predict": PREDICT}


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_of_open_files(name: str, clone: Clone, finished: Clone) -> None:
    told = [refused(clone, *COMMANDS[name], before=few_files(more)) for more in (0, 1, 2, 4)]
    check(clone, finished, name, [one for one in told if one], "too many open files", "a limit of open files")


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_of_memory(name: str, clone: Clone, finished: Clone) -> None:
    told = [refused(clone, *COMMANDS[name], before=little_memory(more << 20)) for more in (1, 4, 12)]
    check(clone, finished, name, [one for one in told if one], "out of memory", "a limit of memory")


def check(clone: Clone, finished: Clone, name: str, told: list[str], words: str, kind: str) -> None:
    """Each refusal named its cause, and without the limit the command gives the undisturbed outputs."""
    tally.injected(kind, len(told))
    assert told
    assert all(words in one for one in told), told
    assert refused(clone, *COMMANDS[name]) == ""
    assert differing(finished.outputs(), clone.outputs()) == []
    tally.survived(kind, len(told))
