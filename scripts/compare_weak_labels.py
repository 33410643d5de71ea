"""What the single-stage network's pseudo-masks are worth beside plain CAM's: seeds, classes, equal coverage.

    python scripts/compare_weak_labels.py --root . --out reports/single_stage.md

The workspace needs the outputs of the tiles stage. Every row is made by the stages themselves, in a workspace of links
below ``<root>/.weakseg/comparison``; finished rows are kept there, so an interrupted comparison goes on where it
stopped.
The hidden truth of N2 is read to report, as the audit stage does, never to choose.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.core.layout import Layout
from weakseg.core.params import Params, load_params, with_changes
from weakseg.data.store import fingerprint, open_allowed, open_array
from weakseg.evaluation.metrics import over_seeds
from weakseg.methods.pseudo import SweepRow, sweep_thresholds
from weakseg.methods.scores import load_scores
from weakseg.pipeline.context import Context, open_context, write_report
from weakseg.stages import audit
from weakseg.studies.apart import link_inputs, link_outputs, run_apart

STAGES_OF = {"cam": ("classifier", "cam"), "single_stage": ("single_stage",)}
COVERAGES = (1.0, 0.75, 0.5)
MARGINS = tuple(float(value) for value in np.linspace(0, 0.99, 100))


@dataclass(frozen=True)
class Row:
    """One line of the table: a method and the params that differ from params.yaml, by path."""

    name: str
    method: str
    changes: Mapping[str, Any]


def rows_of(params: Params, *, ablations: bool) -> list[Row]:
    """CAM as it is and, where that differs, with as many crops as single_stage; single_stage; one change each."""
    crops = params.single_stage.optimiser.steps * params.single_stage.optimiser.batch
    steps = max(1, round(crops / params.classifier.optimiser.batch))
    stage = "single_stage"
    rows = [
        Row("cam", "cam", {}),
        Row("single_stage", stage, {}),
        Row("single_stage, tags alone", stage, {"single_stage.self_training": False}),
    ]
    if steps != params.classifier.optimiser.steps:
        rows.append(Row("cam, as many crops", "cam", {"classifier.optimiser.steps": steps}))
    if ablations:
        rows.append(Row("no PAMR", stage, {"single_stage.pamr_iterations": 0}))
        rows.append(Row("scores not normalised", stage, {"single_stage.normalise": "none"}))
        rows.append(Row("no tag balance", stage, {"single_stage.balance_tags": False}))
        rows.append(Row("dilated stride 16", stage, {"single_stage.output_stride": 16, "single_stage.dilate": True}))
        for part, name in ((3, "a third"), (10, "a tenth")):
            few = max(1, params.single_stage.optimiser.steps // part)
            rows.append(Row(f"{name} of the steps", stage, {"single_stage.optimiser.steps": few}))
    return rows


def compare(root: Path, rows: Sequence[Row], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Make every row with every seed; rows whose params and tiles are those of an earlier call are read, not made.

    Returns:
        ``{name, seed, seconds, chosen: {coverage, accuracy, miou, iou}, equal: {coverage: {accuracy, miou, iou}}}``
        each, ``iou`` by class; ``chosen`` at the one pair of thresholds for all classes that the pseudo stage chooses
        without ``pseudo.per_class``, ``equal`` where the lead of the top class is largest, so that methods are compared
        on as many pixels.
    """
    base = load_params(Layout(root).params)
    file = root / ".weakseg" / "comparison" / "rows.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    found = []
    for row in rows:
        for seed in seeds:
            always = {"classifier.seed": seed, "single_stage.seed": seed, "pseudo.per_class": False}
            params = with_changes(base, {**row.changes, **always})
            digest = _digest(Layout(root), row.method, params)
            if digest not in kept:
                kept[digest] = _make(root, row.method, params, digest)
                write_report(file, kept)
            found.append({**kept[digest], "name": row.name, "seed": seed})
            print(f"{row.name}, seed {seed}: mIoU {kept[digest]['chosen']['miou']:.3f}", flush=True)
    return found


def _digest(layout: Layout, method: str, params: Params) -> str:
    sections = [getattr(params, stage) for stage in STAGES_OF[method]] + [params.pseudo]
    text = fingerprint(layout.tiles) + "".join(section.model_dump_json() for section in sections)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make(root: Path, method: str, params: Params, digest: str) -> dict[str, Any]:
    place = root / ".weakseg" / "comparison" / digest
    remade = [*STAGES_OF[method], f"pseudo@{method}"]
    link_outputs(Layout(root), place, params, remade)
    link_inputs(Layout(root), place, "full")  # the hidden truth, to report
    started = time.monotonic()
    for stage in remade:
        run_apart(place, stage)
    seconds = round(time.monotonic() - started, 1)
    result = _measure(open_context(place), method)
    shutil.rmtree(place)
    return {"seconds": seconds, **result}


def _measure(context: Context, method: str) -> dict[str, Any]:
    areas = [area for area in context.tag_areas() if (open_array(context.layout.hidden, area) != IGNORE).any()]
    chosen = audit.measure(context, areas, (open_array(context.layout.pseudo(method), area) for area in areas))
    table = sweep_thresholds(
        (
            (
                load_scores(context.layout.scores(method) / f"{area}.npz"),
                open_allowed(context.layout.tiles, area),
                np.asarray(open_array(context.layout.hidden, area)),
            )
            for area in areas
        ),
        scores_grid=(0.0,),
        margins_grid=MARGINS,
    )
    names = context.scheme.names
    return {
        "chosen": {key: chosen[key] for key in ("coverage", "accuracy", "miou", "iou")},
        "equal": {f"{share:.2f}": at_coverage(table, share, names) for share in COVERAGES},
    }


def at_coverage(table: Sequence[SweepRow], share: float, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, mIoU and class IoU at a coverage, linear between the two rows around it; the nearest row outside."""
    rows = sorted(table, key=lambda row: row.coverage)
    reached = [row.coverage for row in rows]

    def between(values: Sequence[float]) -> float:
        return float(np.interp(share, reached, values))

    return {
        "coverage": share,
        "accuracy": between([row.accuracy for row in rows]),
        "miou": between([row.miou for row in rows]),
        "iou": {name: between([row.class_iou[i] for row in rows]) for i, name in enumerate(names)},
    }


def table_of(found: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    """Markdown: a table at the thresholds in force and one for each equal coverage, means over seeds, range of mIoU."""
    parts = []
    kinds = [("chosen", "At the one pair of thresholds for all classes that the hold-out inside N1 chooses")]
    kinds += [(f"{share:.2f}", f"At a coverage of {share:.2f}") for share in COVERAGES]
    for kind, title in kinds:
        head = ["what", "seeds", "coverage", "accuracy", "mIoU", "range", *classes]
        lines = [f"{title}:", "", _line(head), _line(["---"] * len(head))]
        for name in dict.fromkeys(row["name"] for row in found):
            mine = [row for row in found if row["name"] == name]
            scores = [row["chosen"] if kind == "chosen" else row["equal"][kind] for row in mine]
            total = over_seeds([score["miou"] for score in scores])
            coverage, accuracy = (over_seeds([score[key] for score in scores]).mean for key in ("coverage", "accuracy"))
            cells = [name, str(len(mine)), f"{coverage:.2f}", f"{accuracy:.3f}"]
            cells += [f"{total.mean:.3f}", f"{total.low:.3f} to {total.high:.3f}"]
            lines.append(_line(cells + [f"{over_seeds([s['iou'][c] for s in scores]).mean:.3f}" for c in classes]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="workspace with out/tiles")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ablations", action="store_true", help="also change one thing of single_stage at a time")
    options = parser.parse_args()
    rows = rows_of(load_params(Layout(options.root).params), ablations=options.ablations)
    found: list[dict[str, Any]] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"`python scripts/compare_weak_labels.py --seeds {options.seeds}{' --ablations' * options.ablations}`"
    text = f"# Pseudo-masks of single_stage beside CAM's, on N2\n\nWritten by {command}.\n\n"
    for row in rows:
        found += compare(options.root, [row], [int(seed) for seed in options.seeds.split(",")])
        options.out.write_text(text + table_of(found, open_context(options.root).scheme.names))


if __name__ == "__main__":
    main()
