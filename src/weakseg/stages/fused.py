"""Stage fused: product of experts of the teacher and tag-trained ScoreMaps, weights chosen on the hold-out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from weakseg.data.store import open_array
from weakseg.evaluation.holdout import score_holdout
from weakseg.methods.fusion import fuse, silence_ignored
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context, tracked, write_report


def run(root: Path) -> None:
    """Write out/scores/fused/<area>.npz and reports/fused.json."""
    context = open_context(root)
    params, machine = context.params.fused, context.machine
    with tracked(context, "fused", params) as log:
        tried = machine.shard(candidates(context))
        table = dict(machine.gather([(weights, holdout_miou(context, weights)) for weights in tried]))
        best = max(table, key=lambda weights: (table[weights], -sum(weights)))
        for area in machine.shard(context.pixel_areas() + context.tag_areas()):
            save_scores(context.layout.scores("fused") / f"{area}.npz", fuse_area(context, area, best))
        machine.wait()
        if not machine.is_main:
            return
        named = dict(zip(params.experts, best, strict=True))
        rows = [{"weights": list(weights), "holdout_miou": value} for weights, value in table.items()]
        write_report(
            context.layout.report("fused"), {"weights": named, "candidates": rows, "holdout_miou": table[best]}
        )
        log.log_metrics({f"weight/{name}": weight for name, weight in named.items()} | {"holdout/miou": table[best]})


def candidates(context: Context) -> list[tuple[float, ...]]:
    """All combinations of the weights, one per expert."""
    params = context.params.fused
    return list(itertools.product(params.weights, repeat=len(params.experts)))


def fuse_area(context: Context, area: str, weights: tuple[float, ...]) -> ScoreMaps:
    layout = context.layout
    experts = [load_scores(layout.scores(name) / f"{area}.npz") for name in context.params.fused.experts]
    allowed = np.asarray(open_array(layout.tiles / "allowed", area))
    fused = fuse(load_scores(layout.scores("teacher") / f"{area}.npz"), experts, weights, allowed)
    return silence_ignored(fused, allowed)


def holdout_miou(context: Context, weights: tuple[float, ...]) -> float:
    """mIoU of the fused winners on the hold-out blocks of N1."""
    return score_holdout(
        context.layout.tiles,
        context.scheme.names,
        lambda area, part: fuse_area(context, area, weights).scores.argmax(0)[:, part],
    )["miou"]
