"""Stage crf: refine ScoreMaps by a dense CRF or PAMR, over all cores; or each class by the one that N1 speaks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from weakseg.core.class_sets import Allowed
from weakseg.core.methods import CrfParams
from weakseg.data.store import open_allowed, open_array
from weakseg.evaluation.holdout import BLOCKS, truth_for
from weakseg.methods.crf import crf_library, refine_many
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.pool import usable_cores
from weakseg.methods.refinement import Changes, Choice, Refiners, choose_refiners, count_changes, join_changes, mix_maps
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context, tracked, write_report

Refiner = Literal["crf", "pamr"]
BOTH: Final[tuple[Refiner, ...]] = ("crf", "pamr")


def run(root: Path) -> None:
    """Write out/scores/crf/<area>.npz from out/scores/cam, and reports/crf.json: which class takes which refiner."""
    context = open_context(root)
    machine, names = context.machine, context.scheme.names
    areas, asked = context.pixel_areas() + context.tag_areas(), context.params.crf.refiner
    with tracked(context, "crf", context.params.crf) as log:
        if asked != "pamr":
            log.set_tags({"weakseg.crf_library": crf_library()})
        tried = BOTH if asked == "best" else (asked,)
        choice = choose(context, tried) if asked == "best" else None
        refiners = choice.refiners if choice else (1,) * len(names)
        for area, maps in mixed(context, machine.shard(areas), tried, refiners):
            save_scores(context.layout.scores("crf") / f"{area}.npz", maps)
        machine.wait()
        if not machine.is_main:
            return
        report: dict[str, Any] = {"refined_by": dict.fromkeys(names, asked)}
        if choice:
            report = choice.describe(names, tried)
        write_report(context.layout.report("crf"), report)
        log.log_metrics({"areas": float(len(areas)), "workers": float(_workers(context))})
        log.log_metrics({f"n1/{key}": report[key] for key in ("miou_before", "miou") if key in report})


def choose(context: Context, tried: Sequence[Refiner]) -> Choice:
    """The refiner of each class that N1 speaks for, whose pixels neither it nor the classifier has seen."""
    tiles, machine = context.layout.tiles, context.machine
    truths = truth_for(tiles, "crf")
    counts: list[Changes] = []
    for area, maps in all_maps(context, machine.shard(list(truths)), tried):
        counts.append(count_changes(truths[area], maps, _allowed(context, area), blocks=BLOCKS))
    return choose_refiners(join_changes(machine.gather(counts)))


def mixed(
    context: Context, areas: list[str], tried: Sequence[Refiner], refiners: Refiners
) -> Iterator[tuple[str, ScoreMaps]]:
    """What the stage writes of these areas: each class from the maps of its own refiner."""
    used = [name for number, name in enumerate(tried, 1) if number in refiners]  # the others need not run
    numbers = {number: used.index(name) + 1 for number, name in enumerate(tried, 1) if name in used}
    own = tuple(numbers.get(number, 0) for number in refiners)
    if set(own) == {1}:  # nothing is mixed: the maps before need not be read again
        yield from zip(areas, refined(context, areas, context.params.crf.replaced(refiner=used[0])), strict=True)
        return
    for area, maps in all_maps(context, areas, used):
        yield area, mix_maps(maps, _allowed(context, area), own)


def all_maps(
    context: Context, areas: list[str], tried: Sequence[Refiner]
) -> Iterator[tuple[str, tuple[ScoreMaps, ...]]]:
    """The maps before and those of each refiner, area by area."""
    streams = [refined(context, areas, context.params.crf.replaced(refiner=name)) for name in tried]
    for area in areas:
        yield area, (_before(context, area), *(next(stream) for stream in streams))


def refined(context: Context, areas: list[str], params: CrfParams) -> Iterator[ScoreMaps]:
    """The refined maps of these areas, one after the other."""
    device = str(context.machine.torch_device())
    maps = refine_many(_jobs(context, areas), params, workers=_workers(context), device=device)
    for area, one in zip(areas, maps, strict=True):
        yield where_known(context, area, one)


def _workers(context: Context) -> int:
    cores = usable_cores() // context.machine.local_world
    return int(os.environ.get("WEAKSEG_CRF_WORKERS", max(1, cores)))


def _allowed(context: Context, area: str) -> Allowed:
    return open_allowed(context.layout.tiles, area)


def _before(context: Context, area: str) -> ScoreMaps:
    return load_scores(context.layout.scores("cam") / f"{area}.npz")


def where_known(context: Context, area: str, maps: ScoreMaps) -> ScoreMaps:
    """The maps without what the CRF guesses where no tag lies and its input is silent, or where no class is allowed.

    The one is the case in partly tagged areas, the other where the image has no data.
    """
    maps = silence_ignored(maps, _allowed(context, area))
    silent = np.asarray(open_array(context.layout.tiles / "windows", area)) < 0
    if silent.any():
        silent &= ~_before(context, area).scores.any(0)
    return maps.but_silent(silent)


def _jobs(context: Context, areas: list[str]) -> Iterator[tuple[np.ndarray, ScoreMaps]]:
    bands = context.bands
    for area in areas:
        image = np.array(open_array(context.layout.tiles / "images", area))  # the CRF wants a writable copy
        yield bands.picture(image), _before(context, area)
