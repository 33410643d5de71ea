"""`weakseg choose --blocks K`: the recipe that a rotated hold-out of N1 speaks for, with intervals over its blocks.

No hidden truth and no validation area is read. Every number is of blocks that the networks behind it never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.core.config import set_values
from weakseg.core.errors import ParamsError
from weakseg.core.files import atomic_path
from weakseg.core.methods import Source
from weakseg.core.params import load_params
from weakseg.evaluation.bootstrap import Interval, paired_bootstrap
from weakseg.evaluation.metrics import Confusion, mean_iou
from weakseg.methods.irnet.forms import candidates, in_force
from weakseg.methods.refinement import NONE
from weakseg.methods.refinement import Choice as Refinement
from weakseg.pipeline.context import Context, open_context, write_report
from weakseg.pipeline.holdout_choice import best_weights, candidate_weights
from weakseg.pipeline.network_scores import Choice
from weakseg.stages import crf, irnet
from weakseg.studies.choose import Candidate, describe, rank, sentence
from weakseg.studies.rotation import (
    Rotation,
    check_rotated,
    choice_for,
    count_blocks,
    make_rotation,
    maps_of_n1,
    measure_source,
)


@dataclass(frozen=True)
class Fusion:
    """Weights of the experts and thresholds for masks of a network's scores.

    Attributes:
        choice: by all blocks together.
        gain: mIoU of the fused winners minus the network's alone.
        by_block: the weights that each fold's block alone would take.
    """

    choice: Choice
    gain: Interval
    by_block: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Recipe:
    """What N1 speaks for.

    Attributes:
        fusion: None where the experts of the section fused have no scores. refiners: by stage (crf, irnet), where their
            inputs are there. ranked: the sources that were asked for, best first; () without.
    """

    blocks: int
    steps: int
    fusion: Fusion | None
    refiners: dict[str, dict[str, Any]]
    ranked: tuple[Candidate, ...]


def choose_recipe(root: Path, *, blocks: int, steps: int | None, sources: Sequence[Source] = ()) -> Recipe:
    """Train task (i) in every fold, and each of ``sources``; choose; write reports/choose.json.

    Args:
        blocks: k, of every N1 area. steps: of each training; None: ``segment.optimiser.steps``.
        sources: to choose among; () asks for weights, thresholds and refiners alone.

    Raises:
        ParamsError: one source alone, or one that cannot be trained in a fold; too many blocks.
    """
    context = open_context(root)
    check_rotated(list(sources))
    if len(set(sources)) == 1:
        raise ParamsError(f"sources {sources[0]} alone", expected="two at least", cure="name another, or none")
    rotation = make_rotation(context, blocks, steps or context.params.segment.optimiser.steps)
    measured = {source: measure_source(rotation, source) for source in dict.fromkeys(sources)}
    draws, seed = context.params.report.draws, context.params.report.seed
    ranked = rank(measured, context.scheme.names, draws=draws, seed=seed) if measured else []
    recipe = Recipe(blocks, rotation.steps, choose_fusion(rotation), choose_all_refiners(context), tuple(ranked))
    write_report(root / "reports" / "choose.json", describe_recipe(recipe, context))
    return recipe


def choose_fusion(rotation: Rotation) -> Fusion | None:
    """Weights and thresholds by the out-of-fold maps of N1; None where an expert has no scores."""
    base = rotation.base
    if not all(base.layout.scores(name).is_dir() for name in base.params.fused.experts):
        return None
    own = maps_of_n1(rotation, tagged=True)
    tables = {one: count_blocks(rotation, own, one) for one in candidate_weights(base)}
    by_block = [
        best_weights({one: _miou(blocks[number]) for one, blocks in tables.items()})
        for number in range(len(rotation.folds))
        if tables[candidate_weights(base)[0]][number]
    ]
    choice = choice_for(rotation, "fused")
    alone, fused = (_pieces(count_blocks(rotation, own, weights)) for weights in ((), choice.weights))
    report = base.params.report
    gain = paired_bootstrap(alone, fused, base.scheme.names, draws=report.draws, seed=report.seed).miou
    return Fusion(choice, gain, tuple(by_block))


def _miou(tables: dict[str, Confusion]) -> float:
    return float(mean_iou(np.sum([*tables.values()], axis=0)))


def _pieces(blocks: list[dict[str, Confusion]]) -> dict[str, Confusion]:
    return {f"{area} {number}": table for number, tables in enumerate(blocks) for area, table in tables.items()}


def choose_all_refiners(context: Context) -> dict[str, dict[str, Any]]:
    """What each class would take on N1, where the stages before have run; no training is needed: they never saw it."""
    found, names, layout = {}, context.scheme.names, context.layout
    if layout.scores("cam").is_dir():
        found["crf"] = _described(crf.choose(context, crf.BOTH), names, crf.BOTH)
    if layout.scores("crf").is_dir() and (layout.scores("irnet") / "boundaries").is_dir():
        params = context.params.replaced(irnet=context.params.irnet.replaced(classes="best"))
        asked = Context(layout, params, context.machine)
        walk, choice = max(irnet.try_walks(asked, candidates(in_force(params.irnet))), key=lambda row: row[1].miou)
        found["irnet"] = {**_described(choice, names, ("walk",)), "steps": walk.steps, "anchor": walk.anchor}
    return found


def _described(choice: Refinement, names: Sequence[str], refiners: Sequence[str]) -> dict[str, Any]:
    low = dict(zip(names, choice.low.tolist(), strict=True))
    return {**choice.describe(names, refiners), "gain_at_least": low}


def describe_recipe(recipe: Recipe, context: Context) -> dict[str, Any]:
    """reports/choose.json; with sources it holds what :func:`weakseg.studies.choose.describe` says of them too."""
    names, experts = context.scheme.names, context.params.fused.experts
    report: dict[str, Any] = describe(recipe.ranked, recipe.blocks) if recipe.ranked else {}
    report |= {"blocks": recipe.blocks, "steps": recipe.steps, "refiners": recipe.refiners}
    if recipe.fusion:
        choice = recipe.fusion.choice
        report["fusion"] = {
            "weights": dict(zip(experts, choice.weights, strict=True)),
            "gain": asdict(recipe.fusion.gain),
            "by_block": [list(weights) for weights in recipe.fusion.by_block],
            "min_score": dict(zip(names, choice.min_score, strict=True)),
            "min_margin": dict(zip(names, choice.min_margin, strict=True)),
            "masks_miou": choice.holdout_miou,
        }
    return report


def recipe_values(recipe: Recipe, experts: Sequence[str]) -> dict[str, Any]:
    """What the recipe wants in params.yaml, by path; thresholds are none of its values, the stages choose them."""
    values: dict[str, Any] = {}
    if recipe.fusion:
        kept = {name: one for name, one in zip(experts, recipe.fusion.choice.weights, strict=True) if one > 0}
        values |= {"fused.experts": list(kept), "fused.weights": sorted(set(kept.values())) or [0.0]}
    for stage, path in (("crf", "crf.refiner"), ("irnet", "irnet.classes")):
        found = recipe.refiners.get(stage)
        if found and set(found["refined_by"].values()) != {NONE}:
            values[path] = "best"
    return values


def apply_recipe(recipe: Recipe, path: Path) -> dict[str, tuple[Any, Any]]:
    """Write :func:`recipe_values` into params.yaml; (old, new) by path of those that changed.

    Raises:
        ParamsError: the file cannot be changed in place; it is then as before.
    """
    before = load_params(path)
    wanted = recipe_values(recipe, before.fused.experts)
    raw = before.model_dump(mode="json")
    old = {name: raw[name.split(".")[0]][name.split(".")[1]] for name in wanted}
    changed = {name: (old[name], value) for name, value in wanted.items() if old[name] != value}
    text = set_values(path.read_text(), {name: new for name, (_, new) in changed.items()})
    with atomic_path(path) as temporary:
        temporary.write_text(text)
        load_params(temporary)
    return changed


def tell(recipe: Recipe, names: Sequence[str], experts: Sequence[str]) -> list[str]:
    """The recipe in sentences."""
    lines = [f"{recipe.blocks} blocks of every N1 area, trainings of {recipe.steps} steps"]
    if recipe.fusion:
        choice, gain = recipe.fusion.choice, recipe.fusion.gain
        weights = ", ".join(f"{name} {weight:g}" for name, weight in zip(experts, choice.weights, strict=True))
        agreed = sum(weights == choice.weights for weights in recipe.fusion.by_block)
        lines.append(
            f"experts: {weights}; {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over the network alone; "
            f"{agreed} of {len(recipe.fusion.by_block)} blocks alone would take them"
        )
        limits = zip(names, choice.min_score, choice.min_margin, strict=True)
        lines.append("thresholds: " + ", ".join(f"{name} {score:g}, {margin:g}" for name, score, margin in limits))
    for stage, found in recipe.refiners.items():
        taken = ", ".join(f"{name} {refiner}" for name, refiner in found["refined_by"].items())
        lines.append(f"{stage}: {taken}; mIoU on N1 {found['miou_before']:.3f} to {found['miou']:.3f}")
    if recipe.ranked:
        lines.append(sentence(recipe.ranked))
    return lines
