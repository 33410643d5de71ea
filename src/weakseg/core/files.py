"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

NODE: Final = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # this computer, in names of files
_TEMPORARY: Final = re.compile(r"\.(?P<node>[0-9a-f]{6})-(?P<process>\d+)-\d+-")
_A_DAY: Final = 86400.0
_NUMBERS: Final = itertools.count()
_SWEPT: Final[set[tuple[int, Path]]] = set()  # folders, by process: a fork has swept nothing


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` with the same suffix; it replaces ``path`` only if the block ends well.

    Every process, thread and computer has temporary names of its own. What killed ones left in the folder is deleted
    before this process writes there for the first time: a folder of results is compared as a whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent.absolute())
    temporary = path.with_name(f".{NODE}-{os.getpid()}-{next(_NUMBERS)}-{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that only grows, whole or not at all: on a full disk half of it would spoil the next.

    The end of a line that a killed process left is ended first. One process at a time.

    Raises:
        OSError: the disk is full; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        cut = before > 0 and os.pread(file.fileno(), 1, before - 1) != b"\n"
        rest = memoryview(("\n" * cut + line + "\n").encode())
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except OSError:
            file.truncate(before)
            raise


def remove_folder(folder: Path) -> None:
    """Delete a folder, if it is there, wholly: what stayed of it would be taken for what is written next.

    Raises:
        OSError: something in it may not be deleted, or it is a link to a folder.
    """
    if folder.is_symlink():  # Python 3.13.0 refuses it too, with an error that says nothing
        raise OSError(errno.ENOTDIR, "a symbolic link, no folder", str(folder))
    if folder.exists():
        shutil.rmtree(folder)


def _sweep(folder: Path) -> None:
    """Delete temporary files of dead processes; of other computers, those that are a day old."""
    if (os.getpid(), folder) in _SWEPT:
        return
    _SWEPT.add((os.getpid(), folder))
    for file in folder.glob(".*.tmp*"):
        name = _TEMPORARY.match(file.name)
        if name is not None:
            with suppress(OSError):
                if _is_left(file, name["node"], int(name["process"])):
                    file.unlink(missing_ok=True)


def _is_left(file: Path, node: str, process: int) -> bool:
    if node != NODE or find_spec("psutil") is None:  # which exported bundles do not ask for
        return time.time() - file.stat().st_mtime > _A_DAY
    import psutil  # type: ignore[import-untyped]

    return not psutil.pid_exists(process)
