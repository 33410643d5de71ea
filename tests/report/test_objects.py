"""`weakseg objects CLASS`: what each stage finds of objects of every size, from audit's and evaluate's reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import ParamsError, StageError
from weakseg.core.layout import Layout
from weakseg.evaluation.objects import count_objects, object_scores
from weakseg.pipeline.context import write_report
from weakseg.report.objects import object_tables

NAMES = ("road", "car")
TRUTH = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])


def rows(guess: np.ndarray[Any, Any]) -> dict[str, Any]:
    return object_scores(count_objects(TRUTH.astype(np.uint8), guess.astype(np.uint8), 2), NAMES)


def audited(layout: Layout, method: str, **more: Any) -> None:
    numbers = {"classes": NAMES, "iou": dict.fromkeys(NAMES, 0.5), "miou": 0.5, "accuracy": 0.5, "coverage": 1.0}
    write_report(layout.report("audit", method), {**numbers, **more})


def evaluated(layout: Layout, source: str, **more: Any) -> None:
    numbers = {"classes": NAMES, "iou": dict.fromkeys(NAMES, 0.5), "miou": 0.5, "validation_data": "h", "areas": {}}
    write_report(layout.report("evaluate", source), {**numbers, **more})


def test_tables_by_hand(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    swallowed = np.where(TRUTH == 1, 0, TRUTH)
    unsure = TRUTH.copy()
    unsure[0, :2] = 255
    swallowed[2:] = [1, 1, 1, 0, 0]
    audited(layout, "crf", objects=rows(swallowed))
    audited(layout, "cam", objects=rows(unsure))
    audited(layout, "irnet")  # of before objects were counted
    evaluated(layout, "pixel", objects=rows(TRUTH))
    assert object_tables(tmp_path, "car").splitlines() == [
        "| car: pseudo-masks on N2 | 1 to 15 px: 2 | 16 to 31 px: 1 | found | unsure | swallowed | strays |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| cam | 0.50, IoU 1.00 | 1.00, IoU 1.00 | 2 of 3 | 1 | 0 | 0 |",
        "| crf | 0.00, IoU 0.00 | 1.00, IoU 0.60 | 1 of 3 | 0 | 2 | 0 |",
        "",
        "| car: networks on the validation areas, all seeds | 1 to 15 px: 2 | 16 to 31 px: 1 "
        "| found | unsure | swallowed | strays |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| task (i): N1 pixels | 1.00, IoU 1.00 | 1.00, IoU 1.00 | 3 of 3 | 0 | 0 | 0 |",
    ]


def test_what_thresholds_lose_stands_between_two_tables(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    unsure = TRUTH.copy()
    unsure[0, :2] = 255
    winners = {"miou": 1.0, "iou": dict.fromkeys(NAMES, 1.0), "coverage": 1.0, "objects": rows(TRUTH)}
    audited(layout, "cam", objects=rows(unsure), winners=winners)
    audited(layout, "crf", objects=rows(unsure))  # of before maps were audited
    lines = object_tables(tmp_path, "car").splitlines()
    assert lines[0].startswith("| car: maps on N2, without thresholds |")
    assert lines[2:4] == ["| cam | 1.00, IoU 1.00 | 1.00, IoU 1.00 | 3 of 3 | 0 | 0 | 0 |", ""]
    assert lines[4].startswith("| car: pseudo-masks on N2 |")
    assert [line.split(" | ")[3] for line in lines[6:]] == ["2 of 3", "2 of 3"]


def test_brief_tables_keep_the_sizes_that_hold_a_tenth_of_the_objects(tmp_path: Path) -> None:
    """One of 12 objects is large; the 11 of a pixel each are all found, the large one is not."""
    truth = np.zeros((9, 23))
    truth[0, ::2][:11] = 1
    truth[2:, :10] = 1
    guess = np.where(np.arange(9)[:, None] > 0, 0, truth)
    table = object_scores(count_objects(truth.astype(np.uint8), guess.astype(np.uint8), 2), NAMES)
    audited(Layout(tmp_path), "cam", objects=table)
    done = CliRunner().invoke(app, ["--root", str(tmp_path), "objects", "car", "--brief"])
    assert done.stdout.splitlines() == [
        "| car: pseudo-masks on N2 | found | unsure | swallowed | strays | IoU, 1 to 15 px |",
        "| --- | --- | --- | --- | --- | --- |",
        "| cam | 11 of 12 | 0 | 1 | 0 | 1.00 |",
    ]


def test_the_command_prints_them(tmp_path: Path) -> None:
    audited(Layout(tmp_path), "cam", objects=rows(TRUTH))
    done = CliRunner().invoke(app, ["--root", str(tmp_path), "objects", "car"])
    assert done.stdout.splitlines()[2:] == ["| cam | 1.00, IoU 1.00 | 1.00, IoU 1.00 | 3 of 3 | 0 | 0 | 0 |"]


def test_reports_without_objects_and_unknown_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no report counts objects; expected reports/audit and reports/evaluate"):
        object_tables(tmp_path, "car")
    audited(Layout(tmp_path), "cam")
    with pytest.raises(StageError, match="no report counts objects"):
        object_tables(tmp_path, "car")
    audited(Layout(tmp_path), "cam", objects=rows(TRUTH))
    with pytest.raises(ParamsError, match="class 'cars'; expected one of car, road"):
        object_tables(tmp_path, "cars")
