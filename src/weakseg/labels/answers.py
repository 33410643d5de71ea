"""What people said about tag crops: one line of JSON per answer, only ever added to, on disk before anything goes on.

The file is the record of the work: who said what, when, and how long it took. Nothing in it is changed; an answer that
was taken back stays, and a line says so. ``labels.opinions`` makes tags of it.
"""

from __future__ import annotations

import json
import math
import os
import threading
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.tags import Window, check_inside

MODES: Final = ("crop", "grid")
"""One crop at a time with all classes, or many crops at once for one class."""
_LONGEST_NAME: Final = 60
_MOST_SECONDS: Final = 86_400.0

Crop = tuple[str, Window]
"""Area and (row, column, height, width), px of the raster in data/images."""


@dataclass(frozen=True)
class TagAnswer:
    """What one annotator said about one crop.

    Attributes:
        id: different for every answer; a second one with the same id is the same answer sent again.
        raster: height and width of the area's raster, px, when it was tagged.
        present, absent, unsure: classes, none twice. Classes in none of them were not asked for (a grid asks for one).
        annotator: name of the person.
        time: when it was written, ISO 8601 in UTC.
        seconds: that the annotator looked at it; pauses do not count. Of a grid: the time of the page, shared out.
        mode: "crop" or "grid".
        batch: answers of one grid page share it; else empty.
        guess: probability of each class by ``model``, as it was shown; empty where none was.
        model: digest of the model that guessed, or empty.
    """

    id: str
    area: str
    window: Window
    raster: tuple[int, int]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    unsure: tuple[str, ...]
    annotator: str
    time: str
    seconds: float
    mode: str = "crop"
    batch: str = ""
    guess: Mapping[str, float] = field(default_factory=dict)
    model: str = ""

    @property
    def crop(self) -> Crop:
        """Area and window."""
        return self.area, self.window

    @property
    def asked(self) -> tuple[str, ...]:
        """The classes that the answer is about."""
        return (*self.present, *self.absent, *self.unsure)

    def check(self, classes: ClassScheme) -> TagAnswer:
        """The same answer, if it makes sense by itself.

        Raises:
            DataError: an unknown class or one twice, no class at all, a window that leaves its raster, a name that is
                none, seconds that are none.
        """
        names = self.asked
        for name in names:
            classes.index(name)
        if not names or len(set(names)) != len(names):
            raise DataError(
                f"an answer about {', '.join(names) or 'no class'}", expected="each class once", cure="answer again"
            )
        check_inside(self.window, *self.raster)
        check_annotator(self.annotator)
        if not (math.isfinite(self.seconds) and 0 <= self.seconds <= _MOST_SECONDS) or self.mode not in MODES:
            raise DataError(
                f"{self.seconds} seconds in mode {self.mode!r}", expected="0 to 86400 in crop or grid", cure="mend it"
            )
        if not self.id or any(not 0 <= share <= 1 for share in self.guess.values()):
            raise DataError(f"answer {self.id!r}", expected="an id, and guesses in 0..1", cure="answer again")
        return self

    def to_json(self) -> dict[str, Any]:
        """A line of the file as plain values."""
        keys = ("row", "column", "height", "width")
        line = {"id": self.id, "event": "answer", "area": self.area, **dict(zip(keys, self.window, strict=True))}
        line |= {"raster": list(self.raster)}
        line |= {name: list(getattr(self, name)) for name in ("present", "absent", "unsure")}
        line |= {name: getattr(self, name) for name in ("annotator", "time", "seconds", "mode")}
        optional = {"batch": self.batch, "guess": dict(self.guess), "model": self.model}
        return line | {key: value for key, value in optional.items() if value}


@dataclass(frozen=True)
class TakenBack:
    """``annotator`` takes back the answers with the ids ``of``; ``id`` and ``time`` as of an answer."""

    id: str
    of: tuple[str, ...]
    annotator: str
    time: str

    def to_json(self) -> dict[str, Any]:
        """A line of the file as plain values."""
        return {"id": self.id, "event": "undo", "of": list(self.of), "annotator": self.annotator, "time": self.time}


Event = TagAnswer | TakenBack


class ClosedFileError(DataError):
    """The file of answers is closed: its server is ending."""


def check_annotator(name: str) -> str:
    """The name of a person as it is kept: Unicode NFC, without blanks at its ends; DataError where it is none."""
    kept = unicodedata.normalize("NFC", name).strip()
    if not kept or len(kept) > _LONGEST_NAME or any(unicodedata.category(letter)[0] == "C" for letter in kept):
        raise DataError(
            f"annotator {name[:80]!r}", expected=f"a name of 1 to {_LONGEST_NAME} letters", cure="enter another"
        )
    return kept


def now() -> str:
    """The time as the file has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def in_force(events: Iterable[Event]) -> list[TagAnswer]:
    """The answers that were not taken back, in order of time."""
    answers: dict[str, TagAnswer] = {}
    for event in events:
        if isinstance(event, TagAnswer):
            answers[event.id] = event
        else:
            for one in event.of:
                answers.pop(one, None)
    return list(answers.values())


def read_answers(path: Path, classes: ClassScheme) -> list[TagAnswer]:
    """The answers of a file that are in force; none where there is no file.

    Raises:
        DataError: a line that is no answer, with its number, or one about a class that is not among ``classes``. The
            rest of a last line that was cut off by a power failure is left out: nobody was told that it was kept.
    """
    return in_force(_parse(path, path.read_bytes(), classes)) if path.is_file() else []


def _parse(path: Path, content: bytes, classes: ClassScheme) -> list[Event]:
    lines = content.split(b"\n")
    if not _whole(lines[-1]):
        lines.pop()
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            events.append(_event(json.loads(line), classes))
        except (ValueError, KeyError, TypeError, DataError) as error:
            reason = error.found if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            raise DataError(
                f"{path}, line {number}: {reason}",
                expected="an answer that weakseg tag wrote, about classes of classes.yaml",
                cure="take the line out, or bring back the classes that it names",
            ) from error
    return events


def _whole(line: bytes) -> bool:
    """Whether a line without an end is whole all the same (an editor may have left out the end)."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _event(line: Mapping[str, Any], classes: ClassScheme) -> Event:
    if line["event"] == "undo":
        return TakenBack(str(line["id"]), tuple(line["of"]), str(line["annotator"]), str(line["time"]))
    if line["event"] != "answer":
        raise DataError(f"event {line['event']!r}", expected="answer or undo", cure="take the line out")
    row, column, height, width = (int(line[key]) for key in ("row", "column", "height", "width"))
    tall, wide = line["raster"]
    present, absent, unsure = (tuple(map(str, line[key])) for key in ("present", "absent", "unsure"))
    return TagAnswer(
        str(line["id"]), str(line["area"]), (row, column, height, width), (int(tall), int(wide)),
        present, absent, unsure, str(line["annotator"]), str(line["time"]), float(line["seconds"]),
        str(line["mode"]), str(line.get("batch", "")),
        {str(name): float(share) for name, share in line.get("guess", {}).items()}, str(line.get("model", "")),
    ).check(classes)  # fmt: skip


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
        if _whole(rest):
            self._write(b"\n")
        else:
            os.ftruncate(self._file, len(content) - len(rest))
            os.fsync(self._file)


def _sync_folder(folder: Path) -> None:
    """A new file is there after a power failure only if its folder was written too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
