"""Whether the process that wrote something down is still at work, whatever the clock does.

A process is known by its number and by when it was born on the clock that counts from the start of the machine: numbers
are given again, and times of day jump (NTP, a laptop that slept), for all processes of a machine at once.
"""

from __future__ import annotations

import os


def birth_of(process: int | None = None) -> float:
    """Seconds from the machine's start to that of a process, of this one without a number.

    Raises:
        psutil.Error: there is no such process, or it may not be looked at.
    """
    import psutil  # type: ignore[import-untyped]

    found = psutil.Process(process or os.getpid())
    try:
        return float(found._proc.create_time(monotonic=True))  # psutil 7 has it on Linux, the BSDs and macOS
    except TypeError:
        return float(found.create_time() - psutil.boot_time())


def is_at_work(process: int, born: float | None) -> bool:
    """Whether that process of this machine runs, and is the one that was born then, if that is known."""
    import psutil

    try:
        alive = psutil.Process(process).status() != psutil.STATUS_ZOMBIE
        return alive and (born is None or abs(birth_of(process) - born) <= 1)
    except psutil.Error:
        return False
