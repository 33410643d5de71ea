"""The errors weakseg raises: one line each, saying what was found, what was expected and the cure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from weakseg.core.passwords import without_passwords

_LONGEST: Final = 20_000  # letters of what was found; a table with fifty wrong lines has some thousands


class WeaksegError(Exception):
    """Base of all errors that a user can mend.

    ``WeaksegError("mask a.png is 10x12", expected="10x11 like its image", cure="export the mask again")``
    prints ``mask a.png is 10x12; expected 10x11 like its image; export the mask again``. What was found often repeats
    names of a file: letters that would end the line or steer a terminal are written as Python writes them. Addresses
    are shown without the password that they may hold.
    """

    def __init__(self, found: str, *, expected: str, cure: str) -> None:
        found, expected, cure = (one_line(without_passwords(part)) for part in (found, expected, cure))
        self.found, self.expected, self.cure = found, expected, cure
        super().__init__(f"{found}; expected {expected}; {cure}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.found, self.expected, self.cure)


def one_line(text: str) -> str:
    r"""A text without control characters, cut where it is very long.

    >>> one_line("a\nb")
    'a\\nb'
    """
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... and {len(text) - _LONGEST} more letters"
    return "".join(repr(one)[1:-1] if unicodedata.category(one) in _UNSHOWN else one for one in text)


_UNSHOWN: Final = ("Cc", "Cs", "Zl", "Zp")


def _rebuild(kind: type[WeaksegError], found: str, expected: str, cure: str) -> WeaksegError:
    return kind(found, expected=expected, cure=cure)


class DataError(WeaksegError):
    """An image, mask, tag file or array is not what it should be."""


class ImportProblems(DataError):  # noqa: N818 - it holds problems
    """Everything that is wrong with the sources of an import; its text has one line per problem.

    Attributes:
        problems: the lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(one_line(without_passwords(problem)) for problem in problems)
        super().__init__(f"{len(self.problems)} problem(s)", expected="none", cure="mend the sources and import again")

    def __str__(self) -> str:
        return "\n".join(self.problems)

    def __reduce__(self) -> tuple[object, ...]:
        return ImportProblems, (self.problems,)


class ParamsError(WeaksegError):
    """params.yaml or a command-line value is wrong."""


class WeightsError(WeaksegError):
    """A weight file or checkpoint does not fit the network."""


class StageError(WeaksegError):
    """A stage cannot run: its inputs are missing or contradict each other."""


class TrackingError(WeaksegError):
    """MLflow, Optuna or the registry refused a request."""
