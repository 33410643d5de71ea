"""Stage cam: class activation maps of every N1 and N2 area, as ScoreMaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weakseg.data.store import open_array
from weakseg.params import CamParams
from weakseg.stages.classifier import load_classifier
from weakseg.stages.context import Context, open_context, tracked
from weakseg.weak.cam import LID_COMPAT, CamOptions, area_cam, predict_tags, resolve_labels
from weakseg.weak.scores import ScoreMaps, save_scores


def run(root: Path) -> None:
    """Write out/scores/cam/<area>.npz."""
    context = open_context(root)
    machine, areas = context.machine, context.pixel_areas() + context.tag_areas()
    with tracked(context, "cam", context.params.cam) as log:
        counts = machine.gather([map_area(context, area) for area in machine.shard(areas)])
        log.log_metrics(
            {"windows": float(sum(c[0] for c in counts)), "windows_without_tags": float(sum(c[1] for c in counts))}
        )


def options_of(params: CamParams, zoom: float) -> CamOptions:
    """CamOptions of the params; ``zoom`` is the training crop's side over the tag crop's."""
    if params.lid_compat:
        return LID_COMPAT
    return CamOptions(
        method=params.method,
        scales=tuple(scale * zoom for scale in params.scales),
        flips=params.flips,
        quarter_turns=params.quarter_turns,
        normalise=params.normalise,
        times_probability=params.times_probability,
    )


def map_area(context: Context, area: str) -> tuple[int, int]:
    """Map one area; returns (windows, windows without any tag). Those are mapped only where tags are predicted."""
    params, layout = context.params, context.layout
    model, thresholds = load_classifier(context)
    crops = context.crops().select(area=area)
    image = np.asarray(open_array(layout.tiles / "images", area))
    tagged = np.asarray(crops.present.any(1))
    use = np.arange(len(tagged)) if params.cam.label_source != "given" else np.flatnonzero(tagged)
    shape = (len(context.scheme), *image.shape[:2])
    maps = ScoreMaps(np.zeros(shape, np.float32), np.zeros(shape[0], bool))
    if len(use):
        windows, batch = crops.windows[use], params.classifier.optimiser.batch
        probabilities = predict_tags(model, image, windows, batch_size=batch)
        labels = resolve_labels(
            crops.present[use], probabilities, thresholds, params.cam.label_source, known=crops.known[use]
        )
        sides = float(np.sqrt(windows[:, 2] * windows[:, 3]).mean())
        options = options_of(params.cam, params.classifier.crop / sides)
        maps = area_cam(
            model,
            image,
            windows,
            labels,
            options,
            context=params.classifier.context,
            batch_size=batch,
            probabilities=probabilities,
        )
    save_scores(layout.scores("cam") / f"{area}.npz", maps)
    return len(tagged), int((~tagged).sum())
