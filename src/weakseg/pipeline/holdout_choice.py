"""What the hold-out of N1 says of ScoreMaps: the one place where weights of experts and thresholds are chosen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import Mask
from weakseg.data.store import open_allowed
from weakseg.evaluation.holdout import held_parts, score_holdout
from weakseg.evaluation.metrics import Confusion, confusion_matrix
from weakseg.methods.background import POWERS, Part, best_power, try_powers
from weakseg.methods.fusion import fuse, silence_ignored
from weakseg.methods.pseudo import Thresholds, choose_thresholds, count_areas
from weakseg.methods.scores import ScoreMaps, load_scores
from weakseg.pipeline.context import Context


def allowed_classes(context: Context, area: str, *, tagged: bool = True) -> Allowed:
    """The classes that the tags leave; without ``tagged`` every class wherever any is allowed."""
    allowed = open_allowed(context.layout.tiles, area)
    return allowed if tagged else allowed.without_tags()


def with_experts(context: Context, maps: ScoreMaps, area: str, weights: Sequence[float]) -> ScoreMaps:
    """A network's maps of an area times those of ``fused.experts`` to their weights; no weights: the maps alone."""
    if not weights:
        return maps
    experts = [load_scores(context.layout.scores(name) / f"{area}.npz") for name in context.params.fused.experts]
    allowed = allowed_classes(context, area)
    return silence_ignored(fuse(maps, experts, weights, allowed), allowed)


def candidate_weights(context: Context) -> list[tuple[float, ...]]:
    """All combinations of ``fused.weights``, one per expert."""
    params = context.params.fused
    return list(itertools.product(params.weights, repeat=len(params.experts)))


def holdout_miou(context: Context, maps_of: Callable[[str], ScoreMaps], weights: tuple[float, ...]) -> float:
    """mIoU of the fused winners on the hold-out blocks of N1; ``maps_of`` gives a network's maps of an area."""
    return score_holdout(
        context.layout.tiles,
        context.scheme.names,
        lambda area, part: with_experts(context, maps_of(area), area, weights).winners()[:, part],
    )["miou"]


def count_winners(
    context: Context, own: Mapping[str, ScoreMaps], truths: Mapping[str, Mask], weights: tuple[float, ...]
) -> dict[str, Confusion]:
    """Confusion (C, C) of the fused winners by area, where ``truths`` uint8 (H, W) are not 255."""
    return {
        area: confusion_matrix(
            truth,
            with_experts(context, own[area], area, weights).winners().astype(np.uint8),
            len(context.scheme),
        )
        for area, truth in truths.items()
    }


def choose_power(context: Context, maps_of: Callable[[str], ScoreMaps], powers: Sequence[float] = POWERS) -> float:
    """The power of the background that serves the hold-out blocks of N1 best; 1 for schemes without a background.

    ``maps_of`` gives an area's maps of the objects.
    """
    background = context.scheme.background_index
    if background is None or len(powers) == 1:
        return powers[0] if background is not None else 1.0

    def parts() -> Iterator[Part]:
        for area, part, truth in held_parts(context.layout.tiles):
            maps = maps_of(area)
            yield ScoreMaps(maps.scores[:, :, part], maps.present), allowed_classes(context, area)[:, part], truth

    return best_power(try_powers(parts(), background, powers))[0]


def best_weights(table: Mapping[tuple[float, ...], float]) -> tuple[float, ...]:
    """The weights of the largest mIoU, of equals the smallest."""
    return max(table, key=lambda weights: (table[weights], -sum(weights)))


def choose_on_holdout(context: Context, maps: Iterable[tuple[ScoreMaps, Allowed, Mask]]) -> Thresholds:
    """The thresholds of the section pseudo that serve hold-out blocks best, each as (maps, allowed, truth)."""
    params = context.params.pseudo
    grids = {"scores_grid": params.scores, "margins_grid": params.margins}
    counts = count_areas(maps, **grids)
    return choose_thresholds(counts, **grids, min_coverage=params.min_coverage, per_class=params.per_class)
