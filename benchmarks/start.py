"""How long `import weakseg` and `weakseg --help` take, beyond Python's own start; prints a markdown row each.

    python benchmarks/start.py [--repeats 15]

Every start is a fresh process, in turn, so that a busy machine slows all alike; the best of each counts, by the CPU
time of the child, which other processes disturb least, and by the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

STARTS = {
    "python": ["-c", "pass"],
    "import weakseg": ["-c", "import weakseg"],
    "weakseg --help": ["-m", "weakseg", "--help"],
}
LIMIT = 0.05  # s, of the import


def start(words: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one fresh Python process."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall


def main() -> None:
    """Best of all starts, as rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STARTS}
    for _ in range(given.repeats):
        for name, words in STARTS.items():
            found[name].append(start(words))
    best = {name: [min(column) for column in zip(*times, strict=True)] for name, times in found.items()}
    own = best["python"]
    print("| start | CPU, ms beyond Python's own | by the clock, ms |\n| --- | --- | --- |")
    for name in list(STARTS)[1:]:
        cpu, wall = (1000 * (value - base) for value, base in zip(best[name], own, strict=True))
        print(f"| `{name}` | {cpu:.0f} | {wall:.0f} |")
    taken = best["import weakseg"][0] - own[0]
    print(f"the import takes {1000 * taken:.0f} ms of CPU (claim: below {1000 * LIMIT:.0f}): {taken < LIMIT}")


if __name__ == "__main__":
    main()
