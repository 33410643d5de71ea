"""Runs that differ in their seeds alone become one report."""

from __future__ import annotations

import math
from typing import Any

import pytest

from weakseg.core.errors import StageError
from weakseg.evaluation.pooling import average_audits, pool_evaluations
from weakseg.evaluation.reports import AuditReport, EvaluationReport


def run(seed: int, right: int, *, classes: tuple[str, str] = ("road", "car"), **changes: Any) -> EvaluationReport:
    """One area with ``right`` pixels of road and two of car taken for road, in the order of ``classes``."""
    iou = {"road": right / (right + 2), "car": 0.0}
    matrix = [[right, 0], [2, 0]] if classes[0] == "road" else [[0, 2], [0, right]]
    scores = {"miou": iou["road"] / 2, "iou": iou, "oa": 0.5, "ece": None}
    content = {
        **scores,
        **{"classes": classes, "areas": {"a": {"confusion": matrix}}, "seeds": {f"seed{seed}": scores}},
        **{"selection": "last", "steps": 3, "validation_data": "h"},
    }
    return EvaluationReport.model_validate(content | changes)


def test_scores_are_the_means_of_the_seeds_and_matrices_their_sums() -> None:
    """IoU of road 2 / 4 and 6 / 8; the second run has its classes in another order."""
    pooled = pool_evaluations([run(0, 2), run(1, 6, classes=("car", "road"))], "cam")
    assert pooled.classes == ("road", "car")
    assert pooled.confusions["a"].tolist() == [[8, 0], [4, 0]]
    assert pooled.iou == {"road": pytest.approx(0.625), "car": 0.0}
    assert list(pooled.seeds) == ["seed0", "seed1"]
    spread = pooled.miou_over_seeds
    assert (spread.mean, spread.low, spread.high, spread.count) == pytest.approx((0.3125, 0.25, 0.375, 2))
    assert math.isnan(pooled.ece)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (run(0, 6), "cam: seed0 in two runs; expected each seed once"),
        (run(1, 6, steps=4), "cam: steps 3 and 4"),
        (run(1, 6, validation_data="other"), "cam: validation_data h and other"),
        (run(1, 6, selection="holdout"), "cam: selection holdout and last"),
    ],
)
def test_what_does_not_belong_together_is_refused(other: EvaluationReport, said: str) -> None:
    with pytest.raises(StageError, match=said):
        pool_evaluations([run(0, 2), other], "cam")


def test_masks_are_the_mean_of_the_runs() -> None:
    audits = [
        AuditReport(miou=miou, iou={"road": miou, "car": car}, accuracy=0.5, coverage=coverage)
        for miou, car, coverage in ((0.4, 0.2, 0.6), (0.6, math.nan, 0.8))
    ]
    mean = average_audits(audits, "cam")
    assert (mean.miou, mean.coverage, mean.iou["road"], mean.iou["car"]) == pytest.approx((0.5, 0.7, 0.5, 0.2))
    with pytest.raises(StageError, match="cam has classes road; expected road, car"):
        average_audits([audits[0], audits[0].model_copy(update={"iou": {"road": 1.0}})], "cam")
