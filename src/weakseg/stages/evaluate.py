"""Stage evaluate@SOURCE: the one stage that opens the validation areas; metrics, confusion, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.core.classes import ClassScheme, Mask
from weakseg.core.errors import StageError
from weakseg.core.files import atomic_path
from weakseg.core.methods import TASK_I, Source
from weakseg.core.params import EvaluateParams
from weakseg.data.areas import Area, Image, open_area
from weakseg.data.store import fingerprint, list_areas, save_array
from weakseg.evaluation.calibration import Reliability, calibrate, reliability_of
from weakseg.evaluation.metrics import (
    Confusion,
    average_scores,
    confusion_matrix,
    erode_boundaries,
    iou_batch_mean,
    miou_objects,
    over_seeds,
    scores_of,
)
from weakseg.evaluation.objects import count_objects, no_objects, object_scores
from weakseg.evaluation.reports import EvaluationReport
from weakseg.inference.scene import DIHEDRAL, PLAIN, predict_scene, seam_share
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.report.figures import draw_confusion
from weakseg.report.pictures import write_pictures
from weakseg.training.segmenter import load_segmenter

Predictions = dict[str, np.ndarray[Any, np.dtype[np.uint8]]]
Calibrations = dict[str, tuple[Reliability, ...]]
"""By area: how reliable the confidence is as the network says it and, where the model has temperatures, calibrated."""


def run(root: Path, source: Source) -> None:
    """Predict every validation area with every seed's network and write the metrics of ``source``."""
    context = open_context(root)
    layout, params = context.layout, context.params.evaluate
    scheme = context.scheme
    areas = {
        name: open_area(layout.validation, name, masks=layout.validation / "labels")
        for name in list_areas(layout.validation)
    }
    with tracked(context, "evaluate", params, source=source) as log:
        by_seed: dict[str, dict[str, Any]] = {}
        pooled: dict[str, Confusion] = {}
        objects = no_objects(len(scheme))
        started = time.monotonic()
        for seed in context.params.segment.seeds:
            predictions, by_seed[f"seed{seed}"] = best_predictions(context, source, seed, areas)
            for name in areas:
                truth = np.asarray(areas[name].mask)
                pooled[name] = pooled.get(name, 0) + confusion_matrix(truth, predictions[name], len(scheme))
                objects += count_objects(truth, predictions[name], len(scheme))
            if len(by_seed) == 1 and context.machine.is_main:
                save_predictions(layout.predictions(source), predictions)
                write_pictures(
                    layout.pictures("evaluate", source),
                    {name: replace(area, image=context.bands.picture(area.image)) for name, area in areas.items()},
                    predictions,
                    scheme,
                    side=params.batch_mean_tile,
                    shared=source == TASK_I,
                )
        if not context.machine.is_main:
            return
        found = average_scores(list(by_seed.values())) | {
            "classes": scheme.names,
            "areas": {
                name: {**scores_of(matrix, scheme.names), "confusion": matrix} for name, matrix in pooled.items()
            },
            "seeds": by_seed,
            "miou_over_seeds": over_seeds([seed["miou"] for seed in by_seed.values()]),
            "selection": context.params.segment.selection,
            "steps": context.params.segment.optimiser.steps,
            "seam_share": measure_seams(context, source, areas),
            "validation_data": fingerprint(layout.validation),
            "objects": object_scores(objects, scheme.names),
        }
        report = EvaluationReport.model_validate(found)
        write_report(layout.report("evaluate", source), report.model_dump())
        write_confusion(layout.confusion(source), report.pooled, scheme)
        flat = {"miou": report.miou, "oa": report.oa, "kappa": report.kappa, "mf1": report.mf1}
        log.log_metrics(flat | {f"iou/{name}": value for name, value in report.iou.items()})
        if scheme.background:
            log.log_metrics({"miou_objects": report.miou_objects})
        log.log_metrics({"ece": report.ece, "ece_calibrated": report.ece_calibrated})
        log.log_metrics({"seconds": time.monotonic() - started})
        log.log_artifact(layout.report("evaluate", source), "evaluate")  # `weakseg runs compare` reads it
        log.log_artifact(layout.confusion(source), "confusion")
        drawn = draw_confusion(layout.predictions(source) / "confusion.png", report.pooled, report.classes)
        log.log_artifact(drawn, "confusion")
        log.log_dataset("validation", report.validation_data, str(layout.validation), context="evaluation")
        for picture in draw_overlays(context, source, areas):
            log.log_artifact(picture, "overlays")


def best_predictions(
    context: Context, source: Source, seed: int, areas: dict[str, Area]
) -> tuple[Predictions, dict[str, Any]]:
    """Predictions and metrics of a seed's network; under ``selection: validation`` of the best of its checkpoints."""
    folder, params = context.layout.checkpoints(source), context.params.evaluate
    files = [folder / f"seed{seed}.pt"]
    if context.params.segment.selection == "validation":
        files = sorted((folder / "steps").glob(f"seed{seed}-*.pt"))
    if not files or not files[0].is_file():
        raise StageError(
            f"no checkpoint of seed {seed} in {folder}", expected="one per seed of segment.seeds", cure="run segment"
        )
    tried = []
    for file in files:
        model, content = load_segmenter(file, classes=context.scheme, tiles=context.bands)
        _check_scale(file, content.get("scale"), context.params.tiles.scale)
        tried.append(predict_areas(context, model, areas, params, content.get("temperatures")))
    measured = [
        measure(areas, predictions, context.scheme, params) | calibration_errors(found) for predictions, found in tried
    ]
    best = max(range(len(files)), key=lambda index: measured[index]["miou"])
    return tried[best][0], measured[best]


def _check_scale(file: Path, trained: float | None, now: float) -> None:
    """Refuse a network that learnt things at another size than the validation areas show them."""
    if trained is not None and trained != now:
        raise StageError(
            f"{file} was trained at tiles.scale {trained:g}, the validation areas are at {now:g}",
            expected="one scale",
            cure="run segment again (`dvc repro`)",
        )


def predict_areas(
    context: Context,
    model: Segmenter,
    areas: dict[str, Area],
    params: EvaluateParams,
    temperatures: Sequence[float] | None = None,
) -> tuple[Predictions, Calibrations]:
    """Class index maps uint8 (H, W) of all areas, and how reliable their confidence is; every pixel is predicted."""
    machine = context.machine
    model.to(machine.torch_device())
    found: list[tuple[Mask, tuple[Reliability, ...]]] = []
    for name in machine.shard(list(areas)):
        probabilities = predict_probabilities(context, model, np.asarray(areas[name].image), params)
        classes = np.asarray(probabilities.argmax(0), np.uint8)
        spoken = [probabilities, calibrate(probabilities, temperatures)] if temperatures else [probabilities]
        truth = np.asarray(areas[name].mask)
        found.append((classes, tuple(reliability_of(each.max(0), classes, truth) for each in spoken)))
    by_area = dict(zip(areas, machine.gather(found), strict=True))
    return {name: one[0] for name, one in by_area.items()}, {name: one[1] for name, one in by_area.items()}


def calibration_errors(found: Calibrations) -> dict[str, float]:
    """``ece`` and ``ece_calibrated`` over all areas; NaN for a model without temperatures."""
    errors = [sum(each[1:], start=each[0]).error for each in zip(*found.values(), strict=True)]
    return dict(zip(("ece", "ece_calibrated"), [*errors, math.nan], strict=False))


def predict_classes(context: Context, model: Segmenter, image: Image, params: EvaluateParams) -> Mask:
    """Class indices uint8 (H, W) of an image (H, W, K)."""
    return np.asarray(predict_probabilities(context, model, image, params).argmax(0), np.uint8)


def predict_probabilities(
    context: Context, model: Segmenter, image: Image, params: EvaluateParams
) -> npt.NDArray[np.float32]:
    """Probabilities (C, H, W) of an image (H, W, K), in the windows of the section ``evaluate``."""
    return predict_scene(
        model,
        image,
        preprocessing=model.preprocessing,
        window=params.window,
        overlap=params.overlap,
        batch=params.batch,
        views=DIHEDRAL if params.views else PLAIN,
        machine=context.machine,
    )


def measure_seams(context: Context, source: Source, areas: dict[str, Area]) -> float:
    """``inference.seam_share`` of the first seed's network on the largest area."""
    params = context.params.evaluate
    file = context.layout.checkpoints(source) / f"seed{context.params.segment.seeds[0]}.pt"
    model, _ = load_segmenter(file, classes=context.scheme, tiles=context.bands)
    model.to(context.machine.torch_device())
    image = max((np.asarray(area.image) for area in areas.values()), key=lambda pixels: pixels.size)
    return seam_share(lambda part: predict_classes(context, model, part, params), image, window=params.window)


def measure(
    areas: dict[str, Area], predictions: Predictions, scheme: ClassScheme, params: EvaluateParams
) -> dict[str, Any]:
    """All metrics of one network, from one confusion matrix over all validation pixels, and those beside it."""
    truths = {name: np.asarray(area.mask) for name, area in areas.items()}
    count = len(scheme)
    whole = sum((confusion_matrix(truths[n], predictions[n], count) for n in areas), np.zeros((count, count), np.int64))
    inner = sum(
        (confusion_matrix(erode_boundaries(truths[n], params.erosion), predictions[n], count) for n in areas),
        np.zeros((count, count), np.int64),
    )
    eroded = scores_of(inner, scheme.names)
    batch_mean, _ = iou_batch_mean(
        ((truths[n], predictions[n]) for n in areas), scheme.names, tile=params.batch_mean_tile
    )
    scores = scores_of(whole, scheme.names)
    return {
        **scores,
        "miou_objects": miou_objects(scores["iou"], scheme.background),
        "miou_eroded": eroded["miou"],
        "oa_eroded": eroded["oa"],
        "iou_batch_mean": batch_mean,
    }


def save_predictions(folder: Path, predictions: Predictions) -> None:
    for name, prediction in predictions.items():
        save_array(folder, name, prediction)


def write_confusion(path: Path, confusion: Confusion, scheme: ClassScheme) -> None:
    """Rows truth, columns prediction, pixels."""
    with atomic_path(path) as temporary:
        pd.DataFrame(confusion, index=list(scheme.names), columns=list(scheme.names)).to_csv(temporary)


def draw_overlays(context: Context, source: Source, areas: dict[str, Area]) -> list[Path]:
    """One picture per area: image, truth, prediction, errors; in out/predictions/<source>."""
    from weakseg.report.figures import draw_row

    folder = context.layout.predictions(source)
    pictures = []
    for name, area in areas.items():
        guess = np.load(folder / f"{name}.npy", allow_pickle=False)
        pictures.append(
            draw_row(
                folder / f"{name}.png",
                [
                    ("image", context.bands.picture(np.asarray(area.image))),
                    ("truth", context.scheme.to_colours(np.asarray(area.mask))),
                    (source, context.scheme.to_colours(guess)),
                ],
            )
        )
    return pictures
