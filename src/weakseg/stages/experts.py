"""Stage experts: a digest of the scores of other methods that joint multiplies its own with."""

from __future__ import annotations

from pathlib import Path

from weakseg.data.store import fingerprint
from weakseg.pipeline.context import open_context, write_report


def run(root: Path) -> None:
    """Write out/experts/joint/digests.json: expert -> digest of its ScoreMaps."""
    context = open_context(root)
    layout = context.layout
    digests = {name: fingerprint(layout.scores(name)) for name in context.params.fused.experts}
    write_report(layout.experts("joint") / "digests.json", digests)
