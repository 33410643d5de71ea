"""A class that is in no label of N1, in no tag of N2 or nowhere in validation: no number is made up for it."""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.slim import slim

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.layout import Layout
from weakseg.data.store import open_allowed, open_array
from weakseg.methods.scores import load_scores
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster
from weakseg.stages import run_stage

CAR = ISPRS.names.index("car")
PLACES = {"N1": "p", "tags": "t", "everywhere": "ptv"}
SCORED = ("cam", "crf", "irnet", "single_stage", "teacher", "fused")
METHODS = ("cam", "irnet", "fused")
SOURCES = ("pixel", "full", "joint", "consistency", "fused")
BRANCH: tuple[tuple[str, str | None], ...] = (
    *((name, None) for name in ("tiles", "classifier", "cam", "crf", "irnet", "single_stage")),
    *(("segment", "pixel"), ("teacher", None), ("fused", None), ("experts", None)),
    *(("pseudo", method) for method in METHODS),
    *(("audit", method) for method in METHODS),
    ("choice", "joint"),
    *(("segment", source) for source in SOURCES[1:]),
    *(("evaluate", source) for source in SOURCES),
    ("report", None),
)


@dataclass(frozen=True)
class Done:
    """A workspace in which all stages ran, and what each said."""

    layout: Layout
    place: str
    said: dict[str, str]

    def report(self, *names: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.layout.reports / "/".join(names)).with_suffix(".json").read_text())
        return content

    def mask(self, folder: Path, area: str) -> Any:
        return np.asarray(open_array(folder, area))


def without_cars(root: Path, first_letter: str) -> None:
    """Paint the cars of some areas' labels as trees."""
    for file in (root / "data" / "labels").glob(f"{first_letter}*.tif"):
        colours = read_image(file)
        colours[(colours == ISPRS.colours[CAR]).all(-1)] = ISPRS.colours[ISPRS.names.index("tree")]
        write_raster(file, colours)


def settings(root: Path) -> None:
    """Every training in a second, every choice among little."""
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    slim(raw)
    raw["irnet"] |= {"walk_steps": [2, 4], "anchors": [0.8], "classes": "best"}
    raw["crf"] |= {"refiner": "best"}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.mark.parametrize("place", ["N1", "tags", pytest.param("everywhere", marks=pytest.mark.slow)])
def test_a_class_that_vanished(place: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages where the cars vanished from one place or from all; a division by nothing fails here."""
    settings(workspace)
    for letter in PLACES[place]:
        without_cars(workspace, letter)
    monkeypatch.setenv("WEAKSEG_CRF_WORKERS", "1")
    said = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name, source in BRANCH:
            said[f"{name}@{source}" if source else name] = run_listening(workspace, name, source, monkeypatch)
    done = Done(Layout(workspace), place, said)
    for check in (check_tiles, check_classifier, check_fused, check_choice, check_training, check_report):
        check(done)
    for names, check_one in CHECKS:
        for name in names:
            check_one(done, name)


def run_listening(root: Path, name: str, source: str | None, patch: pytest.MonkeyPatch) -> str:
    """Run a stage; what it said on standard error."""
    heard = io.StringIO()
    patch.setattr(sys, "stderr", heard)
    run_stage(root, name, source)
    return heard.getvalue()


def iou_by_hand(report: dict[str, Any]) -> list[float]:
    """IoU of each class from the areas' matrices; NaN for a class in neither truth nor prediction."""
    matrix = np.sum([area["confusion"] for area in report["areas"].values()], axis=0)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return [float(matrix[k, k] / union[k]) if union[k] else float("nan") for k in range(len(matrix))]


def gone(done: Done, letter: str) -> bool:
    return letter in PLACES[done.place]


def check_tiles(done: Done) -> None:
    """Which part of the split lacks the class is said."""
    lines = [line.split(";")[0] for line in done.said["tiles"].splitlines() if "car" in line]
    wanted = []
    if gone(done, "p"):
        wanted = [
            "weakseg: car: in no tag crop of N1 outside its hold-out: trainings on pixels cannot learn it",
            "weakseg: car: in no tag crop of N1's hold-out: thresholds and weights are chosen without it, and hold-out "
            "scores do not count it",
        ]
    if gone(done, "t"):
        wanted.append(
            "weakseg: car: in no tag of N2: nothing is learnt of it from them, and where they deny it no mask shows it"
        )
    assert lines == wanted


def check_classifier(done: Done) -> None:
    """No threshold and no quality is made up."""
    report = done.report("classifier")
    for key in ("average_precision", "f1", "thresholds"):
        assert (report[key]["car"] is None) == gone(done, "p"), key
        assert report[key]["tree"] is not None
    assert report["presence_rate"]["car"] == 0 or not gone(done, "p")


def check_scores(done: Done, method: str) -> None:
    """Finite, and nothing of a class that no tag of the area allows."""
    for area in ("p1", "p2", "t1", "t2"):
        maps = load_scores(done.layout.scores(method) / f"{area}.npz")
        possible = open_allowed(done.layout.tiles, area).planes().any((1, 2))
        assert np.isfinite(maps.scores).all()
        assert not (maps.present & ~possible).any()
        assert maps.scores.any()
        if gone(done, area[0]):
            assert not maps.present[CAR]


def check_refined(done: Done, method: str) -> None:
    """A class that cannot be measured is not refined, and no mean counts it."""
    report = done.report(method)
    if gone(done, "p"):
        assert report["iou"]["car"] is report["iou_before"]["car"] is None
        assert report["refined_by"]["car"] == "none"
    for key in ("iou", "iou_before"):
        known = [value for value in report[key].values() if value is not None]
        total = report[{"iou": "miou", "iou_before": "miou_before"}[key]]
        assert total == pytest.approx(np.mean(known))


def check_fused(done: Done) -> None:
    """Weights are chosen by the other classes."""
    report = done.report("fused")
    assert all(np.isfinite(row["holdout_miou"]) for row in report["candidates"])
    assert report["holdout_miou"] == max(row["holdout_miou"] for row in report["candidates"])


def check_masks(done: Done, method: str) -> None:
    """No class without a tag; one that tags name and no mask shows is said."""
    report = done.report("pseudo", method)
    for key in ("min_score", "min_margin"):
        assert all(np.isfinite(value) for value in report[key].values())
    if gone(done, "p"):
        assert report["holdout"]["class_iou"][CAR] is None
    masks = [done.mask(done.layout.pseudo(method), area) for area in ("t1", "t2")]
    shown = {int(value) for mask in masks for value in np.unique(mask)} - {IGNORE}
    assert not (gone(done, "t") and CAR in shown)
    truth = {int(value) for area in ("t1", "t2") for value in np.unique(done.mask(done.layout.hidden, area))}
    lost = [name for index, name in enumerate(ISPRS.names) if index in truth - shown]
    said = done.said[f"pseudo@{method}"]
    if lost:
        assert f"pseudo@{method}: {', '.join(lost)}: in tags of N2 and in no mask of it" in said
    else:
        assert said == ""


def check_audit(done: Done, method: str) -> None:
    """A class that no mask shows counts as 0, one that is nowhere not at all."""
    report = done.report("audit", method)
    pairs = [
        (done.mask(done.layout.hidden, area), done.mask(done.layout.pseudo(method), area)) for area in ("t1", "t2")
    ]
    truth, mask = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    inside, wanted = (truth != IGNORE) & (mask != IGNORE), {}
    for index, name in enumerate(ISPRS.names):
        one, two = truth[inside] == index, mask[inside] == index
        nowhere = not (one | two).any()
        wanted[name] = (0.0 if (truth == index).any() else None) if nowhere else (one & two).sum() / (one | two).sum()
    for name, value in wanted.items():
        assert report["iou"][name] == (None if value is None else pytest.approx(value)), name
    assert (wanted["car"] is None) == gone(done, "t")
    assert report["miou"] == pytest.approx(np.mean([value for value in wanted.values() if value is not None]))


def check_choice(done: Done) -> None:
    """Weights and thresholds are numbers."""
    choice = json.loads(done.layout.choices("joint").read_text())["seed0"]
    values = [*choice["weights"], *choice["min_score"], *choice["min_margin"], choice["holdout_miou"]]
    assert all(value is not None and np.isfinite(value) for value in values)


def check_evaluation(done: Done, source: str) -> None:
    """No IoU for a class that is nowhere."""
    report = done.report("evaluate", source)
    wanted = iou_by_hand(report)
    assert report["classes"] == list(ISPRS.names)
    for name, value in zip(ISPRS.names, wanted, strict=True):
        assert report["iou"][name] == (None if np.isnan(value) else pytest.approx(value))
    assert report["miou"] == pytest.approx(np.nanmean(wanted))
    truth = np.sum([area["confusion"] for area in report["areas"].values()], axis=0)[CAR].sum()
    assert (truth == 0) == gone(done, "v")


def check_training(done: Done) -> None:
    """No number that JSON does not know."""
    for source in SOURCES:
        text = (done.layout.reports / "segment" / f"{source}.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text


def check_report(done: Done) -> None:
    """The table and the page say what they cannot tell."""
    sentence = "In no pixel of the validation areas: car. Nothing here says how well it is found"
    table, page = done.layout.results.read_text(), done.layout.page.read_text()
    assert (sentence in table, sentence in page) == (gone(done, "v"),) * 2
    assert "nan" not in table.lower()


CHECKS = (
    (SCORED, check_scores),
    (("crf", "irnet"), check_refined),
    (METHODS, check_masks),
    (METHODS, check_audit),
    (SOURCES, check_evaluation),
)
