"""Charts as inline SVG. Bars and whiskers use percentages, so that their text keeps its size on a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from weakseg.evaluation.bootstrap import Interval
from weakseg.report.content import CostPoint, Curve, Row
from weakseg.report.text import best_weak, limits, number, plain, signed

_LINE = 44  # px per row of the gain chart
_BAR = 22  # px per bar
_SHAPES = ("circle", "square", "triangle", "diamond")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them, zero exactly zero."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def decimals(marks: Sequence[float]) -> int:
    """How many decimals the labels of these ticks need."""
    return next((n for n in range(6) if all(abs(round(mark, n) - mark) < 1e-9 for mark in marks)), 6)


def gain_chart(rows: Sequence[Row]) -> Markup:
    """mIoU of each source minus task (i), with its interval, around a line at zero."""
    shown = [(row, row.gain) for row in rows if row.gain is not None]
    ends = [0.0, *(v for _, gain in shown for v in (gain.value, gain.low, gain.high) if not math.isnan(v))]
    low, high = _padded(min(ends), max(ends), 0.06)

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    height = _LINE * len(shown) + 42
    parts = [_open("gain", f'width="100%" height="{height}"', "Gain over task (i) in mIoU, with 95 % intervals")]
    marks = ticks(low, high)
    for value in marks:
        parts.append(f'<line class="grid" x1="{place(value)}" x2="{place(value)}" y1="18" y2="{height - 22}"/>')
        label = "0" if abs(value) < 1e-12 else f"{value:+.{decimals(marks)}f}".replace("-", "−")
        parts.append(f'<text class="tick" x="{place(value)}" y="{height - 6}" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="zero" x1="{place(0)}" x2="{place(0)}" y1="18" y2="{height - 22}"/>')
    parts.append(f'<text class="tick" x="{place(0)}" y="12" text-anchor="middle">task (i)</text>')
    best = best_weak(rows)
    for index, (row, gain) in enumerate(shown):
        parts.append(_gain_row(row, gain, 24 + _LINE * index, place, best=row is best))
    return Markup("".join(parts) + "</svg>")


def _gain_row(row: Row, gain: Interval, top: int, place: Callable[[float], str], *, best: bool) -> str:
    middle = top + 26
    said = f"{signed(gain.value)}" + (f" [{limits(gain)}]" if limits(gain) else "")
    parts = [
        f'<g class="{row.role}{" best" if best else ""}"><title>{escape(row.label)}: {said}</title>',
        f'<line class="rule" x1="0" x2="100%" y1="{top + _LINE - 5}" y2="{top + _LINE - 5}"/>',
        f'<text class="name" x="0" y="{top + 12}">{escape(row.short)}</text>',
        f'<text class="value" x="100%" y="{top + 12}" text-anchor="end">{said}</text>',
    ]
    if not math.isnan(gain.low):
        parts.append(
            f'<line class="whisker" x1="{place(gain.low)}" x2="{place(gain.high)}" y1="{middle}" y2="{middle}"/>'
        )
    parts.append(f'<circle class="dot" cx="{place(gain.value)}" cy="{middle}" r="5.5"/></g>')
    return "".join(parts)


def class_chart(rows: Sequence[Row], name: str) -> Markup:
    """IoU of one class, a bar per source, a line at task (i)."""
    height = _BAR * len(rows) + 2
    left, span = 36.0, 50.0  # percent of the width
    parts = [_open("bars", f'width="100%" height="{height}"', f"IoU of {plain(name)} by source")]
    for index, row in enumerate(rows):
        value, top = row.iou.get(name), _BAR * index
        width = span * (value if value is not None and not math.isnan(value) else 0.0)
        parts.append(
            f'<g class="{row.role}"><title>{escape(row.label)}: {number(value)}</title>'
            f'<text class="name" x="0" y="{top + 15}">{escape(row.short)}</text>'
            f'<rect class="track" x="{left}%" y="{top + 3}" width="{span}%" height="{_BAR - 6}"/>'
            f'<rect class="bar" x="{left}%" y="{top + 3}" width="{width:.2f}%" height="{_BAR - 6}"/>'
            f'<text class="value" x="100%" y="{top + 15}" text-anchor="end">{number(value)}</text></g>'
        )
    base = next((row.iou.get(name) for row in rows if row.role == "task_i"), None)
    if base is not None and not math.isnan(base):
        at = f"{left + span * base:.2f}%"
        parts.append(f'<line class="zero" x1="{at}" x2="{at}" y1="0" y2="{height}"/>')
    return Markup("".join(parts) + "</svg>")


def curve_chart(curves: Sequence[Curve], curve: Curve) -> Markup:
    """One training in colour, its seeds thin and their mean thick, over all others in grey."""
    everything = [point for other in curves for seed in other.seeds for point in seed if not math.isnan(point[1])]
    right = max((x for x, _ in everything), default=0.0) or 1.0
    low, high = _padded(min([0.0, *(y for _, y in everything)]), max([y for _, y in everything], default=1.0), 0.02)
    box = (34.0, 8.0, 252.0, 118.0)  # left, top, right, bottom of the plot in a 260 x 140 field

    def line(points: Sequence[tuple[float, float]], kind: str) -> str:
        known = [(x, y) for x, y in points if not math.isnan(y)]
        if not known:
            return ""
        spots = [
            (box[0] + (box[2] - box[0]) * x / right, box[3] - (box[3] - box[1]) * (y - low) / (high - low))
            for x, y in known
        ]
        path = f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>'
        return path + "".join(
            f'<circle class="{kind}-dot" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in spots if kind == "mean"
        )

    parts = [_open("curve", 'viewBox="0 0 260 140" width="100%"', f"Learning curve of {curve.label}")]
    marks = ticks(low, high, 4)
    for value in marks:
        y = box[3] - (box[3] - box[1]) * (value - low) / (high - low)
        parts.append(f'<line class="grid" x1="{box[0]}" x2="{box[2]}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{box[0] - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.{decimals(marks)}f}</text>'
        )
    parts += [line(seed, "other") for other in curves if other is not curve for seed in other.seeds]
    parts += [line(seed, "seed") for seed in curve.seeds if len(curve.seeds) > 1]
    parts.append(line(mean_curve(curve), "mean"))
    parts.append(f'<text class="tick" x="{box[0]}" y="134">0</text>')
    parts.append(f'<text class="tick" x="{box[2]}" y="134" text-anchor="end">{right:g} steps</text>')
    return Markup("".join(parts) + "</svg>")


def mean_curve(curve: Curve) -> list[tuple[float, float]]:
    """Mean over seeds at the steps that all seeds have."""
    tables = [dict(seed) for seed in curve.seeds]
    shared = set.intersection(*(set(table) for table in tables)) if tables else set()
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in sorted(shared)]


def cost_chart(points: Sequence[CostPoint]) -> Markup:
    """mIoU against hours of labelling: a named marker per budget, a line along :func:`frontier`."""
    hours, scores = [point.hours for point in points], [point.miou for point in points]
    right = max([*hours, 1e-9]) * 1.04
    low, high = _padded(min(scores), max(scores), 0.1)
    top, bottom, left, span = 8.0, 236.0, 11.0, 88.0  # px; percent of the width

    def across(value: float) -> str:
        return f"{left + span * value / right:.2f}%"

    def down(value: float) -> float:
        return round(bottom - (bottom - top) * (value - low) / (high - low), 1)

    parts = [_open("costs", 'width="100%" height="280"', "mIoU against hours of labelling")]
    marks = ticks(low, high)
    for value in marks:
        parts.append(f'<line class="grid" x1="{left}%" x2="{left + span}%" y1="{down(value)}" y2="{down(value)}"/>')
        said = f"{value:.{decimals(marks)}f}"
        parts.append(f'<text class="tick" x="{left - 1}%" y="{down(value) + 4}" text-anchor="end">{said}</text>')
    for value in ticks(0, right, 6):
        parts.append(f'<text class="tick" x="{across(value)}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{left + span}%" y="{bottom + 38}" text-anchor="end">hours of labelling</text>')
    for one, two in pairwise(frontier(points)):
        ends = f'x1="{across(one.hours)}" y1="{down(one.miou)}" x2="{across(two.hours)}" y2="{down(two.miou)}"'
        parts.append(f'<line class="frontier" {ends}/>')
    sources = list(dict.fromkeys(point.source for point in points))
    for point in points:
        index = sources.index(point.source)
        said = f"{plain(point.source)}, {point.budget}: {number(point.miou)} mIoU after {point.hours:g} h"
        beside = 'x="9" text-anchor="start"' if point.hours < 0.6 * right else 'x="-9" text-anchor="end"'
        parts.append(
            f'<g class="s{index % len(_SHAPES)}"><title>{escape(said)}</title>'
            f'<svg x="{across(point.hours)}" y="{down(point.miou)}"><g class="marker">{marker(index, 0, 0)}</g>'
            f'<text {beside} y="4">{escape(point.budget)}</text></svg></g>'
        )
    return Markup("".join(parts) + "</svg>")


def frontier(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The budgets that no cheaper or equally dear one matches, by rising cost."""
    best: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.hours, -point.miou)):
        if not best or point.miou > best[-1].miou:
            best.append(point)
    return best


def marker(index: int, x: float, y: float, size: float = 5.0) -> str:
    """Number ``index`` of the marker shapes around (x, y), so that series differ without colour."""
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }
    shape = _SHAPES[index % len(_SHAPES)]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    return f'<polygon points="{" ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in corners[shape])}"/>'


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    room = (high - low) * share or 0.01
    return low - room, high + room


def _open(kind: str, size: str, said: str) -> str:
    return f'<svg class="{kind}" {size} role="img" aria-label="{escape(said)}">'
