"""Stage audit@METHOD: pseudo-masks against the hidden truth of N2; the one weak-label stage that may read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.files import atomic_path
from weakseg.core.methods import WeakSource
from weakseg.data.store import open_allowed, open_array
from weakseg.evaluation.metrics import confusion_matrix, miou_objects, scores_of
from weakseg.evaluation.objects import count_objects, no_objects, object_scores
from weakseg.evaluation.reports import AuditReport
from weakseg.methods.pseudo import SweepRow, pseudo_mask, sweep_thresholds
from weakseg.methods.scores import load_scores
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.report.content import evenly
from weakseg.report.pictures import write_area
from weakseg.report.sheets import draw_sheet_of
from weakseg.stages.pseudo import choose_on_holdout, mask_of

COLUMNS = ["min_score", "min_margin", "coverage", "accuracy", "miou"]  # of the sweep
PICTURED = 6  # N2 areas on the page of the report, evenly spaced through the list


def run(root: Path, method: WeakSource) -> None:
    """Write reports/audit/<method>.json, the sweep reports/sweeps/<method>.csv and some pictures.

    Where no N2 area has a mask there is nothing to audit: ``areas`` is 0, the numbers are null, the sweep is empty.
    ``rounds`` in the report of a teacher of several rounds holds the same numbers of each round's masks, the last ones
    being those in force; in MLflow they are ``round/<metric>`` with the round as step.
    """
    context = open_context(root)
    layout, scheme = context.layout, context.scheme
    with tracked(context, "audit", context.params.pseudo, source=method) as log:
        areas = [a for a in context.tag_areas() if (open_array(layout.hidden, a) != IGNORE).any()]
        report = measure(context, areas, (open_array(layout.pseudo(method), area) for area in areas))
        free = measure(context, areas, (winners_of(context, layout.scores(method), area) for area in areas))
        report["winners"] = {key: free[key] for key in ("miou", "iou", "coverage", "objects")}
        rounds = [*earlier_rounds(context, areas), report] if method == "teacher" else []
        if len(rounds) > 1:
            report = {**report, "rounds": rounds}
        checked = AuditReport.model_validate(report)
        write_report(layout.report("audit", method), checked.model_dump(exclude_unset=True))
        table = sweep(context, method, areas) if areas else []
        curve = layout.sweep(method)
        with atomic_path(curve) as temporary:
            rows = [{k: v for k, v in asdict(row).items() if k != "class_iou"} for row in table]
            pd.DataFrame(rows, columns=COLUMNS).to_csv(temporary, index=False, float_format="%.5f")
        log.log_metrics({key: report[key] for key in ("coverage", "accuracy", "miou")})
        log.log_metrics({f"iou/{name}": value for name, value in report["iou"].items()})
        log.log_metrics({"winners/miou": free["miou"]})
        for number, row in enumerate(rounds, 1):
            log.log_metrics({f"round/{key}": row[key] for key in ("coverage", "accuracy", "miou")}, step=number)
            log.log_metrics({f"round/iou/{name}": value for name, value in row["iou"].items()}, step=number)
        log.log_artifact(curve, "sweeps")
        for area in areas:
            log.log_artifact(draw_sheet_of(context, method, area, after=False), "sheets")
        for area in evenly(context.tag_areas(), PICTURED):
            write_area(
                layout.pictures("audit", method),
                area,
                np.asarray(open_array(layout.pseudo(method), area)),
                scheme,
                image=context.bands.picture(open_array(layout.tiles / "images", area)),
                truth=open_array(layout.hidden, area) if area in areas else None,
            )


def earlier_rounds(context: Context, areas: list[str]) -> list[dict[str, Any]]:
    """:func:`measure` of the masks that each round of the teacher but the last left to its student, in their order."""
    found = []
    for scores in sorted(context.layout.teacher_rounds.glob("*"), key=lambda folder: int(folder.name)):
        chosen = choose_on_holdout(context, scores)
        found.append(measure(context, areas, (mask_of(context, scores, area, chosen) for area in areas)))
    return found


def winners_of(context: Context, scores: Path, area: str) -> Mask:
    """The top class of every pixel, uint8 (H, W), without thresholds; 255 where no class has a score."""
    maps, allowed = load_scores(scores / f"{area}.npz"), open_allowed(context.layout.tiles, area)
    return pseudo_mask(maps, allowed, min_score=0.0, min_margin=0.0)


def measure(context: Context, areas: Sequence[str], masks: Iterable[Mask]) -> dict[str, Any]:
    """mIoU, accuracy and coverage of the pseudo-masks (H, W) of these areas, inside their coverage, pooled.

    A class that the truth holds but no pseudo-label shows counts as 0. ``objects`` says which sizes are found.
    """
    scheme = context.scheme
    count = len(scheme)
    confusion, labelled, total = np.zeros((count, count), np.int64), 0, 0
    truths, objects = np.zeros(count, np.int64), no_objects(count)
    for area, mask in zip(areas, masks, strict=True):
        truth = np.asarray(open_array(context.layout.hidden, area))
        scored = truth != IGNORE
        inside = scored & (mask != IGNORE)
        confusion += confusion_matrix(
            np.where(inside, truth, IGNORE).astype(np.uint8), np.where(inside, mask, 0), count
        )
        truths += np.bincount(truth[scored], minlength=count)
        objects += count_objects(truth, np.asarray(mask), count)
        labelled, total = labelled + int(inside.sum()), total + int(scored.sum())
    scores = scores_of(confusion, scheme.names)
    present = {name for name, pixels in zip(scheme.names, truths, strict=True) if pixels}
    iou = {name: 0.0 if value != value and name in present else value for name, value in scores["iou"].items()}
    without = {"miou_objects": miou_objects(iou, scheme.background)} if scheme.background else {}
    return without | {
        "classes": scheme.names,
        "miou": float(np.nanmean(list(iou.values()))) if total else float("nan"),
        "iou": iou,
        "accuracy": scores["oa"],
        "coverage": labelled / total if total else float("nan"),
        "areas": len(areas),
        "objects": object_scores(objects, scheme.names),
    }


def sweep(context: Context, method: str, areas: list[str]) -> list[SweepRow]:
    """What every pair of thresholds would have given on N2: for the eye, never for a choice."""
    layout, params = context.layout, context.params.pseudo
    return sweep_thresholds(
        (
            (
                load_scores(layout.scores(method) / f"{area}.npz"),
                open_allowed(layout.tiles, area),
                np.asarray(open_array(layout.hidden, area)),
            )
            for area in areas
        ),
        scores_grid=params.scores,
        margins_grid=params.margins,
    )
