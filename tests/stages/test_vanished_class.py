"""A class that is in no label of N1, in no tag of N2 or nowhere in validation: no number is made up for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weakseg.core.classes import ISPRS
from weakseg.methods.scores import load_scores
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster
from weakseg.stages import run_stage

CAR = ISPRS.names.index("car")
PLACES = {"N1": "p", "tags": "t", "validation": "v"}
BRANCH = (
    ("tiles", None), ("segment", "pixel"), ("evaluate", "pixel"), ("teacher", None), ("pseudo", "teacher"),
    ("segment", "teacher"), ("evaluate", "teacher"), ("audit", "teacher"),
)  # fmt: skip


def without_cars(root: Path, first_letter: str) -> None:
    """Paint the cars of some areas' labels as trees."""
    for file in (root / "data" / "labels").glob(f"{first_letter}*.tif"):
        colours = read_image(file)
        colours[(colours == ISPRS.colours[CAR]).all(-1)] = ISPRS.colours[ISPRS.names.index("tree")]
        write_raster(file, colours)


def run(root: Path, *stages: tuple[str, str | None]) -> None:
    for name, source in stages:
        run_stage(root, name, source)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def iou_by_hand(report: dict[str, Any]) -> list[float]:
    """IoU of each class from the areas' matrices; NaN for a class in neither truth nor prediction."""
    matrix = np.sum([area["confusion"] for area in report["areas"].values()], axis=0)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return [float(matrix[k, k] / union[k]) if union[k] else float("nan") for k in range(len(matrix))]


@pytest.mark.parametrize("place", PLACES)
def test_a_class_that_vanished(place: str, workspace: Path) -> None:
    without_cars(workspace, PLACES[place])
    run(workspace, *BRANCH)
    for source in ("pixel", "teacher"):
        report = read_json(workspace / "reports" / "evaluate" / f"{source}.json")
        wanted = iou_by_hand(report)
        assert report["classes"] == list(ISPRS.names)
        for name, value in zip(ISPRS.names, wanted, strict=True):
            assert report["iou"][name] == (None if np.isnan(value) else pytest.approx(value))
        assert report["miou"] == pytest.approx(np.nanmean(wanted))
        truth = np.sum([area["confusion"] for area in report["areas"].values()], axis=0)[CAR].sum()
        assert (truth == 0) == (place == "validation")
    if place == "tags":
        for area in ("t1", "t2"):
            assert not load_scores(workspace / "out" / "scores" / "teacher" / f"{area}.npz").present[CAR]
            assert not (np.load(workspace / "out" / "labels" / "teacher" / f"{area}.npy") == CAR).any()
