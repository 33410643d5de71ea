"""Stage crf: refine ScoreMaps by a dense CRF (or PAMR), over all cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from weakseg.data.store import open_array
from weakseg.methods.crf import crf_library, refine_many
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.pool import usable_cores
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context, tracked


def run(root: Path) -> None:
    """Write out/scores/crf/<area>.npz from out/scores/cam."""
    context = open_context(root)
    machine, areas = context.machine, context.pixel_areas() + context.tag_areas()
    mine, cores = machine.shard(areas), usable_cores() // machine.local_world
    workers = int(os.environ.get("WEAKSEG_CRF_WORKERS", max(1, cores)))
    with tracked(context, "crf", context.params.crf) as log:
        if context.params.crf.refiner == "crf":
            log.set_tags({"weakseg.crf_library": crf_library()})
        refined = refine_many(
            _jobs(context, mine),
            context.params.crf,
            workers=workers,
            device=str(machine.torch_device()),
        )
        for area, maps in zip(mine, refined, strict=True):
            save_scores(context.layout.scores("crf") / f"{area}.npz", where_known(context, area, maps))
        machine.wait()
        log.log_metrics({"areas": float(len(areas)), "workers": float(workers)})


def where_known(context: Context, area: str, maps: ScoreMaps) -> ScoreMaps:
    """The maps without what the CRF guesses where no tag lies and its input is silent, or where no class is allowed.

    The one is the case in partly tagged areas, the other where the image has no data.
    """
    maps = silence_ignored(maps, np.asarray(open_array(context.layout.tiles / "allowed", area)))
    silent = np.asarray(open_array(context.layout.tiles / "windows", area)) < 0
    if silent.any():
        silent &= ~load_scores(context.layout.scores("cam") / f"{area}.npz").scores.any(0)
    if not silent.any():
        return maps
    scores = np.where(silent, 0, maps.scores)
    return ScoreMaps(scores, maps.present & scores.any((1, 2)))


def _jobs(context: Context, areas: list[str]) -> Iterator[tuple[np.ndarray, ScoreMaps]]:
    source = context.layout.scores("cam")
    for area in areas:
        image = np.array(open_array(context.layout.tiles / "images", area))  # the CRF wants a writable copy
        yield image, load_scores(source / f"{area}.npz")
