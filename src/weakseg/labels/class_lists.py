"""Lists of class names in one cell of a table, written and read so that there is one way to read them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from weakseg.core.class_names import did_you_mean
from weakseg.core.errors import DataError

SEPARATORS: Final = (" ", ";", ",", "|")
"""What may stand between names; a name that holds the separator stands in double quotes."""


def join_names(names: Sequence[str], known: Sequence[str]) -> str:
    """A cell that :func:`split_names` reads back as these names.

    They are separated by blanks, or by semicolons where one of them has a blank in it or blanks could be read in two
    ways; a single name that would read as several ends in a semicolon.

    Raises:
        DataError: a name that no form can hold, such as an empty one.
    """
    joined = _write_line(names, ";")
    blanks = [] if any(len(name.split()) > 1 for name in names) else [" ".join(names)]
    for text in (*blanks, joined, f"{joined};"):
        if _readings(text, tuple(known)) == {tuple(names)}:
            return text
    raise DataError(
        f"class names {', '.join(map(repr, names))}", expected="names that a table can hold", cure="rename the classes"
    )


def _write_line(names: Sequence[str], separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="").writerow(names)
    return text.getvalue()


def split_names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names in a cell, in its order.

    Between them stand blanks, semicolons, commas or bars, one kind in a cell; names with blanks may also follow each
    other with blanks between them (``low vegetation car``) where the known names leave one way to read that.

    Args:
        known: the names that may occur.

    Raises:
        DataError: a name that is not known, with the one that may be meant; a name twice; or two ways to read the cell.
    """
    readings = sorted(_readings(text, tuple(known)))
    if len(readings) > 1:
        raise DataError(
            f"{text!r} may mean {' or '.join(' + '.join(reading) for reading in readings)}",
            expected="one meaning",
            cure="put a semicolon behind each name",
        )
    names = readings[0] if readings else _split(text, next((s for s in SEPARATORS[1:] if s in text), " "))
    problems = [f"unknown class {name!r}{did_you_mean(name, known)}" for name in names if name not in known]
    problems += [f"class {name!r} {count} times" for name, count in Counter(names).items() if count > 1]
    if problems:
        raise DataError(" and ".join(problems), expected=f"classes of {', '.join(known)}", cure="mend the cell")
    return names


@lru_cache(maxsize=4096)  # a table of tags has many rows and few different cells
def _readings(text: str, known: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """Every way to read the cell as known names; an empty cell has one, without names."""
    split = {_split(text, separator) for separator in SEPARATORS}
    return frozenset(names for names in split if all(name in known for name in names)) | set(
        _tilings(text.split(), known)
    )


def _split(text: str, separator: str) -> tuple[str, ...]:
    """The parts of the cell; the whole cell as one name where its double quotes do not fit this separator."""
    line = " ".join(text.split())  # line breaks inside a cell and the blanks of other scripts are blanks
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
    except csv.Error:
        cells = [line]
    return tuple(cell.strip() for cell in cells if cell.strip())


def _tilings(words: Sequence[str], known: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every sequence of different known names whose words, one after the other, are these words."""
    if not words:
        yield ()
    for name in known:
        size = len(name.split())
        if size and name.split() == list(words[:size]):
            rest = [one for one in known if one != name]
            yield from ((name, *tail) for tail in _tilings(words[size:], rest))
