"""Stage cam: class activation maps of every N1 and N2 area, as ScoreMaps; a background is drawn from the objects'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.data.manifest import TagCrops
from weakseg.data.store import open_allowed, open_array
from weakseg.labels.tags import says_something, window_index
from weakseg.methods.background import draw_background
from weakseg.methods.cam import area_cam, in_force, resolve_labels
from weakseg.methods.classifier import Classifier
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import Context, open_context, tracked
from weakseg.pipeline.holdout_choice import choose_power
from weakseg.stages.classifier import load_classifier, predict_crops


def run(root: Path) -> None:
    """Write out/scores/cam/<area>.npz."""
    context = open_context(root)
    machine, areas, crops = context.machine, context.pixel_areas() + context.tag_areas(), context.crops()
    with tracked(context, "cam", context.params.cam) as log:
        classifier = load_classifier(context)
        power = choose_power(context, lambda area: object_maps(context, classifier, crops.select(area=area), area))
        counts = machine.gather(
            [map_area(context, classifier, crops.select(area=area), area, power) for area in machine.shard(areas)]
        )
        log.log_metrics({"background_power": power} if context.scheme.background else {})
        log.log_metrics(
            {"windows": float(sum(c[0] for c in counts)), "windows_without_tags": float(sum(c[1] for c in counts))}
        )


Tagger = tuple[Classifier, npt.NDArray[np.float64]]


def map_area(context: Context, classifier: Tagger, crops: TagCrops, area: str, power: float = 1.0) -> tuple[int, int]:
    """Map one area; returns (windows, windows without any tag). Those are mapped only where tags are predicted.

    ``power``: of the background, where there is one (:mod:`weakseg.methods.background`).
    """
    layout, scheme = context.layout, context.scheme
    maps = object_maps(context, classifier, crops, area)
    allowed = open_allowed(layout.tiles, area)
    use = _mapped(context, crops)
    if scheme.background:
        seen = (
            window_index(allowed.shape[0], allowed.shape[1], [tuple(window) for window in crops.windows[use].tolist()])
            >= 0
        )
        maps = draw_background(maps, scheme.background_index, power, seen)
    save_scores(layout.scores("cam") / f"{area}.npz", silence_ignored(maps, allowed))
    tagged = says_something(crops.present, crops.known, scheme)
    return len(tagged), int((~tagged).sum())


def _mapped(context: Context, crops: TagCrops) -> npt.NDArray[np.intp]:
    """The crops of an area that are mapped."""
    if in_force(context.params.cam).label_source != "given":
        return np.arange(len(crops.ids))
    return np.flatnonzero(says_something(crops.present, crops.known, context.scheme))


def object_maps(context: Context, classifier: Tagger, crops: TagCrops, area: str) -> ScoreMaps:
    """Maps of one area; nothing of a background.

    With ``cam.lid_compat`` crops are seen without context, and tags are ``given_or_predicted`` at a threshold of 0.5.
    """
    params, layout = context.params, context.layout
    model, thresholds = classifier
    source, margin = in_force(params.cam).label_source, params.classifier.context
    if params.cam.lid_compat:
        margin, thresholds = 0.0, np.full(len(thresholds), 0.5)
    image = np.asarray(open_array(layout.tiles / "images", area))
    use = _mapped(context, crops)
    allowed = open_allowed(layout.tiles, area)
    maps = ScoreMaps(np.zeros((0, *image.shape[:2]), np.float32), np.zeros(len(context.scheme), bool))
    if len(use):
        windows, labels = crops.windows[use], crops.present[use]
        if source != "given":
            probabilities = predict_crops(context, model, crops, use)
            tagged = says_something(labels, crops.known[use], context.scheme)
            labels = resolve_labels(labels, probabilities, thresholds, source, known=crops.known[use], tagged=tagged)
        windows, labels = windows[labels.any(1)], labels[labels.any(1)]  # beside a background a crop may hold no object
    if len(use) and len(windows):
        sides = float(np.sqrt(windows[:, 2] * windows[:, 3]).mean())
        maps = area_cam(
            model,
            image,
            windows,
            labels,
            in_force(params.cam, params.classifier.crop / sides),
            context=margin,
            batch_size=params.classifier.optimiser.batch,
            valid=~allowed.nothing,
        )
    return maps
