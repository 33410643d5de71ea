"""Charts: what is drawn where, read back from the SVG."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from weakseg.evaluation.bootstrap import Interval
from weakseg.report import charts
from weakseg.report.content import CostPoint, Curve, Page, Row


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def percents(svg: ElementTree.Element, path: str, key: str) -> list[float]:
    return [float(element.attrib[key].removesuffix("%")) for element in svg.findall(path)]


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.16, 0.19, [-0.1, 0.0, 0.1]),
        (0.371, 0.478, [0.375, 0.4, 0.425, 0.45, 0.475]),
        (2.0, 2.0, [2.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, want: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(want)


def test_decimals_are_as_many_as_needed() -> None:
    assert (charts.decimals([0, 1, 2]), charts.decimals([0.1, 0.2]), charts.decimals([0.375, 0.4])) == (0, 1, 3)


def test_gains_lie_in_order_around_zero(page: Page) -> None:
    svg = parse(charts.gain_chart(page.rows))
    zero = percents(svg, "line[@class='zero']", "x1")[0]
    assert [group.attrib["class"] for group in svg.findall("g")] == ["oracle", "task_ii best"]
    oracle, cam = svg.findall("g")
    scale = (percents(oracle, "circle", "cx")[0] - zero) / 0.2  # percent per mIoU
    assert percents(cam, "circle", "cx")[0] - zero == pytest.approx(0.1 * scale, abs=0.02)
    whisker = percents(cam, "line[@class='whisker']", "x1") + percents(cam, "line[@class='whisker']", "x2")
    assert [(x - zero) / scale for x in whisker] == pytest.approx([0.05, 0.2], abs=1e-3)
    assert "+0.100 [+0.050 to +0.200]" in str(charts.gain_chart(page.rows))


def test_a_gain_without_interval_has_no_whisker(new_row: Callable[..., Row]) -> None:
    nan = float("nan")
    svg = parse(charts.gain_chart([new_row("pixel", 0.4), new_row("cam", 0.5, gain=Interval(0.1, nan, nan))]))
    assert svg.findall("g/line[@class='whisker']") == []
    assert len(svg.findall("g/circle")) == 1


def test_bars_are_as_long_as_their_iou(page: Page) -> None:
    svg = parse(charts.class_chart(page.rows, "road_way"))
    assert percents(svg, "g/rect[@class='bar']", "width") == pytest.approx([20, 30, 25])  # of 50 for IoU 1
    assert percents(svg, "line[@class='zero']", "x1") == pytest.approx([36 + 20])
    empty = parse(charts.class_chart(page.rows, "car"))
    assert percents(empty, "g/rect[@class='bar']", "width") == [0, 0, 0]
    assert [element.text for element in empty.findall("g/text[@class='value']")] == ["–"] * 3
    assert empty.findall("line[@class='zero']") == []


def test_curves_show_the_mean_over_the_others() -> None:
    nan = float("nan")
    mine = Curve("cam", "cam", ([(10, 0.2), (20, 0.4)], [(10, 0.4), (20, nan)]))
    other = Curve("pixel", "task (i)", ([(10, 0.1), (20, 0.5)],))
    assert charts.mean_curve(mine)[0] == (10, pytest.approx(0.3))
    svg = parse(charts.curve_chart([mine, other], mine))
    kinds = [element.attrib["class"] for element in svg.findall("polyline")]
    assert kinds == ["other", "seed", "seed", "mean"]
    spots = [tuple(map(float, spot.split(","))) for spot in svg.findall("polyline")[0].attrib["points"].split()]
    assert spots[0][0] == pytest.approx((34 + 252) / 2)  # step 10 of 20
    assert spots[1][1] < spots[0][1]  # higher is up


def test_costs_have_a_shape_per_source_and_a_frontier() -> None:
    rows = [("b", "pixel", 10, 0.4), ("a", "pixel", 5, 0.3), ("c", "x<y", 20, 0.5), ("dear", "pixel", 15, 0.35)]
    points = [CostPoint(*row, 1) for row in rows]
    assert [point.budget for point in charts.frontier(points)] == ["a", "b", "c"]
    text = str(charts.cost_chart(points))
    svg = parse(text)
    lines = svg.findall("line[@class='frontier']")
    assert len(lines) == 2
    assert lines[0].attrib["x2"] == lines[1].attrib["x1"]
    assert len(svg.findall("g/svg/g/circle")) == 3
    assert len(svg.findall("g/svg/g/polygon")) == 1
    assert [element.text for element in svg.findall("g/svg/text")] == ["b", "a", "c", "dear"]
    assert "x&lt;y, c: 0.500 mIoU after 20 h" in text
    places = [float(found) for found in re.findall(r'<svg x="([\d.]+)%"', text)]
    assert [(x - 11) / 88 * 20 * 1.04 for x in places] == pytest.approx([10, 5, 20, 15], abs=0.01)
