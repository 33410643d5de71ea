"""How good pseudo-masks are at *equal coverage*: raw CAM, dense CRF, PAMR and the random walk of a finished workspace.

    python benchmarks/refiners.py [--root .] [--truth hidden]

Thresholds that a hold-out chose leave another share of the pixels labelled for every method, and fewer pixels are
easier to get right; so methods are compared by their most certain 50 to 100 % of the pixels (lead of the top class over
the second). ``--truth hidden`` is N2, for the eye alone; ``--truth holdout`` is the block inside N1, on which params of
the section ``crf`` may be chosen. Stored scores are read, and PAMR is run on those of ``cam``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.data.store import open_allowed, open_array
from weakseg.methods.crf import refine_many
from weakseg.methods.pseudo import SweepRow, sweep_thresholds
from weakseg.methods.scores import ScoreMaps, load_scores
from weakseg.pipeline.context import Context, open_context

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CLASSES_AT = 0.7  # coverage of the table of classes
MARGINS = tuple(np.linspace(0, 0.995, 200))

Method = Callable[[str], ScoreMaps]


def methods_of(context: Context) -> dict[str, Method]:
    """Name -> scores of an area."""

    def stored(name: str) -> Method:
        return lambda area: load_scores(context.layout.scores(name) / f"{area}.npz")

    def refined(area: str) -> ScoreMaps:
        image = np.array(open_array(context.layout.tiles / "images", area))
        return next(refine_many([(image, stored("cam")(area))], context.params.crf.replaced(refiner="pamr"), workers=1))

    found = {name: stored(name) for name in ("cam", "crf", "irnet") if context.layout.scores(name).is_dir()}
    return found | {"pamr": refined}


def sweep(context: Context, method: Method, truth: Path, areas: list[str]) -> list[SweepRow]:
    """Quality at every margin, from all pixels to the most certain ones."""

    def read() -> Iterator[tuple[ScoreMaps, np.ndarray, np.ndarray]]:
        for area in areas:
            mask = np.asarray(open_array(truth, area))
            if (mask != IGNORE).any():
                yield method(area), open_allowed(context.layout.tiles, area), mask

    return sweep_thresholds(read(), scores_grid=[0.0], margins_grid=MARGINS)


def at_coverage(rows: list[SweepRow], coverage: float) -> tuple[float, list[float]]:
    """mIoU and class IoU where ``coverage`` is labelled, between the two nearest margins; NaN where no margin is."""
    covered = np.array([row.coverage for row in rows])[::-1]
    if not covered[0] <= coverage <= covered[-1] + 1e-3:
        return float("nan"), [float("nan")] * len(rows[0].class_iou)
    columns = np.array([(row.miou, *row.class_iou) for row in rows])[::-1]
    values = [float(np.interp(coverage, covered, column)) for column in columns.T]
    return values[0], values[1:]


def main() -> None:
    """Two Markdown tables: mIoU at every coverage, and class IoU at one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--truth", choices=("hidden", "holdout"), default="hidden")
    given = parser.parse_args()
    context = open_context(given.root)
    hidden = given.truth == "hidden"
    truth = context.layout.hidden if hidden else context.layout.tiles / "holdout"
    areas = context.tag_areas() if hidden else context.pixel_areas()
    names, classes = context.scheme.names, []
    print("| mIoU at coverage |", " | ".join(f"{share:.1f}" for share in COVERAGES), "|")
    print("|" + " --- |" * (len(COVERAGES) + 1))
    for name, method in methods_of(context).items():
        rows = sweep(context, method, truth, areas)
        print(f"| {name} |", " | ".join(f"{at_coverage(rows, share)[0]:.3f}" for share in COVERAGES), "|", flush=True)
        classes.append((name, at_coverage(rows, CLASSES_AT)[1]))
    print(f"\n| IoU at coverage {CLASSES_AT} |", " | ".join(names), "|")
    print("|" + " --- |" * (len(names) + 1))
    for name, values in classes:
        print(f"| {name} |", " | ".join(f"{value:.3f}" for value in values), "|")


if __name__ == "__main__":
    main()
