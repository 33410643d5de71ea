"""What `weakseg tune` trains: the segment stage's own training, on the hold-out inside N1, in a place of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, TASK_I, Source
from weakseg.core.params import Params
from weakseg.core.settings import training_settings
from weakseg.data.store import fingerprint
from weakseg.pipeline.context import Context, open_context
from weakseg.stages.segment import open_sources, train_segmenter
from weakseg.studies import Metrics, Report
from weakseg.studies.apart import link_inputs, segment_inputs
from weakseg.training.machine import machine_from_environment


@dataclass(frozen=True)
class HoldoutObjective:
    """Trains one seed (the first) and returns the hold-out metrics; picklable, so that workers can have it.

    Attributes:
        root: the workspace.
        source: the source of labels, never ``full``.
        identity: digest of the tiles and labels.
    """

    root: Path
    source: Source
    identity: str

    def __call__(self, params: Params, report: Report) -> Metrics:
        """One trial. A killed trial that is run again goes on from its last report."""
        params = shorten(params)
        text = f"{self.identity} {self.source} {json.dumps(training_settings(params, self.source))}"
        place = self.root / ".weakseg" / "trials" / hashlib.sha256(text.encode()).hexdigest()[:16]
        context = Context(link_inputs(Layout(self.root), place, self.source), params, machine_from_environment())
        labelled, weak = open_sources(context, self.source)
        steps = params.segment.optimiser.steps

        def pass_on(row: Mapping[str, float], step: int) -> None:
            if step < steps:  # the last report is the result: nothing is left to prune
                report(step, _holdout(row))

        try:
            seed = params.segment.seeds[0]
            result, _ = train_segmenter(context, self.source, labelled, weak, seed, text, pass_on)
            return _holdout(result.history[-1])
        finally:  # a killed process does not come here, and its resume file stays
            shutil.rmtree(place, ignore_errors=True)


def shorten(params: Params) -> Params:
    """The params of a trial: ``tune.steps`` steps of training, with as many reports as the whole one has."""
    plan = params.segment.optimiser
    every = max(1, round(plan.report_every * params.tune.steps / plan.steps))
    shorter = plan.model_copy(update={"steps": params.tune.steps, "report_every": every})
    return params.model_copy(update={"segment": params.segment.model_copy(update={"optimiser": shorter})})


def tuning_objective(root: Path, source: Source) -> HoldoutObjective:
    """The objective on ``source`` (the section's ``tune.source``) in this workspace.

    Raises:
        StageError: for the source ``full``, whose labels are hidden from every choice.
    """
    if ENTRIES[source].gives == "truth":
        raise StageError(
            f"tune.source {source}",
            expected="labels that may be used",
            cure=f"tune on {TASK_I}: {source} opens hidden truth",
        )
    layout = open_context(root).layout
    return HoldoutObjective(root.resolve(), source, fingerprint(*segment_inputs(layout, source)))


def _holdout(row: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("holdout/"): value for name, value in row.items() if name.startswith("holdout/")}
