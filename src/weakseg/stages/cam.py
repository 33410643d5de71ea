"""Stage cam: class activation maps of every N1 and N2 area, as ScoreMaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.data.manifest import TagCrops
from weakseg.data.store import open_array
from weakseg.methods.cam import area_cam, in_force, resolve_labels
from weakseg.methods.classifier import Classifier
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import Context, open_context, tracked
from weakseg.stages.classifier import load_classifier, predict_crops


def run(root: Path) -> None:
    """Write out/scores/cam/<area>.npz."""
    context = open_context(root)
    machine, areas, crops = context.machine, context.pixel_areas() + context.tag_areas(), context.crops()
    with tracked(context, "cam", context.params.cam) as log:
        classifier = load_classifier(context)
        counts = machine.gather(
            [map_area(context, classifier, crops.select(area=area), area) for area in machine.shard(areas)]
        )
        log.log_metrics(
            {"windows": float(sum(c[0] for c in counts)), "windows_without_tags": float(sum(c[1] for c in counts))}
        )


def map_area(
    context: Context, classifier: tuple[Classifier, npt.NDArray[np.float64]], crops: TagCrops, area: str
) -> tuple[int, int]:
    """Map one area; returns (windows, windows without any tag). Those are mapped only where tags are predicted.

    With ``cam.lid_compat`` crops are seen without context, and tags are ``given_or_predicted`` at a threshold of 0.5.
    """
    params, layout = context.params, context.layout
    model, thresholds = classifier
    source, margin = in_force(params.cam).label_source, params.classifier.context
    if params.cam.lid_compat:
        margin, thresholds = 0.0, np.full(len(thresholds), 0.5)
    image = np.asarray(open_array(layout.tiles / "images", area))
    tagged = np.asarray(crops.present.any(1))
    use = np.arange(len(tagged)) if source != "given" else np.flatnonzero(tagged)
    shape = (len(context.scheme), *image.shape[:2])
    allowed = np.asarray(open_array(layout.tiles / "allowed", area))
    maps = ScoreMaps(np.zeros(shape, np.float32), np.zeros(shape[0], bool))
    if len(use):
        windows, labels = crops.windows[use], crops.present[use]
        if source != "given":
            probabilities = predict_crops(context, model, crops, use)
            labels = resolve_labels(labels, probabilities, thresholds, source, known=crops.known[use])
        sides = float(np.sqrt(windows[:, 2] * windows[:, 3]).mean())
        maps = area_cam(
            model,
            image,
            windows,
            labels,
            in_force(params.cam, params.classifier.crop / sides),
            context=margin,
            batch_size=params.classifier.optimiser.batch,
            valid=allowed != 0,
        )
    save_scores(layout.scores("cam") / f"{area}.npz", silence_ignored(maps, allowed))
    return len(tagged), int((~tagged).sum())
