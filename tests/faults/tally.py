"""What was injected and what became of it, for the table at the end of `pytest -m faults`.

``WEAKSEG_FAULTS_TALLY`` names a file to which every count is added, so that a run in pieces has one table:
``python -m tests.faults.tally FILE...``. ``kept.tsv`` beside this file is what docs/reliability.md shows.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
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


def read(file: Path) -> dict[str, tuple[int, int]]:
    """(injected, survived) by kind, of one file."""
    found: dict[str, Counter[str]] = {"injected": Counter(), "survived": Counter()}
    for line in file.read_text().splitlines():
        what, count, kind = line.split("\t")
        found[what][kind] += int(count)
    return {kind: (count, found["survived"][kind]) for kind, count in found["injected"].items()}


def table(counts: Mapping[str, tuple[int, int]] | None = None) -> list[str]:
    """Lines of a Markdown table: faults by kind, how many were survived, how many were not; None: this process's."""
    counts = {kind: (INJECTED[kind], SURVIVED[kind]) for kind in INJECTED} if counts is None else counts
    rows = [(kind, *counts[kind]) for kind in sorted(counts) if counts[kind][0]]
    kills = sum(count for kind, count, _ in rows if kind.startswith("kill of"))
    total = (f"in all, {kills:,} of them kills", sum(row[1] for row in rows), sum(row[2] for row in rows))
    lines = ["| fault | injected | survived | lost |", "| --- | --- | --- | --- |"]
    return lines + [f"| {kind} | {count:,} | {good:,} | {count - good:,} |" for kind, count, good in [*rows, total]]


def main(names: Sequence[str]) -> None:
    """Print the table of some files; what several of them hold are the same draws, so that the last one counts."""
    counts: dict[str, tuple[int, int]] = {}
    for name in names:
        counts |= read(Path(name))
    print("\n".join(table(counts)))


if __name__ == "__main__":
    main(sys.argv[1:])
