"""Stage choice@SOURCE: how joint and untagged make masks of their own scores, chosen on the hold-out of N1."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from weakseg.core.methods import ENTRIES, Source
from weakseg.data.store import fingerprint
from weakseg.pipeline.context import open_context, tracked, write_report
from weakseg.pipeline.network_scores import choose
from weakseg.stages.segment import choosing_network
from weakseg.training.segmenter import load_segmenter


def run(root: Path, source: Source) -> None:
    """Write out/labels/<source>/choices.json: weights of the experts and thresholds per seed, a digest of the experts.

    They are those that serve the task (i) network of that seed best which never saw the hold-out.
    """
    context = open_context(root)
    layout = context.layout
    found = {}
    with tracked(context, "choice", context.params.pseudo, source=source) as log:
        for seed in context.params.segment.seeds:
            model, _ = load_segmenter(choosing_network(context, seed), classes=context.scheme, tiles=context.bands)
            found[f"seed{seed}"] = asdict(choose(context, model, tagged=ENTRIES[source].gives == "all"))
        if context.machine.is_main:
            # the training reads the experts' scores too: where they change it has to run again
            write_report(layout.choices(source), found | {"experts": fingerprint(layout.experts(source))})
            log.log_metrics({f"holdout/miou/{name}": choice["holdout_miou"] for name, choice in found.items()})
