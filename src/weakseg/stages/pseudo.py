"""Stage pseudo@METHOD: ScoreMaps and tags to pseudo-masks of N2, thresholds chosen on N1 pixels new to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.methods import WeakSource
from weakseg.data.store import open_allowed, save_array
from weakseg.data.unseen import describe_unmasked
from weakseg.evaluation.holdout import require_blocks, truth_for
from weakseg.methods.pseudo import Thresholds, pseudo_mask
from weakseg.methods.scores import load_scores
from weakseg.pipeline import holdout_choice
from weakseg.pipeline.context import Context, open_context, tracked, write_report


def run(root: Path, method: WeakSource) -> None:
    """Write out/labels/<method>/<area>.npy and the thresholds in force."""
    context = open_context(root)
    layout, params = context.layout, context.params.pseudo
    scores, names = layout.scores(method), context.scheme.names
    with tracked(context, "pseudo", params, source=method) as log:
        chosen = choose_on_holdout(context, scores, truth_for(layout.tiles, method) if params.all_of_n1 else None)
        covered, pixels = [], np.zeros(256, np.int64)
        for area in context.tag_areas():
            mask = mask_of(context, scores, area, chosen)
            save_array(layout.pseudo(method), area, mask)
            covered.append(float((mask != IGNORE).mean()))
            pixels += np.bincount(mask.ravel(), minlength=256)
        if said := describe_unmasked(context.crops(), context.scheme, pixels):
            print(f"weakseg: pseudo@{method}: {said}", file=sys.stderr, flush=True)
        coverage = float(np.mean(covered)) if covered else float("nan")
        limits = {
            "min_score": dict(zip(names, chosen.min_score, strict=True)),
            "min_margin": dict(zip(names, chosen.min_margin, strict=True)),
        }
        holdout = {key: value for key, value in asdict(chosen).items() if key not in limits}
        report = {**limits, "classes": names, "coverage": coverage, "holdout": holdout}  # class_iou is in their order
        write_report(layout.report("pseudo", method), report)
        log.log_metrics({f"{key}/{name}": value for key, each in limits.items() for name, value in each.items()})
        log.log_metrics({"coverage": coverage, "holdout/miou": chosen.miou})


def choose_on_holdout(context: Context, scores: Path, truths: Mapping[str, Mask] | None = None) -> Thresholds:
    """The thresholds for the ScoreMaps in a folder that serve ``truths`` of N1 best: None, the hold-out blocks."""
    blocks = require_blocks(context.layout.tiles) if truths is None else truths
    return holdout_choice.choose_on_holdout(
        context,
        (
            (load_scores(scores / f"{area}.npz"), holdout_choice.allowed_classes(context, area), truth)
            for area, truth in blocks.items()
        ),
    )


def mask_of(context: Context, scores: Path, area: str, chosen: Thresholds) -> Mask:
    """The pseudo-mask uint8 (H, W) of one area from its ScoreMaps in a folder."""
    allowed = open_allowed(context.layout.tiles, area)
    maps = load_scores(scores / f"{area}.npz")
    return pseudo_mask(maps, allowed, min_score=chosen.min_score, min_margin=chosen.min_margin)
