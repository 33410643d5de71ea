"""Two hundred classes: no column, chart and matrix row for each, but a table that can be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from tests.report.conftest import make_page, make_row
from tests.report.test_table import evaluated

from weakseg.core.classes import ClassScheme
from weakseg.evaluation.metrics import to_json
from weakseg.evaluation.reports import AreaScores
from weakseg.report import table
from weakseg.report.figures import draw_confusion
from weakseg.report.many_classes import CONFUSED, MANY, TOLD, telling_classes, worst_confusions
from weakseg.report.render import render_page

NAMES = tuple(f"class_{number}" for number in range(200))


def test_the_classes_in_which_tags_make_most_difference() -> None:
    first = dict.fromkeys(NAMES, 0.5) | {"class_7": None}
    second = {name: 0.5 + number / 1000 for number, name in enumerate(NAMES)} | {"class_3": 0.1, "class_9": None}
    told = telling_classes(first, second, NAMES)
    assert len(told) == TOLD
    assert told[:2] == ["class_199", "class_198"]
    assert told[-1] == "class_3"  # the one that loses


def test_the_worst_confusions_by_hand() -> None:
    confusion = np.array([[50, 30, 20], [0, 0, 0], [5, 0, 5]])
    assert worst_confusions(confusion, ("a", "b", "c")) == [
        ("a", "b", 30, 0.3),
        ("a", "c", 20, 0.2),
        ("c", "a", 5, 0.5),
    ]
    many = worst_confusions(np.ones((200, 200), int), NAMES)
    assert len(many) == CONFUSED
    assert many[0] == ("class_0", "class_1", 1, 0.005)


def test_a_matrix_of_many_classes_is_no_larger_than_one_of_few(tmp_path: Path) -> None:
    sizes = {}
    for count in (MANY, 200):
        draw_confusion(tmp_path / "a.png", np.eye(count, dtype=int), NAMES[:count])
        sizes[count] = cv2.imread(str(tmp_path / "a.png")).shape
    assert sizes[200][0] <= sizes[MANY][0]
    assert sizes[200][0] >= 200 * 8


def test_the_table_has_a_row_per_class() -> None:
    iou = {name: number / 200 for number, name in enumerate(NAMES)}
    report = evaluated(8, 1)
    row = table.compare("pixel", {"pixel": report}, table.ReportParams(draws=10, seed=0))
    text = table.render([row | {"classes": NAMES, "iou": iou}], {})
    lines = text.splitlines()
    assert "class" not in lines[0]
    assert lines[0].count("|") == lines[2].count("|") == 9
    assert "| IoU | pixel |" in lines
    assert "| class 100 | 0.500 |" in lines
    assert sum(line.startswith("| class") for line in lines) == 200


def test_the_page_stays_readable() -> None:
    scheme = ClassScheme(NAMES, tuple((number, 255 - number, 7) for number in range(200)))
    iou = dict.fromkeys(NAMES, 0.4)
    rows = [
        make_row("pixel", 0.4, iou=iou),
        make_row("cam", 0.5, iou=iou | {"class_17": 0.9}),
    ]
    page = make_page(
        scheme=scheme, safe_colours=False, rows=rows, audits=[], confusions={"pixel": np.eye(200, dtype=np.int64) + 1}
    )
    html = render_page(page)
    assert html.count("<figcaption><i class=") == TOLD
    assert "Of 200 classes the 12 in which tags make most difference" in html
    assert html.count("<th>taken for</th>") == 1  # a table of pairs, not 40,000 cells
    assert "<details><summary>All 200 classes</summary>" in html
    assert html.count("<td") < 3000


def test_a_report_of_many_classes_keeps_the_cells_that_are_not_empty() -> None:
    """Three wrong cells of 40,000 take three lines, and come back as the same matrix."""
    matrix = np.zeros((200, 200), np.int64)
    matrix[3, 3], matrix[3, 7], matrix[199, 0] = 50, 4, 2
    area = AreaScores.model_validate({"confusion": matrix})
    written = to_json(area.model_dump())["confusion"]  # type: ignore[index,call-overload]
    assert written == {"classes": 200, "cells": [[3, 3, 50], [3, 7, 4], [199, 0, 2]]}
    np.testing.assert_array_equal(AreaScores.model_validate({"confusion": written}).confusion, matrix)
    few = AreaScores.model_validate({"confusion": [[1, 2], [3, 4]]})
    assert to_json(few.model_dump())["confusion"] == [[1, 2], [3, 4]]  # type: ignore[index,call-overload]
    with pytest.raises(ValidationError, match="cells of a confusion matrix lie inside it"):
        AreaScores.model_validate({"confusion": {"classes": 2, "cells": [[2, 0, 1]]}})
