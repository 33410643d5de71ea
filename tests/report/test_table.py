"""The table of results: gains, the share of the gap closed, and how they are written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from weakseg.core.params import ReportParams
from weakseg.evaluation.bootstrap import Interval
from weakseg.evaluation.reports import AreaScores, AuditReport, EvaluationReport, parse_evaluation
from weakseg.report import table

OPTIONS = ReportParams(draws=200, seed=0)


def evaluated(right: int, wrong: int, **changes: Any) -> EvaluationReport:
    """A report of three areas with two classes, ``right`` pixels on the diagonal, as it comes back from JSON."""
    matrix = [[right, wrong], [wrong, right]]
    iou = right / (right + 2 * wrong)
    content: dict[str, Any] = {
        **{"classes": ["road", "car"], "validation_data": "h"},
        **{"miou": iou, "iou": {"road": iou, "car": None}, "oa": 0.5, "mf1": 0.5, "miou_eroded": None},
        **{"iou_batch_mean": 0.5, "selection": "last", **changes},
        "miou_over_seeds": {"mean": iou, "low": iou - 0.01, "high": iou + 0.01, "count": 3},
        "areas": {name: {"confusion": matrix} for name in "abc"},
    }
    return parse_evaluation(json.dumps(content), "a report", cure="none")


def test_gain_and_gap_by_hand() -> None:
    """IoU 0.5 for task (i), 0.8 for task (ii), 1.0 for the oracle: 0.3 / 0.5 of the gap."""
    reports = {"pixel": evaluated(2, 1), "cam": evaluated(8, 1), "full": evaluated(9, 0)}
    row = table.compare("cam", reports, OPTIONS)
    assert row["gain"].value == pytest.approx(0.3)
    assert row["gap_closed"].value == pytest.approx(0.6)
    assert (row["gap_closed"].low, row["gap_closed"].high) == (pytest.approx(0.6), pytest.approx(0.6))
    pixel, full = (table.compare(name, reports, OPTIONS) for name in ("pixel", "full"))
    assert (pixel["gain"], pixel["gap_closed"], full["gap_closed"]) == (None, None, None)
    assert full["gain"].value == pytest.approx(0.5)
    del reports["full"]
    assert table.compare("cam", reports, OPTIONS)["gap_closed"] is None


def test_what_tags_add_to_seeing_the_images_by_hand() -> None:
    """IoU 2/3 for untagged, 0.8 with tags; task (i) and the oracle have no tags to speak of."""
    reports = {"pixel": evaluated(2, 1), "untagged": evaluated(4, 1), "cam": evaluated(8, 1), "full": evaluated(9, 0)}
    gains = {name: table.compare(name, reports, OPTIONS)["gain_by_tags"] for name in reports}
    assert gains["cam"].value == pytest.approx(0.8 - 2 / 3)
    assert (gains["pixel"], gains["untagged"], gains["full"]) == (None, None, None)
    assert (
        table.render([table.compare("cam", reports, OPTIONS)], {})
        .splitlines()[2]
        .endswith("| +0.300 [+0.300, +0.300] | +0.133 [+0.133, +0.133] | 60 % [60, 60] |")
    )


def test_table_shows_missing_numbers_as_dashes() -> None:
    reports = {"pixel": evaluated(2, 1), "cam": evaluated(8, 1), "full": evaluated(9, 0)}
    rows = [table.compare(name, reports, OPTIONS) for name in reports]
    lines = table.render(rows, {}).splitlines()
    assert (
        lines[0]
        == "| source | mIoU | seeds | road | car | OA | mIoU eroded | gain over (i) | over untagged | gap closed |"
    )
    assert lines[1].count("---") == lines[0].count("|") - 1
    assert lines[2] == "| task (i): N1 pixels | 0.500 | 0.490 to 0.510 (3) | 0.500 | - | 0.500 | - | - | - | - |"
    assert lines[3].endswith("| +0.300 [+0.300, +0.300] | - | 60 % [60, 60] |")
    assert lines[3].startswith("| task (ii): cam |")
    assert lines[4].startswith("| oracle: N1 + N2 pixels |")
    assert lines[4].endswith("| +0.500 [+0.500, +0.500] | - | - |")
    assert "not comparable" not in "\n".join(lines)


def test_selection_on_validation_marks_the_table() -> None:
    reports = {"pixel": evaluated(2, 1, selection="validation")}
    assert "chosen on the validation areas" in table.render([table.compare("pixel", reports, OPTIONS)], {})


def test_audits_are_appended() -> None:
    rows = [table.compare("pixel", {"pixel": evaluated(2, 1)}, OPTIONS)]
    scores = {"coverage": 0.75, "accuracy": None, "miou": 0.5, "iou": {"road": 0.5, "car": float("nan")}}
    audit = AuditReport.model_validate(scores)
    assert table.render(rows, {"cam": audit}).splitlines()[-1] == "| cam | 0.750 | - | 0.500 | 0.500 | - |"


def test_intervals_in_words() -> None:
    nan = math.nan
    assert table._interval(None, signed=True) == "-"
    assert table._interval(Interval(-0.0214, nan, nan), signed=True) == "-0.021"
    assert table._interval(Interval(0.5, 0.4, 0.6), signed=False) == "0.500 [0.400, 0.600]"
    assert table._percent(Interval(nan, nan, nan)) == "-"
    assert table._percent(Interval(0.5, nan, nan)) == "gap not established"
    assert table._percent(Interval(-0.25, -0.5, 0.1)) == "-25 % [-50, 10]"


def test_a_class_without_a_pixel_of_truth_is_named() -> None:
    """Predicted or not: the row of the matrix is empty, the column may not be."""
    seen = {"pixel": evaluated(2, 1)}
    assert table.describe_untested(seen) == ""
    assert table.describe_untested({}) == ""
    empty = AreaScores(confusion=[[3, 1], [0, 0]])
    sentence = table.describe_untested({"pixel": evaluated(2, 1).model_copy(update={"areas": {"a": empty}})})
    assert sentence.startswith("In no pixel of the validation areas: car. Nothing here says how well it is found;")
    rows = [table.compare("pixel", seen, OPTIONS)]
    assert sentence in table.render(rows, {}, sentence).splitlines()
    assert "In no pixel" not in table.render(rows, {})
