"""Patterns that a user gives for file names: which files count, and which part of the name is the area's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from weakseg.core.errors import DataError, ParamsError
from weakseg.data.importing.archives import Entry
from weakseg.raster.formats import LONE_SUFFIXES

_FIELD = "{area}"
_GROUP = "(?P<area>"


class NamePattern:
    """A template such as ``IMG_{area}_v2`` or a regular expression with a group ``(?P<area>...)``.

    It is matched with the whole name without its ending, or where it has a ``/`` with the whole path below the source:
    ``{area}/rgb``. In a template ``*`` stands for anything within a name.

    Attributes:
        ending: of the files that count, where the pattern names one that otherwise counts in a folder without other
            rasters only, as in ``{area}.vrt``; else "", any.
    """

    def __init__(self, text: str) -> None:
        """``text`` as the user wrote it; ParamsError where it names no area, or is no regular expression."""
        self._text = text
        self.ending = next((suffix for suffix in sorted(LONE_SUFFIXES) if text.lower().endswith(suffix)), "")
        stem = text[: len(text) - len(self.ending)].removesuffix("\\") if self.ending else text
        self._expression = _compile(unicodedata.normalize("NFC", stem))

    def select(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those whose name fits; DataError where there are rasters and none of them fits."""
        chosen = [entry for entry in entries if self._match(entry)]
        if entries and not chosen:
            raise DataError(
                f"pattern {self._text!r} fits none of {len(entries)} files, the first: {entries[0]}",
                expected="a pattern of the names without their endings",
                cure="mend the pattern",
            )
        return chosen

    def __call__(self, entry: Entry) -> str:
        """The area of an entry that was selected."""
        match = self._match(entry)
        if match is None:
            raise DataError(f"{entry} does not fit {self._text!r}", expected="a selected file", cure="select first")
        return match["area"] or ""

    def _match(self, entry: Entry) -> re.Match[str] | None:
        path = PurePosixPath(entry.name).with_suffix("")
        name = str(path) if "/" in self._text else path.name
        return self._expression.fullmatch(unicodedata.normalize("NFC", name))


def _compile(text: str) -> re.Pattern[str]:
    if text.count(_FIELD) == 1 and _GROUP not in text:
        parts = (re.escape(part).replace(r"\*", "[^/]*") for part in text.split(_FIELD))
        return re.compile("(?P<area>[^/]+)".join(parts))
    try:
        expression = re.compile(text)
    except re.error as error:
        raise _wrong(text, f"is no regular expression ({error})") from error
    if "area" not in expression.groupindex:
        raise _wrong(text, "names no area")
    return expression


def _wrong(text: str, fault: str) -> ParamsError:
    return ParamsError(
        f"pattern {text!r} {fault}",
        expected="a name with {area} in it once, or a regular expression with (?P<area>...)",
        cure="write for instance 'IMG_{area}_v2' or '(?P<area>.*)_v\\d'",
    )
