"""Work that takes longer than a request: one piece after the other in a thread, with progress, that can be stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from weakseg.core.errors import WeaksegError

State = Literal["none", "waiting", "running", "done", "failed", "stopped"]
RETRY: Final = 5  # seconds that a client is asked to wait


class BusyError(WeaksegError):
    """There is as much work as the server takes; HTTP's status 503."""


class _StopError(Exception):
    """Raised inside of work that is to end."""


@dataclass
class Work:
    """One piece of work.

    Attributes:
        done, total: how far it is; 0 of 0 where that is not known.
        message: why it failed.
    """

    state: State = "none"
    done: int = 0
    total: int = 0
    message: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")

    def watch(self, done: int, total: int) -> None:
        """What the work calls as it goes on; ends it where :meth:`stop` was called."""
        self.done, self.total = done, total
        if self._stop.is_set():
            raise _StopError

    def stop(self) -> None:
        """Ask it to end; at once where it waits, else when it next tells how far it is."""
        self._stop.set()
        if self.state == "waiting":
            self.state = "stopped"

    def told(self) -> dict[str, Any]:
        """For the page."""
        return {"state": self.state, "done": self.done, "total": self.total, "message": self.message}

    def run(self, act: Callable[[Work], None]) -> None:
        """Do it; nothing is raised."""
        try:
            self.watch(0, 0)
            self.state = "running"
            act(self)
            self.state = "done"
        except _StopError:
            self.state = "stopped"
        except WeaksegError as error:
            self.state, self.message = "failed", str(error)
        except Exception:  # the log gets the traceback, the page a sentence, and the thread lives on
            logging.getLogger(__name__).exception("the work failed")
            self.state, self.message = "failed", "it failed; the traceback is in the log of the server"


class Worker:
    """A thread that does one piece of work after the other; at most ``most`` wait or run."""

    def __init__(self, most: int) -> None:
        self._most, self._pool, self._given = most, ThreadPoolExecutor(1), list[Work]()

    def start(self, act: Callable[[Work], None]) -> Work:
        """Take on some work.

        Raises:
            BusyError: as much waits as may.
        """
        self._given = [work for work in self._given if work.active]
        if len(self._given) >= self._most:
            raise BusyError(
                f"{self._most} pieces of work wait or run", expected="fewer", cure=f"come again in {RETRY} s"
            )
        work = Work("waiting")
        self._given.append(work)
        self._pool.submit(work.run, act)
        return work

    def close(self) -> None:
        """Stop all work and wait for it."""
        for work in self._given:
            work.stop()
        self._pool.shutdown(cancel_futures=True)
