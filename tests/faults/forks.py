"""Work in a forked process that can be killed with signal 9 at a drawn instant, with all that it has started.

A fork of the test process has torch, DVC and weakseg in memory already: a kill costs what the work costs, no imports.
An instant is either the n-th event in which Python opens, renames, makes or removes something, just before it happens,
which a seed repeats exactly; or a time, which also falls into the middle of a write and into libraries.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"})


@dataclass(frozen=True)
class Instant:
    """When to kill: before the ``event``-th event of the first process (from 1), or after ``seconds``."""

    event: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a fork ended.

    Attributes:
        code: 0, 1 after an exception, -9 where it was killed.
        events: counted in its first process; 0 where it was killed.
        seconds: that it took.
        said: its standard output and error.
    """

    code: int
    events: int
    seconds: float
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def run(
    work: Callable[[], Any],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    kill: Instant | None = None,
    limit: float = 300.0,
) -> Ended:
    """Do ``work`` in ``folder`` in a fork and wait for its end; longer than ``limit`` s fails the test."""
    started = start(work, folder=folder, environment=environment, event=kill.event if kill else 0)
    return started.wait(kill.seconds if kill else 0.0, limit)


@dataclass(frozen=True)
class Fork:
    """A process at work, leader of its own group."""

    pid: int
    log: Path
    count: Path
    began: float

    def wait(self, kill_after: float = 0.0, limit: float = 300.0) -> Ended:
        """Kill the whole group after some seconds, unless 0, and wait for the end."""
        deadline = self.began + (kill_after or limit)
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                break
            if time.monotonic() > deadline:
                self.kill()
                if not kill_after:
                    raise AssertionError(f"took longer than {limit} s\n{self.log.read_text()[-3000:]}")
                deadline = float("inf")
            time.sleep(0.002)
        self.kill()  # what it has started
        events = int(self.count.read_text()) if self.count.exists() else 0
        self.count.unlink(missing_ok=True)
        said = self.log.read_text(errors="replace")
        self.log.unlink()
        return Ended(os.waitstatus_to_exitcode(status), events, time.monotonic() - self.began, said)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


_numbers = iter(range(1_000_000))


def start(
    work: Callable[[], Any], *, folder: Path, environment: Mapping[str, str] | None = None, event: int = 0
) -> Fork:
    """Begin ``work``; ``event``: kill its group before the n-th event of its first process, unless 0."""
    place = folder.parent / f"fork-{os.getpid()}-{next(_numbers)}"
    log, count = place.with_suffix(".log"), place.with_suffix(".count")
    log.touch()  # a kill may come before the child is that far
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(work, folder, environment or {}, event, log, count)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # whoever comes first
    return Fork(pid, log, count, began)


def _child(
    work: Callable[[], Any], folder: Path, environment: Mapping[str, str], event: int, log: Path, count: Path
) -> None:
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
        os.chdir(folder)
        os.environ.update(environment)
        seen = _count_events(str(folder), event)
        try:
            answer = work()
            code = answer if isinstance(answer, int) else 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        count.write_text(str(seen[0]))
    finally:
        os._exit(code)


def _count_events(folder: str, last: int) -> list[int]:
    """Count the events of this process in the folder; the ``last`` one never happens: all of the group are killed."""
    seen, own = [0], os.getpid()

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if name in EVENTS and os.getpid() == own and _writes(name, arguments) and _inside(folder, arguments[0]):
            seen[0] += 1
            if seen[0] == last:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(look)
    return seen


def _writes(name: str, arguments: tuple[Any, ...]) -> bool:
    return name != "open" or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _inside(folder: str, path: Any) -> bool:
    """Relative paths are: the process works there."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    text = os.fsdecode(path)
    return text.startswith(folder) or not os.path.isabs(text)
