"""The file of answers: one line of JSON each, only ever added to, on disk before anything goes on.

It is the record of the work. Nothing in it is changed; an answer that was taken back stays, and a line says so.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.answers import Event, TagAnswer, event_from, in_force


class ClosedFileError(DataError):
    """The file of answers is closed: its server is ending."""


def read_answers(path: Path, classes: ClassScheme) -> list[TagAnswer]:
    """The answers of a file that are in force; none where there is no file.

    Raises:
        DataError: a line that is no answer, with its number, one about a class that is not among ``classes``, or one
            with the id of another that says something else. The rest of a last line that was cut off by a power failure
            is left out: nobody was told that it was kept.
    """
    return in_force(_parse(path, path.read_bytes(), classes)) if path.is_file() else []


def _parse(path: Path, content: bytes, classes: ClassScheme) -> list[Event]:
    lines = content.split(b"\n")
    if _cut_off(lines[-1]):
        lines.pop()
    events: dict[str, Event] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = event_from(json.loads(line), classes)
            if events.setdefault(event.id, event) != event:
                raise DataError(f"id {event.id!r} a second time", expected="one of its own", cure="give it another id")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, DataError) as error:
            reason = error.found if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            raise DataError(
                f"{path}, line {number}: {reason}",
                expected="an answer that weakseg tag wrote, about classes of classes.yaml",
                cure="take the line out, or bring back the classes that it names",
            ) from error
    return list(events.values())


def _cut_off(line: bytes) -> bool:
    """Whether a line without an end is the rest of one; else an editor has left out the end, and no line is dropped."""
    return not line.rstrip().endswith(b"}")


class AnswerFile:
    """The file of answers, open for adding; many threads of one process may add.

    The one process is the caller's to see to (``tagging.server`` holds a lock).

    Args:
        path: made, with its folder, where it is missing.
        classes: that answers may name.

    Attributes:
        events: all that the file holds, in order.
    """

    def __init__(self, path: Path, classes: ClassScheme) -> None:
        self.path, self._classes = path, classes
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else b""
        self.events = _parse(path, content, classes)
        self._ids = {event.id for event in self.events}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._mend_end(content)
        _sync_folder(path.parent)

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:  # an answer that is being written is written whole
            os.close(self._file)
            self._file = -1

    def add(self, events: Sequence[Event]) -> list[Event]:
        """Write events and wait until they are on disk; returns those that were new.

        An event whose id the file has is left out, so sending an answer again is harmless.

        Raises:
            ClosedFileError: the file is closed.
            DataError: one that makes no sense (:meth:`TagAnswer.check`), or a full disk; nothing has been written.
        """
        for event in events:
            if isinstance(event, TagAnswer):
                event.check(self._classes)
        with self._lock:
            fresh = list({event.id: event for event in events if event.id not in self._ids}.values())
            if self._file < 0:
                raise ClosedFileError(f"{self.path} is closed", expected="a server that runs", cure="start it again")
            if fresh:
                lines = [json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for event in fresh]
                self._write("".join(lines).encode())
                self.events += fresh
                self._ids |= {event.id for event in fresh}
            return fresh

    def _write(self, content: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)  # a half line would be the end of the one after it
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error})",
                expected="a disk with room",
                cure="make room, and answer again: this answer was not kept",
            ) from error

    def _mend_end(self, content: bytes) -> None:
        """End the last line, or cut off what a power failure left of it."""
        rest = content.rsplit(b"\n", 1)[-1]
        if not rest:
            return
        if _cut_off(rest):
            os.ftruncate(self._file, len(content) - len(rest))
            os.fsync(self._file)
        else:
            self._write(b"\n")


def _sync_folder(folder: Path) -> None:
    """A new file is there after a power failure only if its folder was written too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
