"""Costs, marginal gains and the sentence, by hand; the picture."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weakseg.core.params import BudgetParams, LabelCostParams
from weakseg.evaluation.bootstrap import Interval
from weakseg.labels.prices import Price, price_labels
from weakseg.studies.label_cost import (
    KINDS,
    Gain,
    Labels,
    Point,
    advice,
    cost_hours,
    curve_lines,
    describe_prices,
    draw_curve,
    marginal_gains,
)

ASSUMED = LabelCostParams(
    pixel_seconds_per_megapixel=2575.0,
    tag_seconds_per_class=1.0,
    box_seconds=7.0,
    budgets=(BudgetParams(name="a", source="pixel", pixel=1, tags=0.0, boxes=0.0),),
)
PRICES = price_labels([], ASSUMED)
NAMES = ("road", "car")


def point(name: str, right: int, pixel: int, tags: int = 0, boxes: int = 0, source: str = "consistency") -> Point:
    """Three areas with ``right`` px on the diagonal and 10 off it."""
    labels = Labels(pixel, pixel * 1_000_000, tags, boxes)
    matrix = np.array([[right, 10], [10, right]])
    areas = {area: matrix * (1 + index) for index, area in enumerate("abc")}
    return Point(name, source, labels, cost_hours(labels, 5, PRICES), (right / (right + 20),), areas)


def test_costs_by_hand() -> None:
    """2.1 Mpx, the size of a Cityscapes image: an hour and a half."""
    assert cost_hours(Labels(1, 2_097_152, 0, 0), 5, PRICES) == pytest.approx(1.5, rel=1e-3)
    assert cost_hours(Labels(0, 0, 720, 0), 5, PRICES) == 1.0  # 5 s a crop
    assert cost_hours(Labels(0, 0, 0, 3600), 5, PRICES) == 7.0
    assert cost_hours(Labels(2, 1_000_000, 720, 3600), 5, PRICES) == pytest.approx(8 + 2575 / 3600)
    timed = replace(PRICES, tag=Price(0.25, "median of 812 answers of 2 annotators"))
    assert cost_hours(Labels(0, 0, 720, 0), 5, timed) == 0.25
    assert describe_prices(timed) == (
        "prices: tags 0.25 s per class and crop (median of 812 answers of 2 annotators); boxes 7.0 s each (literature: "
        "Papadopoulos et al. 2017, extreme clicking); pixels 2575 s per megapixel (literature: Cordts et al. 2016, "
        "Cityscapes, 1.5 h for 2.1 Mpx)"
    )


def test_gains_are_steps_in_one_kind_within_one_source() -> None:
    points = [
        *(point("p3", 60, 3), point("p1", 40, 1), point("p5", 80, 5)),
        *(point("t", 70, 3, tags=720), point("tt", 90, 3, tags=7200), point("b", 60, 3, boxes=100)),
        *(point("other", 10, 2, source="pixel"), point("both", 99, 3, tags=720, boxes=100)),
    ]
    gains = marginal_gains(points, NAMES, draws=50, seed=0)
    steps = {(gain.kind, gain.base, gain.more) for gain in gains}
    assert steps == {
        *{("pixel_areas", "p1", "p3"), ("pixel_areas", "p3", "p5")},
        *{("tag_crops", "p3", "t"), ("tag_crops", "t", "tt"), ("tag_crops", "b", "both")},
        *{("boxes", "p3", "b"), ("boxes", "t", "both")},
    }
    found = {(gain.base, gain.more): gain for gain in gains}
    one = found["p3", "t"]
    assert one.hours == pytest.approx(1.0)
    assert one.miou.value == pytest.approx(70 / 90 - 60 / 80)
    assert one.per_hour.value == one.miou.value
    assert found["t", "tt"].per_hour.value == pytest.approx((90 / 110 - 70 / 90) / 9)
    assert found["p3", "b"].miou.value == 0


def gain(kind: str, value: float, low: float, high: float, hours: float = 2.0) -> Gain:
    return Gain(kind, "old", "new", hours, Interval(value, low, high))


def test_advice_names_the_best_established_kind() -> None:
    gains = [
        *(gain("pixel_areas", 0.5, 0.4, 0.6), gain("pixel_areas", 0.02, 0.01, 0.03)),  # the last step counts
        *(gain("tag_crops", 0.2, 0.1, 0.3), gain("boxes", 0.3, -0.1, 0.7)),
    ]
    said = advice(gains, 3)
    assert said.startswith(
        "Label tagged crops next, though boxes may be worth as much: an hour more buys, in mIoU, boxes +0.1500 ["
    )
    assert "tagged crops +0.1000 [+0.0500, +0.1500] ('old' to 'new'); pixel areas +0.0100 [" in said
    assert said.endswith("(95 % intervals over the validation areas; 3 seeds pooled).")
    assert "\n" not in said


def test_advice_does_not_claim_what_is_not_established() -> None:
    said = advice([gain("tag_crops", 0.2, -0.1, 0.3), gain("boxes", 0.1, math.nan, math.nan)], 1)
    assert said.startswith("No kind of label is established to help: ")
    assert "boxes +0.0500 ('old' to 'new'); not measured: pixel areas" in said
    assert "one seed, whose noise is not in the intervals" in said
    assert advice([], 1).startswith("Nothing to advise")


def test_row_has_the_fields_of_the_report() -> None:
    assert point("t", 70, 3, tags=720, boxes=2).row() == {
        **{"budget_name": "t", "source": "consistency", "pixel_areas": 3, "tag_crops": 720, "boxes": 2},
        **{"cost_hours": pytest.approx(3 * 2575 / 3600 + 1 + 14 / 3600), "miou": 70 / 90, "seeds": [70 / 90]},
    }


def test_picture_has_a_line_per_kind_and_is_the_same_twice(tmp_path: Path) -> None:
    points = [point("p1", 40, 1), point("p3", 60, 3), point("t", 70, 3, tags=720), point("b", 61, 3, boxes=100)]
    lines = curve_lines(points)
    assert {kind: [p.name for p in line] for kind, line in lines.items()} == {
        **{"pixel_areas": ["p1", "p3"], "tag_crops": ["p3", "t"], "boxes": ["p3", "b"]},
    }
    assert set(lines) == set(KINDS)
    svg, png = draw_curve(points, tmp_path, tags_by="median of 812 answers")
    first = svg.read_bytes()
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert all(
        f"<!-- {text} -->".encode() in first
        for text in ("p1", "more tagged crops", "more boxes", "(seconds of a tag: median of 812 answers)")
    )
    draw_curve(points, tmp_path, tags_by="median of 812 answers")
    assert svg.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["label_cost.png", "label_cost.svg"]
