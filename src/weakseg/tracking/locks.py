"""An advisory file lock."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def file_lock(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold an advisory lock on ``path`` (this machine); False if it is taken for longer than ``patience`` s."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=False)
    try:
        lock.acquire(timeout=-1 if math.isinf(patience) else patience)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
