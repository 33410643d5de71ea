"""What the hold-out of N1 says of ScoreMaps: the one place where weights of experts and thresholds are chosen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import Mask
from weakseg.core.tag_errors import TagErrors
from weakseg.data.store import open_allowed
from weakseg.evaluation.holdout import held_parts
from weakseg.evaluation.metrics import Confusion, confusion_matrix, scores_of
from weakseg.methods.background import POWERS, Part, best_power, try_powers
from weakseg.methods.fusion import fuse, possible_classes, silence_ignored
from weakseg.methods.pseudo import Thresholds, choose_thresholds, count_areas
from weakseg.methods.scores import ScoreMaps, load_scores
from weakseg.pipeline.context import Context


def allowed_classes(context: Context, area: str, *, tagged: bool = True) -> Allowed:
    """The classes that the tags leave; without ``tagged`` every class wherever any is allowed."""
    allowed = open_allowed(context.layout.tiles, area)
    return allowed if tagged else allowed.without_tags()


def with_experts(
    context: Context, maps: ScoreMaps, area: str, weights: Sequence[float], errors: TagErrors | None = None
) -> ScoreMaps:
    """A network's maps of an area times those of ``fused.experts`` to their weights; no weights: the maps alone."""
    return next(under_each(context, maps, area, [weights], errors)) if weights else maps


def under_each(
    context: Context,
    maps: ScoreMaps,
    area: str,
    candidates: Sequence[Sequence[float]],
    errors: TagErrors | None = None,
) -> Iterator[ScoreMaps]:
    """:func:`with_experts` for each of some weights; the experts' maps are unpacked once for all of them."""
    names = context.params.fused.experts
    used = [any(weights[place] > 0 for weights in candidates) for place in range(len(names))]
    files = [context.layout.scores(name) / f"{area}.npz" for name in names]
    silent = ScoreMaps(np.zeros((0, *maps.scores.shape[1:]), np.float32), np.zeros_like(maps.present))
    experts = [load_scores(file) if wanted else silent for file, wanted in zip(files, used, strict=True)]
    allowed = possible_classes(allowed_classes(context, area), errors)
    for weights in candidates:
        yield silence_ignored(fuse(maps, experts, weights, allowed), allowed)


def candidate_weights(context: Context) -> list[tuple[float, ...]]:
    """All combinations of ``fused.weights``, one per expert."""
    params = context.params.fused
    return list(itertools.product(params.weights, repeat=len(params.experts)))


def holdout_mious(
    context: Context, maps_of: Callable[[str], ScoreMaps], candidates: Sequence[tuple[float, ...]]
) -> dict[tuple[float, ...], float]:
    """mIoU of the fused winners on the hold-out blocks of N1, by weights; ``maps_of`` gives a network's maps."""
    names = context.scheme.names
    tables = {one: np.zeros((len(names), len(names)), np.int64) for one in candidates}
    for area, part, truth in held_parts(context.layout.tiles) if candidates else ():
        for one, maps in zip(candidates, under_each(context, maps_of(area), area, candidates), strict=True):
            tables[one] += confusion_matrix(truth, maps.winners()[:, part].astype(np.uint8), len(names))
    return {one: scores_of(table, names)["miou"] for one, table in tables.items()}


def count_winners(
    context: Context,
    own: Mapping[str, ScoreMaps],
    truths: Mapping[str, Mask],
    candidates: Sequence[tuple[float, ...]],
    errors: TagErrors | None = None,
) -> dict[tuple[float, ...], Confusion]:
    """Confusion (C, C) of the fused winners by weights, where ``truths`` uint8 (H, W) by area are not 255."""
    classes = len(context.scheme)
    tables: dict[tuple[float, ...], Confusion] = {one: np.zeros((classes, classes), np.int64) for one in candidates}
    for area, truth in truths.items() if candidates else ():
        for one, maps in zip(candidates, under_each(context, own[area], area, candidates, errors), strict=True):
            tables[one] = tables[one] + confusion_matrix(truth, maps.winners().astype(np.uint8), classes)
    return tables


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
