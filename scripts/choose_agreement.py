"""How often what N1 chooses is what the hidden truth would have chosen. Two tables, for benchmark sets only.

    python scripts/choose_agreement.py runs results/* --always fused consistency
    python scripts/choose_agreement.py recipe WORKSPACE --blocks 4 --steps 100

``runs``: which source. A run is a folder with choose.json (`weakseg choose`) and report.json (the validation areas,
written by the stage report), such as reports/ of a workspace or results/NAME. Folders without the first are left out
and named.

``recipe``: weights of the experts, thresholds and refiners, of a workspace in which `weakseg choose --blocks` has run
with the same blocks and steps. What each block alone would choose, and what all together do, is applied to N2 and
compared with what N2's own truth would choose, which has no say in the choices themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.core.methods import TASK_I
from weakseg.data.store import open_array
from weakseg.evaluation.holdout import BLOCKS
from weakseg.evaluation.metrics import class_iou, confusion_matrix, mean_iou
from weakseg.methods.irnet.forms import Walk, candidates, in_force
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.refinement import Changes, choose_refiners, count_changes, join_changes, measure_refiners
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context
from weakseg.pipeline.holdout_choice import allowed_classes, candidate_weights, count_winners, with_experts
from weakseg.pipeline.network_scores import Choice, choose_by, network_scores
from weakseg.stages import crf, irnet
from weakseg.studies.recipe import choose_fusion
from weakseg.studies.rotation import Rotation, make_rotation, maps_of_n1, trained

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """One run.

    Attributes:
        name: of its folder. sources: how many stand in both files.
        chosen, best: by the hold-out, and by validation. level: sources that the hold-out cannot tell from the chosen.
        regret: mIoU on validation that the choice costs against the best; always: the same of taking one source anyhow,
            by name, where it was trained.
        tau: Kendall's rank correlation of both orders, -1 to 1.
    """

    name: str
    sources: int
    chosen: str
    best: str
    level: tuple[str, ...]
    regret: float
    always: Mapping[str, float]
    tau: float

    @property
    def told(self) -> bool:
        """Whether the best is the chosen one or among those that the hold-out cannot tell from it."""
        return self.best in (self.chosen, *self.level)


def compare(name: str, choice: Mapping[str, Any], report: Mapping[str, Any], always: Sequence[str]) -> Agreement:
    """The agreement of the contents of choose.json and report.json."""
    rows = choice.get("sources", {})
    held = {source: row["holdout_miou"]["value"] for source, row in rows.items() if source in report}
    valid = {source: report[source]["miou"] for source in held}
    if len(held) < 2 or choice["chosen"] not in held:
        raise DataError(
            f"{name}: {len(held)} sources in both files",
            expected="two, the chosen one too",
            cure="take files of one run",
        )
    best = max(valid, key=valid.__getitem__)
    return Agreement(
        name=name,
        sources=len(held),
        chosen=choice["chosen"],
        best=best,
        level=tuple(choice["level_with"]),
        regret=valid[best] - valid[choice["chosen"]],
        always={source: valid[best] - valid[source] for source in always if source in valid},
        tau=float(kendalltau([held[s] for s in held], [valid[s] for s in held]).statistic),
    )


def runs_table(rows: Sequence[Agreement], always: Sequence[str]) -> str:
    """The rows in Markdown, with what taking one source anyhow would have cost."""
    head = ["run", "sources", "chosen", "best on validation", "costs", "best is level with it", "rank correlation"]
    lines = [[*head, *(f"always {source} costs" for source in always)]]
    for row in rows:
        cells = [row.name, str(row.sources), f"`{row.chosen}`", f"`{row.best}`", f"{row.regret:.3f}"]
        cells += ["yes" if row.told else "no", f"{row.tau:+.2f}"]
        lines.append([*cells, *(f"{row.always[s]:.3f}" if s in row.always else "-" for s in always)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head."""
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def weights_row(on_n2: Mapping[Weights, float], by_block: Sequence[Weights], together: Weights) -> list[str]:
    """What all blocks together take, the best on N2, how many blocks alone take that, and what both cost there."""
    best = max(on_n2, key=on_n2.__getitem__)
    alone = float(np.mean([on_n2[best] - on_n2[one] for one in by_block]))
    agree = sum(one == best for one in by_block)
    words = (", ".join(f"{weight:g}" for weight in one) for one in (together, best))
    return [
        "weights of the experts",
        *words,
        f"{agree} of {len(by_block)}",
        *_costs(alone, on_n2[best] - on_n2[together]),
    ]


def _costs(*values: float) -> list[str]:
    return [f"{value:.3f}" for value in values]


def threshold_row(on_n2: Mapping[str, tuple[float, float]], blocks: int) -> list[str]:
    """The same of thresholds, from (mIoU, coverage) of masks on N2 by who chose: ``0``, ``1``, ..., ``all``, ``N2``."""
    (best, covered), (miou, coverage) = on_n2["N2"], on_n2["all"]
    alone = float(np.mean([best - on_n2[str(number)][0] for number in range(blocks)]))
    words = f"{miou:.3f} at {coverage:.2f}", f"{best:.3f} at {covered:.2f}"
    return ["thresholds (mIoU of masks at their coverage)", *words, "-", *_costs(alone, best - miou)]


def recipe_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of :func:`weights_row` and :func:`threshold_row` in Markdown."""
    head = ["choice", "all blocks", "best on N2", "blocks alone that agree", "a block alone costs", "all together cost"]
    return markdown([head, *rows])


def refiner_table(stage: str, n1: Changes, n2: Changes, tried: Sequence[str], names: Sequence[str]) -> str:
    """Changes of the winners' IoU on N1, and on N2: under each refiner for all classes, and as chosen on N1."""
    kinds = [(f"{name} for all", (number,) * len(names)) for number, name in enumerate(tried, 1)]
    kinds.append(("each class its own", choose_refiners(n1).refiners))
    lines = [[stage, *names, "mean"]]
    for what, refiners in kinds:
        here, there = measure_refiners(n1, refiners), measure_refiners(n2, refiners)
        cells = [
            ("" if len(set(refiners)) == 1 and "for all" in what else f"{('none', *tried)[one]}: ")
            + f"{here.after[index] - here.before[index]:+.3f}, {there.after[index] - there.before[index]:+.3f}"
            for index, one in enumerate(refiners)
        ]
        means = (float(np.nanmean(one.after) - np.nanmean(one.before)) for one in (here, there))
        lines.append([what, *cells, ", ".join(f"{value:+.3f}" for value in means)])
    return markdown(lines)


def agree_on_recipe(root: Path, blocks: int, steps: int) -> Iterator[str]:
    """The tables of a workspace, one after the other."""
    base = open_context(root)
    rotation = make_rotation(base, blocks, steps)
    yield recipe_table(list(fusion_rows(rotation)))
    names = base.scheme.names
    yield refiner_table("crf", *(count_crf(base, truths) for truths in truths_of(rotation)), crf.BOTH, names)
    if (base.layout.scores("irnet") / "boundaries").is_dir():
        walk = _walk_in_force(base)
        yield refiner_table("irnet", *(count_walk(base, walk, one) for one in truths_of(rotation)), ("walk",), names)


def truths_of(rotation: Rotation) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """The truth of N1 and, hidden from all choices, of N2."""
    base = rotation.base
    hidden = {area: np.asarray(open_array(base.layout.hidden, area)) for area in base.tag_areas()}
    return rotation.truths(), {area: truth for area, truth in hidden.items() if (truth != IGNORE).any()}


def fusion_rows(rotation: Rotation) -> Iterator[list[str]]:
    """Weights and thresholds of the network that never saw the last block, on N2."""
    base, (_, hidden) = rotation.base, truths_of(rotation)
    recipe = choose_fusion(rotation)
    if recipe is None:
        raise DataError("no scores of the experts", expected="out/scores of fused.experts", cure="run `dvc repro`")
    own = maps_of_n2(rotation, list(hidden))
    tables = count_winners(base, own, hidden, candidate_weights(base))
    on_n2 = {one: float(mean_iou(table)) for one, table in tables.items()}
    yield weights_row(on_n2, recipe.by_block, recipe.choice.weights)
    weights = recipe.choice.weights
    alone = {
        str(number): _chosen(base, maps_of_n1(rotation, tagged=True), one, weights) for number, one in _blocks(rotation)
    }
    chosen = alone | {
        "all": _chosen(base, maps_of_n1(rotation, tagged=True), rotation.truths(), weights),
        "N2": _chosen(base, own, hidden, weights),
    }
    yield threshold_row({who: _masks(base, own, hidden, weights, one) for who, one in chosen.items()}, len(alone))


def maps_of_n2(rotation: Rotation, areas: Sequence[str]) -> dict[str, ScoreMaps]:
    """Maps of these N2 areas by the network that never saw the last block; kept beside the folds."""
    last = rotation.folds[-1]
    folder, model = last.place.parent / "n2", trained(last, TASK_I)
    for area in areas:
        file = folder / f"{area}.npz"
        if not file.is_file():
            save_scores(file, network_scores(last.context, model, area)[0])
    return {area: load_scores(folder / f"{area}.npz") for area in areas}


def _blocks(rotation: Rotation) -> list[tuple[int, dict[str, Mask]]]:
    """The truth of each fold's block alone."""
    found = []
    for fold in rotation.folds:
        tiles = fold.context.layout.tiles
        held = {area: np.asarray(open_array(tiles / "holdout", area)) for area in rotation.base.pixel_areas()}
        if any((truth != IGNORE).any() for truth in held.values()):
            found.append((len(found), held))
    return found


def _chosen(base: Context, own: Mapping[str, ScoreMaps], truths: Mapping[str, Mask], weights: Weights) -> Choice:
    return choose_by(base, own, truths, tagged=True, candidates=[weights])


def _masks(
    base: Context, own: Mapping[str, ScoreMaps], truths: Mapping[str, Mask], weights: Weights, choice: Choice
) -> tuple[float, float]:
    """mIoU and coverage of the masks of these areas; a class without a labelled pixel counts as 0."""
    classes, inside, total = len(base.scheme), 0, 0
    confusion, held = np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64)
    for area, truth in truths.items():
        maps, allowed = with_experts(base, own[area], area, weights), allowed_classes(base, area)
        mask = pseudo_mask(maps, allowed, min_score=choice.min_score, min_margin=choice.min_margin)
        here = (truth != IGNORE) & (mask != IGNORE)
        confusion += confusion_matrix(np.where(here, truth, IGNORE).astype(np.uint8), np.where(here, mask, 0), classes)
        held += np.bincount(truth[truth != IGNORE], minlength=classes)
        inside, total = inside + int(here.sum()), total + int((truth != IGNORE).sum())
    iou = class_iou(confusion)
    return float(np.nanmean(np.where(np.isnan(iou) & (held > 0), 0, iou))), inside / total


def count_crf(base: Context, truths: Mapping[str, Mask]) -> Changes:
    """Changes by the CRF and PAMR, a block per quarter of an area."""
    maps = crf.all_maps(base, list(truths), crf.BOTH)
    return join_changes(
        [count_changes(truths[area], one, allowed_classes(base, area), blocks=BLOCKS) for area, one in maps]
    )


def _walk_in_force(base: Context) -> Walk:
    report = json.loads(base.layout.report("irnet").read_text())
    walks = candidates(in_force(base.params.irnet))
    return next(one for one in walks if (one.steps, one.anchor) == (report["steps"], report["anchor"]))


def count_walk(base: Context, walk: Walk, truths: Mapping[str, Mask]) -> Changes:
    """The same by the walk in force."""
    return join_changes([irnet.count_walk(base, walk, area, truth) for area, truth in truths.items()])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    runs = kinds.add_parser("runs", help="which source")
    runs.add_argument("folders", nargs="+", type=Path)
    runs.add_argument("--always", nargs="*", default=[])
    recipe = kinds.add_parser("recipe", help="weights, thresholds, refiners")
    recipe.add_argument("workspace", type=Path)
    recipe.add_argument("--blocks", type=int, required=True)
    recipe.add_argument("--steps", type=int, required=True)
    asked = parser.parse_args()
    if asked.kind == "recipe":
        for text in agree_on_recipe(asked.workspace, asked.blocks, asked.steps):
            print(text, end="\n\n", flush=True)
        return
    rows = []
    for folder in asked.folders:
        files = [folder / name for name in ("choose.json", "report.json")]
        if not all(file.is_file() for file in files):
            print(f"{folder}: no choose.json and report.json, left out")
            continue
        choice, report = (json.loads(file.read_text()) for file in files)
        rows.append(compare(folder.name, choice, report, asked.always))
    print(runs_table(rows, asked.always))


if __name__ == "__main__":
    main()
