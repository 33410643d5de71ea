"""The header of a table of tags: its delimiter, and the columns that nobody would read though they speak of tags."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from weakseg.core.class_names import did_you_mean
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError

DELIMITERS: Final = (",", ";", "\t")
_SEP: Final = re.compile(r"sep=.[ \t]*[\r\n]", re.IGNORECASE)  # a first line that Excel reads as the delimiter
_SPEAKING: Final = ("absent", "present", "not_present", "negative", "positive")


def read_header(text: str, known: Sequence[str]) -> tuple[list[str], str, int]:
    """Names of the columns in small letters, the delimiter by which most of them are known, and lines before them."""
    skipped = int(bool(_SEP.match(text)))
    read = {one: _columns(text, one, skipped) for one in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda one: len({*read[one]} & {*known}))
    return read[delimiter], delimiter, skipped


def _columns(text: str, delimiter: str, skipped: int) -> list[str]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [cell.strip().casefold() for cell in next(islice(rows, skipped, None), [])]


def check_further(path: Path, columns: Sequence[str], known: Sequence[str], classes: ClassScheme) -> None:
    """Refuse (DataError) further columns that say of classes what the table's own do not.

    They would be left unread: a column per class, a list of absent classes beside one of present ones, of which all
    others would then count as absent.
    """
    names = {name.casefold() for name in classes.names} | {*_SPEAKING}
    found = [name for name in columns if name in names and name not in known]
    if found:
        raise DataError(
            f"{path} has the columns {', '.join(found[:5])}{', ...' * (len(found) > 5)} beside tags",
            expected="tags for the classes that are there and unknown for those that nobody looked for: all others are "
            "absent",
            cure="put what they say into these two, or take the columns out",
        )


def misspelt(columns: Sequence[str], known: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Columns that are none of the known ones but like one that need not be there, each with the one that is meant."""
    return [
        f"{name}{did_you_mean(name, known)}" for name in columns if name not in known and did_you_mean(name, optional)
    ]
