"""Small file systems of their own: full ones, read-only ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


@contextmanager
def small_disk(place: Path, size: int, *, inodes: int = 0) -> Iterator[Path]:
    """A tmpfs of ``size`` bytes and so many inodes, unless 0; without the right to mount, the test is skipped."""
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"may not mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """The folder mounted over itself, read-only for root too."""
    done = subprocess.run(["mount", "--bind", str(place), str(place)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"may not mount: {done.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, room: int) -> None:
    """Leave ``room`` bytes, rounded up to pages, on a tmpfs."""
    import os

    free = os.statvfs(disk)
    rest = free.f_bavail * free.f_frsize - -(-room // PAGE) * PAGE
    (disk / "filler").unlink(missing_ok=True)
    with (disk / "filler").open("wb") as file:
        file.write(bytes(max(0, rest)))
