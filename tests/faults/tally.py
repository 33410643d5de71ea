"""What was injected and what became of it, for the table at the end of `pytest -m faults`.

``WEAKSEG_FAULTS_TALLY`` names a file to which every count is added, so that a run in pieces has one table:
``python -m tests.faults.tally FILE``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

INJECTED: Counter[str] = Counter()
SURVIVED: Counter[str] = Counter()


def injected(kind: str, count: int = 1) -> None:
    _add(INJECTED, "injected", kind, count)


def survived(kind: str, count: int = 1) -> None:
    _add(SURVIVED, "survived", kind, count)


def _add(counter: Counter[str], what: str, kind: str, count: int) -> None:
    counter[kind] += count
    if count and (name := os.environ.get("WEAKSEG_FAULTS_TALLY")):
        with Path(name).open("a") as file:
            file.write(f"{what}\t{count}\t{kind}\n")


def read(file: Path) -> None:
    """Add the counts of a file."""
    for line in file.read_text().splitlines():
        what, count, kind = line.split("\t")
        (INJECTED if what == "injected" else SURVIVED)[kind] += int(count)


def table() -> list[str]:
    """Lines of a Markdown table: faults by kind, how many were survived, how many were not."""
    rows = [(kind, INJECTED[kind], SURVIVED[kind]) for kind in sorted(INJECTED) if INJECTED[kind]]
    rows.append(("in all", INJECTED.total(), SURVIVED.total()))
    lines = ["| fault | injected | survived | lost |", "| --- | --- | --- | --- |"]
    return lines + [f"| {kind} | {count:,} | {good:,} | {count - good:,} |" for kind, count, good in rows]


if __name__ == "__main__":
    read(Path(sys.argv[1]))
    print("\n".join(table()))
