"""Who is at work in a workspace: a lock that ends with its process, and stages that end with theirs.

After a `kill -9` of DVC its stage works on, and would write into what the next start makes. So a stage that
`weakseg repro` began ends when the process that began it does, and everyone at work holds one lock; the next start
waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from weakseg.core.errors import StageError

LEADER: Final = "WEAKSEG_REPRO"  # number of the process that runs this stage through DVC
LOCK: Final = Path(".weakseg") / "repro.lock"
PATIENCE: Final = 20.0  # s that a start waits for stages of an earlier one to be gone
DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Be at work in a workspace until the block, or this process, ends.

    Children that are forked inside keep the lock until they end too; programs that they start take it themselves.
    """
    import fcntl

    with (root / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone(root: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Begin when nobody is at work in a workspace any more; others may join once the block has begun.

    Raises:
        StageError: somebody still is after ``patience`` s; this is no POSIX system.
    """
    if os.name != "posix":
        raise StageError("no POSIX system", expected="Linux or macOS", cure="use `dvc repro`")
    import fcntl

    (root / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a") as file:
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > end:
                raise StageError(
                    f"another `weakseg repro`, or a stage of one, is at work in {root.resolve()}",
                    expected="one at a time",
                    cure="wait until it has ended, or end it (on a cluster: cancel its jobs)",
                )
            time.sleep(0.05)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def follow_leader(root: Path) -> None:
    """In a stage that `weakseg repro` began: be at work in the workspace, and end when the leader does.

    The lock goes with the process. Nothing happens in a stage that DVC or a person began.
    """
    if not (number := os.environ.get(LEADER, "")).isdigit():
        return
    import fcntl

    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT)  # never closed: it ends with us
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    follow(int(number))


def follow(leader: int) -> None:
    """End when another process does: at once where it is our parent (on Linux), else within a fifth of a second."""
    if sys.platform == "linux" and os.getppid() == leader:
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != leader:  # it went before we asked
            os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()  # behind a shell or a launcher


def _end_with(leader: int) -> None:
    while True:
        try:
            os.kill(leader, 0)
        except OSError:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
