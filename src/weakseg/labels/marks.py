"""What people marked of pictures in other programs, as their files say it; ``tag_files`` makes answers of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.labels.tags import Window


@dataclass(frozen=True)
class Mark:
    """What one person marked of one picture, or of one rectangle in it.

    Attributes:
        place: file and record, for messages.
        picture: file name or address of what was shown; may be empty where ``area`` and ``window`` say it.
        present: names of classes, as the file has them.
        unsure: names of classes that the person was not sure about.
        absent: names of classes that the file itself calls absent.
        annotator: name of the person; empty where the file names none.
        area: named by the file itself, or empty.
        window: px of the area; None: all that the picture shows.
        edges: left, upper, right and lower edge of a rectangle in the picture as shares of its sides; or None.
        size: height and width of the picture, px, where the file tells.
        raster: height and width of the raster of the area when it was marked, px, where the file tells.
        seconds: of work, 0 where nobody measured them.
        time: when it was written, as the file has it; or empty.
    """

    place: str
    picture: str
    present: tuple[str, ...]
    unsure: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    annotator: str = ""
    area: str = ""
    window: Window | None = None
    edges: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    raster: tuple[int, int] | None = None
    seconds: float = 0.0
    time: str = ""


@dataclass
class Marks:
    """The marks of one file.

    Attributes:
        several: whether a picture could get several classes; None where the file does not tell.
        offered: names of the classes that people could choose from; None where the file does not tell.
        notes: what was left out, and how often.
    """

    file: Path
    rows: list[Mark] = field(default_factory=list)
    several: bool | None = None
    offered: tuple[str, ...] | None = None
    notes: Counter[str] = field(default_factory=Counter)


def texts(values: Any) -> tuple[str, ...] | None:
    """A list of texts, each once, as it comes; None where it is none."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    return tuple(dict.fromkeys(values))
