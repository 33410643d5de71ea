"""What people said about tag crops: who, what, when, and how long it took; ``labels.answer_file`` keeps it.

``labels.opinions`` makes tags of it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.tags import Window, check_inside

MODES: Final = ("crop", "grid", "file")
"""One crop at a time with all classes, many crops at once for one class, or a file of another program without times."""
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
            0 where nobody knows.
        mode: one of :data:`MODES`.
        batch: answers of one grid page share it; of another program, its name; else empty.
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
        if self.annotator != check_annotator(self.annotator):  # else one person would count as two
            raise DataError(f"annotator {self.annotator!r}", expected="no blanks around, and NFC", cure="mend the name")
        if not (math.isfinite(self.seconds) and 0 <= self.seconds <= _MOST_SECONDS) or self.mode not in MODES:
            raise DataError(
                f"{self.seconds} seconds in mode {self.mode!r}",
                expected="0 to 86400 in crop, grid or file",
                cure="mend it",
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
    return as_time(datetime.now(UTC).timestamp())


def as_time(seconds: float) -> str:
    """Seconds since 1970 as the file has times: texts that sort as the times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def event_from(line: Mapping[str, Any], classes: ClassScheme) -> Event:
    """The way back from ``to_json``, checked; what is missing or strange is any of KeyError, ValueError, DataError."""
    event = _event(line)
    said = event.to_json()
    strange = [f"{key} {line.get(key)!r}" for key in {**line, **said} if line.get(key) != said.get(key)]
    if strange:  # 3.7 for a row, a text for a list: a hand has been here, and what it meant is anybody's guess
        raise DataError(", ".join(strange), expected="a line as weakseg tag writes it", cure="mend the line")
    return event.check(classes) if isinstance(event, TagAnswer) else event


def _event(line: Mapping[str, Any]) -> Event:
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
        str(line["mode"]), str(line.get("batch", "")), dict(line.get("guess") or {}), str(line.get("model", "")),
    )  # fmt: skip
