"""The errors weakseg raises: one line each, saying what was found, what was expected and the cure."""

from __future__ import annotations

from collections.abc import Sequence


class WeaksegError(Exception):
    """Base of all errors that a user can mend.

    ``WeaksegError("mask a.png is 10x12", expected="10x11 like its image", cure="export the mask again")``
    prints ``mask a.png is 10x12; expected 10x11 like its image; export the mask again``.
    """

    def __init__(self, found: str, *, expected: str, cure: str) -> None:
        self.found, self.expected, self.cure = found, expected, cure
        super().__init__(f"{found}; expected {expected}; {cure}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.found, self.expected, self.cure)


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
        self.problems = tuple(problems)
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
