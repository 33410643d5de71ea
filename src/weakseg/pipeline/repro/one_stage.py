"""One stage through DVC in a process of its own: its locks, cache and dvc.lock, whole after a `kill -9`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from weakseg.core.errors import StageError
from weakseg.pipeline.repro.leash import LEADER

Outcome = Literal["ran", "cached", "added", "unchanged", "failed"]
QUEUE: Final = Path(".weakseg") / "repro.queue"
COPY: Final = Path(".weakseg") / "dvc.lock"


@dataclass(frozen=True)
class Record:
    """What became of a stage.

    Attributes:
        outcome: ``ran``; ``cached``: its outputs came from DVC's run cache; ``added``: raw data were; ``unchanged``;
            ``failed``.
        wall: s. cpu: s of the stage itself. dvc_cpu: s of DVC around it. error: why it failed.
    """

    stage: str
    outcome: Outcome
    wall: float = 0.0
    cpu: float = 0.0
    dvc_cpu: float = 0.0
    error: str = ""

    @property
    def line(self) -> str:
        """For people."""
        if self.outcome == "failed":
            return f"{self.stage} failed after {self.wall:.1f} s: {self.error}"
        return f"{self.stage} {self.outcome}: {self.wall:.1f} s, CPU {self.cpu:.1f} s and {self.dvc_cpu:.1f} s of DVC"


def open_repo(root: Path) -> Any:
    """DVC's view of a workspace, which waits for DVC's lock."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo(str(root), _wait_for_lock=True)
    except DvcException as error:
        raise StageError(f"no DVC in {root} ({error})", expected="a workspace", cure="see `weakseg init`") from error


class _QueuedLock:
    """DVC's lock of the repository behind a queue of ours, in which the kernel wakes the next one at once.

    DVC itself asks every half second whether the lock is free.
    """

    def __init__(self, lock: Any, queue: Path) -> None:
        self._lock, self._queue = lock, queue.open("a")

    @property
    def is_locked(self) -> bool:
        return bool(self._lock.is_locked)

    def lock(self) -> None:
        import fcntl

        fcntl.flock(self._queue, fcntl.LOCK_EX)
        self._lock.lock()

    def unlock(self) -> None:
        import fcntl

        self._lock.unlock()
        fcntl.flock(self._queue, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *_: object) -> None:
        self.unlock()


def mend_rwlock(folder: Path) -> None:
    """Remove DVC's table of who reads and writes what where a kill has cut it off; nobody may be at work."""
    table = folder / "tmp" / "rwlock"
    with contextlib.suppress(FileNotFoundError):
        try:
            json.loads(table.read_text())
        except ValueError:
            table.unlink()


def reproduce(repo: Any, address: str) -> Record:
    """Do what `dvc repro --single-item` does for one stage; an error is part of the record.

    The stage's own process follows this one (:func:`weakseg.pipeline.repro.leash.follow_leader`).
    """
    os.environ[LEADER] = str(os.getpid())
    start, (own, children) = time.perf_counter(), _cpu()
    outcome: Outcome = "failed"
    error = ""
    try:
        outcome = _reproduce(repo, address)
    except Exception as problem:  # whatever it is, the record says it, and the stages beside this one go on
        error = " ".join(str(problem).split()) or type(problem).__name__
    wall, (own_end, children_end) = time.perf_counter() - start, _cpu()
    if outcome == "ran" and children_end == children:
        outcome = "cached"
    return Record(address, outcome, wall, children_end - children, own_end - own, error)


def _reproduce(repo: Any, address: str) -> Outcome:
    root = Path(repo.root_dir)
    if type(repo.lock).__name__ == "Lock":  # not on file systems for which DVC was told to use hard links
        repo.lock = _QueuedLock(repo.lock, root / QUEUE)
    with repo.lock:
        stage = next(one for one in repo.index.stages if one.addressing == address)
        if not stage.reproduce():
            return "unchanged"
        _record(repo, stage)
    return "ran" if stage.cmd else "added"


def _record(repo: Any, stage: Any) -> None:
    """Write a stage's entry into dvc.lock at one blow: DVC writes it in place, where a kill or a reader meets half."""
    from dvc.dvcfile import Lockfile
    from dvc.stage import PipelineStage

    if not isinstance(stage, PipelineStage):  # data.dvc has a file of its own
        stage.dump()
        return
    lock, copy = Path(repo.root_dir) / "dvc.lock", Path(repo.root_dir) / COPY
    if lock.exists():
        shutil.copyfile(lock, copy)
    else:
        copy.unlink(missing_ok=True)
    Lockfile(repo, str(copy)).dump_stages([stage])
    os.replace(copy, lock)


def _cpu() -> tuple[float, float]:
    """CPU seconds of this process and of its children that have ended."""
    import resource

    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, children = (one.ru_utime + one.ru_stime for one in used)
    return own, children
