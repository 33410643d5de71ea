"""Which trained source to take where no truth of N2 and no validation area tells: the hold-out inside N1, intervals.

The hold-out blocks lie in the areas that all networks learnt from. They say how well a network knows these places, not
how well it knows those of N2. How far both agree is little known: docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.errors import StageError
from weakseg.core.methods import ORACLE, TASK_I
from weakseg.data.store import open_array
from weakseg.evaluation.bootstrap import Comparison, Interval, bootstrap, paired_bootstrap
from weakseg.evaluation.holdout import held_parts
from weakseg.evaluation.metrics import Confusion, confusion_matrix
from weakseg.inference.scene import PLAIN
from weakseg.pipeline.context import Context, open_context, write_report
from weakseg.pipeline.network_scores import predict
from weakseg.stages.segment import CHOOSING
from weakseg.training.segmenter import load_segmenter

PIECES: Final = 4  # that a hold-out block is cut into, one above the other: what the bootstrap redraws


@dataclass(frozen=True)
class Candidate:
    """A source that was trained, on the hold-out blocks, seeds pooled.

    Attributes:
        source: its name. scores: mIoU and IoU by class. ahead: mIoU of the chosen source minus its own, paired.
    """

    source: str
    scores: Comparison
    ahead: Interval

    @property
    def level(self) -> bool:
        """Whether the chosen source may be no better: zero lies in the interval, or there is none."""
        return not self.ahead.low > 0


def choose_source(root: Path) -> list[Candidate]:
    """All trained sources of ``params.yaml`` but the oracle, best first; the first is the one to take.

    Writes reports/choose.json. Reads out/tiles and the checkpoints of these sources and nothing else: no hidden truth,
    no validation area, no network that has seen either or these blocks.

    Raises:
        StageError: fewer than two sources are trained, one has only networks that saw the hold-out, or there is none.
    """
    context = open_context(root)
    measured = {source: measure(context, source) for source in trained_sources(context)}
    report = context.params.report
    ranked = rank(measured, context.scheme.names, draws=report.draws, seed=report.seed)
    write_report(root / "reports" / "choose.json", describe(ranked, len(next(iter(measured.values())))))
    return ranked


def trained_sources(context: Context) -> list[str]:
    """The sources of params.yaml, the oracle apart, that have a network for every seed.

    Raises:
        StageError: fewer than two, or one of them has no network that never saw the hold-out.
    """
    layout, seeds = context.layout, context.params.segment.seeds
    names = [source for source in context.params.sources if source != ORACLE]
    found = [n for n in names if all((layout.checkpoints(n) / f"seed{seed}.pt").is_file() for seed in seeds)]
    if len(found) < 2:
        raise StageError(
            f"{', '.join(found) or 'no source'} trained with seeds {', '.join(map(str, seeds))}",
            expected="two sources at least, to choose from",
            cure="run `dvc repro`, or name more sources in params.yaml",
        )
    for source in found:
        for path in unseeing_networks(context, source):
            if not path.is_file():
                name = path.relative_to(layout.checkpoints(source).parent)
                raise StageError(
                    f"no {name}, and {source} has trained on the hold-out",
                    expected="a network that never saw it",
                    cure=f"rerun `weakseg stage segment {source}` with segment.refit, or take {source} out of sources",
                )
    return found


def unseeing_networks(context: Context, source: str) -> list[Path]:
    """The files of a source's networks that never saw the hold-out; with ``segment.refit`` only the first seed's."""
    params, folder = context.params.segment, context.layout.checkpoints(source)
    if params.refit:
        return [folder / CHOOSING / f"seed{params.seeds[0]}.pt"]
    return [folder / f"seed{seed}.pt" for seed in params.seeds]


def measure(context: Context, source: str) -> dict[str, Confusion]:
    """Confusion matrices of a source's networks on the pieces of the hold-out blocks, added up.

    With ``segment.refit`` that is one network, of the first seed: the reported ones have trained on these blocks.
    """
    tiles, classes = context.layout.tiles, len(context.scheme)
    pieces: dict[str, Confusion] = {}
    for path in unseeing_networks(context, source):
        model, _ = load_segmenter(path, classes=context.scheme, tiles=context.bands)
        model.to(context.machine.torch_device())
        for area, part, truth in held_parts(tiles):
            image = np.asarray(open_array(tiles / "images", area)[:, part])
            winner = predict(context, model, image, PLAIN).argmax(0).astype(np.uint8)
            for number, rows in enumerate(np.array_split(np.arange(len(truth)), PIECES)):
                found = confusion_matrix(np.ascontiguousarray(truth[rows]), winner[rows], classes)
                name = f"{area} {number}"
                pieces[name] = pieces.get(name, np.zeros_like(found)) + found
    return pieces


def rank(
    measured: Mapping[str, Mapping[str, Confusion]], names: Sequence[str], *, draws: int, seed: int
) -> list[Candidate]:
    """The candidates, best first, from matrices int64 (C, C) by source and piece; intervals redraw the pieces.

    Of equals the earlier stands first. Pieces of one block are not independent: the intervals are too narrow rather
    than too wide.
    """
    scores = {source: bootstrap(pieces, names, draws=draws, seed=seed) for source, pieces in measured.items()}
    order = sorted(scores, key=lambda source: -scores[source].miou.value)
    best = measured[order[0]]
    return [
        Candidate(source, scores[source], paired_bootstrap(measured[source], best, names, draws=draws, seed=seed).miou)
        for source in order
    ]


def describe(ranked: Sequence[Candidate], pieces: int) -> dict[str, Any]:
    """reports/choose.json."""
    return {
        "chosen": ranked[0].source,
        "level_with": [one.source for one in ranked[1:] if one.level],
        "pieces": pieces,
        "sources": {
            one.source: {
                "holdout_miou": asdict(one.scores.miou),
                "holdout_iou": {name: interval.value for name, interval in one.scores.iou.items()},
                "ahead": asdict(one.ahead),
            }
            for one in ranked
        },
    }


def sentence(ranked: Sequence[Candidate]) -> str:
    """The choice in words."""
    first, *others = ranked
    level = [one.source for one in others if one.level]
    base = next((one.ahead for one in others if one.source == TASK_I), None)
    gain = f", {base.value:+.3f} [{base.low:+.3f}, {base.high:+.3f}] over task (i)" if base else ""
    told = f"the hold-out cannot tell it from {', '.join(level)}" if level else "above all others by more than noise"
    return f"take {first.source}: mIoU {first.scores.miou.value:.3f} on the hold-out{gain}; {told}"
