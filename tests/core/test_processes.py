"""A process is known again whatever the clock does, and not mistaken for another with its number."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from weakseg.core.processes import birth_of, is_at_work


def test_a_process_is_at_work_until_it_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = birth_of(process.pid)
    assert is_at_work(process.pid, born)
    assert is_at_work(process.pid, None)
    assert not is_at_work(process.pid, born - 60)  # its number was another's before
    process.kill()
    process.wait()
    assert not is_at_work(process.pid, born)


@pytest.mark.parametrize("jump", [-86400.0, 3600.0])
def test_a_clock_that_jumps_changes_nothing(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day of the machine's start moves with the clock; NTP moves it, and a laptop that slept."""
    before, started = birth_of(), psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: started + jump)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: started + jump)
    assert abs(psutil.Process().create_time() - psutil._pslinux.Process(os.getpid()).create_time()) < 1e9
    assert birth_of() == before
    assert is_at_work(os.getpid(), before)
