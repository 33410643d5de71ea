"""What do the orders of benchmarks/next.py buy? Where the map errs, how many "no", and what joint is told of shares.

    python benchmarks/next_bought.py WORKSPACE OUT [--budget 320]

WORKSPACE and OUT are those of a finished ``benchmarks/next.py``; nothing is trained. Joint sees all of N2 whatever was
bought: the answers rule classes out, and say how much of each class to expect (``expected_shares``, its share loss). So
the table has, for each order, means over seeds: how often the untagged network's map errs in the crops that were asked
about, how many classes these hold, which share of the answers is "no", how far the shares that joint is told to expect
of all of N2 lie from the true ones (sum over classes of the absolute difference, points of 100), and so far the true
shares of the crops bought lie from those of N2. Writes OUT/bought.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from benchmarks.next import Bench

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

COLUMNS: Final = {
    "crops": ("crops", "{:.0f}"),
    "error": ("px where the map errs there", "{:.0%}"),
    "classes": ("classes in a crop", "{:.2f}"),
    "no": ('"no" among the answers', "{:.0%}"),
    "told": ("shares told of N2, off by", "{:.1f}"),
    "typical": ("shares of these crops, off by", "{:.1f}"),
}


def shares_told(told: Bools, present: Bools, typical: Floats, pixels: Floats) -> Floats:
    """Class shares (C,) that joint is told to expect, as ``methods.selftrain.expected_shares`` has them.

    Args:
        told, present: (N, C), what was asked about each crop and what is in it.
        typical: (C,), share of a crop that each class covers where it is present.
        pixels: (N,) of each crop.
    """
    parts = ~(told & ~present) * typical
    return np.asarray(pixels @ (parts / parts.sum(1, keepdims=True)) / pixels.sum())


def describe_bought(told: Bools, present: Bools, counts: Floats, errors: Floats, typical: Floats) -> dict[str, float]:
    """One row of the table; where nothing was asked, what can be said of it.

    Args:
        told, present, typical: as above.
        counts: (N, C), pixels of each class in each crop.
        errors: (N,), share of the pixels of each crop in which the map errs.
    """
    asked, pixels = told.any(1), counts.sum(1)
    truth = counts.sum(0) / counts.sum()
    off = 100 * float(np.abs(shares_told(told, present, typical, pixels) - truth).sum())
    if not asked.any():
        return {"crops": 0.0, "told": off}
    here = counts[asked].sum(0) / counts[asked].sum()
    return {
        "crops": float(asked.sum()),
        "error": float(errors @ told.sum(1) / told.sum()),
        "classes": float(present[asked].sum(1).mean()),
        "no": float((told & ~present).sum() / told.sum()),
        "told": off,
        "typical": 100 * float(np.abs(here - truth).sum()),
    }


def measure(bench: Bench, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of this seed bought."""
    classes = len(bench.scheme)
    counts, errors = np.zeros((len(bench.crops), classes)), np.zeros(len(bench.crops))
    for i, (area, (row, column, height, width)) in enumerate(bench.crops):
        here = (slice(row, row + height), slice(column, column + width))
        truth, winners = bench.hidden[area][here], bench.base[area][:, *here].argmax(0)
        scored = truth < classes
        counts[i] = np.bincount(truth[scored], minlength=classes)
        errors[i] = (truth != winners)[scored].mean() if scored.any() else 0.0
    found = []
    for row in rows:
        told = np.zeros((len(bench.crops), classes), bool)
        told.flat[row["bought"]] = True
        figures = describe_bought(told, bench.answers.present, counts, errors, bench.typical.astype(np.float64))
        found.append({"order": row["order"], "seed": row["seed"], "budget": row["budget"], **figures})
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, means over seeds."""
    lines = [f"| bought by | {' | '.join(title for title, _ in COLUMNS.values())} |"]
    lines.append("| --- " * (len(COLUMNS) + 1) + "|")
    for order in dict.fromkeys(row["order"] for row in rows):
        mine = [row for row in rows if row["order"] == order]
        of = {key: [row[key] for row in mine if key in row] for key in COLUMNS}
        cells = [form.format(np.mean(of[key])) if of[key] else "-" for key, (_, form) in COLUMNS.items()]
        lines.append(f"| {order} | {' | '.join(cells).replace('%', ' %')} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=int, default=320)
    options = parser.parse_args()
    import torch
    from next import Bench

    torch.set_num_threads(1)
    rows = json.loads((options.out / "next.json").read_text())
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        bench = Bench(options.workspace, seed, 0, options.out, 0.0)
        mine = [row for row in rows if row["seed"] == seed]
        at = [row for row in mine if row["budget"] == options.budget or row["order"] in ("none", "all")]
        found += measure(bench, at)
    lines = [json.dumps({key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()}) for row in found]
    (options.out / "bought.json").write_text("[\n" + ",\n".join(f" {line}" for line in lines) + "\n]\n")
    print(table(found))


if __name__ == "__main__":
    main()
