"""Stage teacher: the task (i) network on N1 and N2, held to the tags; further rounds with a fresh student each."""

from __future__ import annotations

import shutil
from pathlib import Path

from weakseg.core.errors import StageError
from weakseg.core.files import remove_folder
from weakseg.core.layout import Layout
from weakseg.data.areas import Area
from weakseg.data.store import fingerprint, open_stored
from weakseg.methods.scores import save_scores
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, open_context, tracked
from weakseg.pipeline.network_scores import network_scores
from weakseg.stages.pseudo import choose_on_holdout, mask_of
from weakseg.stages.segment import choosing_network, save_segmenter, train_segmenter
from weakseg.training.segmenter import load_segmenter
from weakseg.training.shards import Shard


def run(root: Path) -> None:
    """Write out/scores/teacher/<area>.npz; the scores of earlier rounds lie under rounds/<number>/."""
    context = open_context(root)
    layout, params, machine = context.layout, context.params.teacher, context.machine
    if params.rounds > 1 and isinstance(machine, Shard):
        raise StageError("teacher with --shard and rounds", expected="one round", cure="run it whole or by torchrun")
    areas = context.pixel_areas() + context.tag_areas()
    rounds = layout.networks("teacher")
    rounds.mkdir(parents=True, exist_ok=True)
    if machine.is_main:
        remove_folder(layout.teacher_rounds)  # of a run with more rounds
    with tracked(context, "teacher", params) as log:
        seed = context.params.segment.seeds[0]
        model, _ = load_segmenter(choosing_network(context, seed), classes=context.scheme, tiles=context.bands)
        for number in range(1, params.rounds + 1):
            claims = sum(machine.gather([predict_area(context, model, area) for area in machine.shard(areas)]))
            log.log_metrics({"claims": float(claims)}, step=number)
            if number < params.rounds:
                if machine.is_main:
                    _keep_round(layout, number)
                model = train_student(context, number)
                machine.agree(model)
                if machine.is_main:
                    save_segmenter(rounds / f"round{number}.pt", model, context)


def predict_area(context: Context, model: Segmenter, area: str) -> int:
    """Write the constrained probabilities of one area; returns how many missing classes claimed pixels."""
    maps, claims = network_scores(context, model, area)
    save_scores(context.layout.scores("teacher") / f"{area}.npz", maps)
    return claims


def _keep_round(layout: Layout, number: int) -> None:
    target = layout.teacher_rounds / str(number)
    target.mkdir(parents=True, exist_ok=True)
    for file in layout.scores("teacher").glob("*.npz"):
        shutil.copy(file, target / file.name)


def train_student(context: Context, number: int) -> Segmenter:
    """A fresh network on N1 truth and the pseudo-masks of the scores at hand."""
    layout, params = context.layout, context.params.segment
    scores = layout.scores("teacher")
    chosen = choose_on_holdout(context, scores)
    labelled = context.open_areas(context.pixel_areas(), masks=layout.tiles / "labels")
    weak = [
        Area(open_stored(layout.tiles / "images", area), mask_of(context, scores, area, chosen))
        for area in context.tag_areas()
    ]
    identity = f"{fingerprint(layout.tiles, scores)} round {number}"
    seed = params.seeds[0] + 1000 * number
    _, model = train_segmenter(context, "teacher", labelled, weak, seed, identity, lambda row, step: None)
    return model
