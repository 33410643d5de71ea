"""Stage pseudo@METHOD: ScoreMaps and tags to pseudo-masks of N2, thresholds chosen on the hold-out inside N1."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from weakseg.classes import IGNORE
from weakseg.data.store import open_array, save_array
from weakseg.errors import StageError
from weakseg.params import WeakSource
from weakseg.stages.context import Context, open_context, tracked, write_report
from weakseg.weak.pseudo import SweepRow, choose_thresholds, pseudo_mask, sweep_thresholds
from weakseg.weak.scores import load_scores


def run(root: Path, method: WeakSource) -> None:
    """Write out/pseudo/<method>/<area>.npy and the thresholds in force."""
    context = open_context(root)
    layout, params = context.layout, context.params.pseudo
    with tracked(context, "pseudo", params, source=method) as log:
        chosen = choose_on_holdout(context, method)
        covered = []
        for area in context.tag_areas():
            maps = load_scores(layout.scores(method) / f"{area}.npz")
            allowed = np.asarray(open_array(layout.tiles / "allowed", area))
            mask = pseudo_mask(maps, allowed, min_score=chosen.min_score, min_margin=chosen.min_margin)
            save_array(layout.pseudo(method), area, mask)
            covered.append(float((mask != IGNORE).mean()))
        coverage = float(np.mean(covered)) if covered else float("nan")
        report = {"min_score": chosen.min_score, "min_margin": chosen.min_margin, "coverage": coverage}
        write_report(layout.report("pseudo", method), report | {"holdout": asdict(chosen)})
        log.log_metrics(report | {"holdout/miou": chosen.miou})


def choose_on_holdout(context: Context, method: str) -> SweepRow:
    """The thresholds that serve the hold-out blocks of N1 best."""
    layout, params = context.layout, context.params.pseudo
    held = [(area, np.asarray(open_array(layout.tiles / "holdout", area))) for area in context.pixel_areas()]
    with_truth = [(area, truth) for area, truth in held if (truth != IGNORE).any()]
    if not with_truth:
        raise StageError("no hold-out in N1", expected="tiles.holdout above 0", cure="raise it and rerun tiles")
    table = sweep_thresholds(
        (
            (
                load_scores(layout.scores(method) / f"{area}.npz"),
                np.asarray(open_array(layout.tiles / "allowed", area)),
                truth,
            )
            for area, truth in with_truth
        ),
        scores_grid=params.scores,
        margins_grid=params.margins,
    )
    return choose_thresholds(table, min_coverage=params.min_coverage)
