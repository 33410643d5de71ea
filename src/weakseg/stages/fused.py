"""Stage fused: product of experts of the teacher and tag-trained ScoreMaps, weights chosen on the hold-out."""

from __future__ import annotations

from pathlib import Path

from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import open_context, tracked, write_report
from weakseg.pipeline.holdout_choice import best_weights, candidate_weights, holdout_mious, with_experts


def run(root: Path) -> None:
    """Write out/scores/fused/<area>.npz and reports/fused.json."""
    context = open_context(root)
    params, machine = context.params.fused, context.machine

    def teacher(area: str) -> ScoreMaps:
        return load_scores(context.layout.scores("teacher") / f"{area}.npz")

    with tracked(context, "fused", params) as log:
        tried = machine.shard(candidate_weights(context))
        table = dict(machine.gather(list(holdout_mious(context, teacher, tried).items())))
        best = best_weights(table)
        for area in machine.shard(context.pixel_areas() + context.tag_areas()):
            save_scores(
                context.layout.scores("fused") / f"{area}.npz", with_experts(context, teacher(area), area, best)
            )
        machine.wait()
        if not machine.is_main:
            return
        named = dict(zip(params.experts, best, strict=True))
        rows = [{"weights": list(weights), "holdout_miou": value} for weights, value in table.items()]
        write_report(
            context.layout.report("fused"), {"weights": named, "candidates": rows, "holdout_miou": table[best]}
        )
        log.log_metrics({f"weight/{name}": weight for name, weight in named.items()} | {"holdout/miou": table[best]})
