"""Commands of weakseg as typed, in a fork."""

from __future__ import annotations

import sys
from collections.abc import Callable


def typed(*words: str) -> Callable[[], None]:
    """`weakseg WORDS` as work of a fork: its last words go to standard error, its exit code is the fork's."""

    def work() -> None:
        from weakseg.cli import main

        sys.argv = ["weakseg", *words]
        main()

    return work


def sentence_of(said: str) -> str:
    """The one line that a refused command says.

    Raises:
        AssertionError: a traceback, or no such line, or several.
    """
    assert "Traceback" not in said, said[-4000:]
    lines = [line for line in said.splitlines() if line.startswith("weakseg: ")]
    assert len(lines) == 1, said[-4000:]
    return lines[0]
