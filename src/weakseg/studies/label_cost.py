"""What labels cost, what they bring, and what to label next: numbers, one picture and one sentence.

Costs are an annotator's hours by the prices of ``labels.prices``, which `weakseg tag` measures; what labels bring is
the mIoU on the validation areas of networks trained at several budgets. :mod:`weakseg.studies.budgets` trains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.files import atomic_path
from weakseg.evaluation.bootstrap import Interval, paired_bootstrap
from weakseg.evaluation.metrics import Confusion
from weakseg.labels.prices import LabelPrices

KINDS: Final = {"pixel_areas": "pixel areas", "tag_crops": "tagged crops", "boxes": "boxes"}
COLOURS: Final = {
    "pixel_areas": "#0072b2",
    "tag_crops": "#d55e00",
    "boxes": "#009e73",
}  # Okabe and Ito: safe for all eyes


@dataclass(frozen=True)
class Labels:
    """What somebody has labelled.

    Attributes:
        pixel_areas: areas with pixel labels; pixels: of their raw rasters.
        tag_crops: crops with tags.
        boxes: bounding boxes.
    """

    pixel_areas: int
    pixels: int
    tag_crops: int
    boxes: int


@dataclass(frozen=True)
class Point:
    """One budget and what came of it.

    Attributes:
        name, source: of the budget.
        labels: what it bought.
        hours: of an annotator.
        seeds: mIoU on validation per seed.
        areas: confusion matrix int64 (C, C) per validation area, summed over the seeds.
    """

    name: str
    source: str
    labels: Labels
    hours: float
    seeds: tuple[float, ...]
    areas: Mapping[str, Confusion]

    @property
    def miou(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.seeds))

    def row(self) -> dict[str, Any]:
        """The point as reports/label_cost.json has it."""
        labels = asdict(self.labels)
        labels.pop("pixels")
        return {
            **{"budget_name": self.name, "source": self.source, **labels},
            **{"cost_hours": self.hours, "miou": self.miou, "seeds": list(self.seeds)},
        }


@dataclass(frozen=True)
class Gain:
    """What more labels of one kind have brought, all else equal.

    Attributes:
        kind: key of ``KINDS``.
        base, more: names of the budgets.
        hours: what the further labels cost.
        miou: gain with its interval (paired bootstrap over the validation areas, seeds pooled).
    """

    kind: str
    base: str
    more: str
    hours: float
    miou: Interval

    @property
    def per_hour(self) -> Interval:
        """Gain per hour of labelling."""
        return Interval(self.miou.value / self.hours, self.miou.low / self.hours, self.miou.high / self.hours)


def cost_hours(labels: Labels, classes: int, prices: LabelPrices) -> float:
    """Hours of an annotator: pixels by their area, tags by class and crop, boxes by the piece."""
    tags, boxes = labels.tag_crops * prices.crop_seconds(classes), labels.boxes * prices.box.seconds
    return (prices.pixel_seconds(labels.pixels) + tags + boxes) / 3600


def describe_prices(prices: LabelPrices) -> str:
    """One sentence: the seconds of each kind of label, and who says so."""
    look = f"{prices.look.seconds:.2f} s per crop and " if prices.look.seconds else ""
    return (
        f"prices: tags {look}{prices.tag.seconds:.2f} s per class and crop ({prices.tag.source}); boxes "
        f"{prices.box.seconds:.1f} s each ({prices.box.source}); pixels {prices.megapixel.seconds:.0f} s per megapixel "
        f"({prices.megapixel.source})"
    )


def marginal_gains(points: Sequence[Point], names: Sequence[str], *, draws: int, seed: int) -> list[Gain]:
    """Every step between neighbouring budgets that differ in one kind of label alone, by kind and rising count.

    Budgets are compared within one source of training: another method is not another label.

    Args:
        points: the budgets, any order.
        names: the C class names.
        draws, seed: of the bootstrap.
    """
    gains = []
    for kind in KINDS:
        for chain in chains(points, kind):
            for a, b in pairwise(chain):
                if b.hours > a.hours:
                    miou = paired_bootstrap(a.areas, b.areas, names, draws=draws, seed=seed).miou
                    gains.append(Gain(kind, a.name, b.name, b.hours - a.hours, miou))
    return gains


def last_steps(gains: Sequence[Gain]) -> dict[str, Gain]:
    """The last step of each kind: what one more label is worth where most are there already."""
    return {gain.kind: gain for gain in gains}


def advice(gains: Sequence[Gain], seeds: int) -> str:
    """One sentence: what to label next, by the gain per hour of each kind's last step, and how sure that is."""
    steps = sorted(last_steps(gains).values(), key=lambda gain: -gain.per_hour.value)
    if not steps:
        return "Nothing to advise: no two budgets differ in one kind of label alone."
    listed = "; ".join(f"{KINDS[gain.kind]} {_rate(gain)} ({gain.base!r} to {gain.more!r})" for gain in steps)
    sure = [gain for gain in steps if gain.per_hour.low > 0]
    if not sure:
        head = "No kind of label is established to help"
    else:
        head = f"Label {KINDS[sure[0].kind]} next"
        rivals = [g for g in steps if g is not sure[0] and g.per_hour.high > sure[0].per_hour.low]
        if rivals:
            head += f", though {' and '.join(KINDS[gain.kind] for gain in rivals)} may be worth as much"
    missing = [label for kind, label in KINDS.items() if kind not in {gain.kind for gain in steps}]
    tail = f"; not measured: {', '.join(missing)}" if missing else ""
    noise = "one seed, whose noise is not in the intervals" if seeds == 1 else f"{seeds} seeds pooled"
    return f"{head}: an hour more buys, in mIoU, {listed}{tail} (95 % intervals over the validation areas; {noise})."


def _rate(gain: Gain) -> str:
    rate = gain.per_hour
    if rate.low != rate.low:
        return f"{rate.value:+.4f}"
    return f"{rate.value:+.4f} [{rate.low:+.4f}, {rate.high:+.4f}]"


def draw_curve(points: Sequence[Point], folder: Path, *, tags_by: str) -> list[Path]:
    """Write label_cost.svg and label_cost.png: mIoU against hours, a line per kind of label, seeds as bars.

    ``tags_by``: who says how long a tag takes.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "weakseg"  # equal numbers, equal files
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for kind, line in curve_lines(points).items():
        axes.plot([p.hours for p in line], [p.miou for p in line], color=COLOURS[kind], label=f"more {KINDS[kind]}")
    for point in points:
        colour = COLOURS[_kind_of(point)]
        spread = [[point.miou - min(point.seeds)], [max(point.seeds) - point.miou]]
        axes.errorbar([point.hours], [point.miou], yerr=spread, fmt="o", color=colour, capsize=3)
        axes.annotate(point.name, (point.hours, point.miou), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"hours of labelling\n(seconds of a tag: {tags_by})")
    axes.set_ylabel("mIoU on the validation areas")
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    written = []
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
        with atomic_path(folder / f"label_cost{suffix}") as temporary:
            figure.savefig(temporary, dpi=110, metadata=metadata)
        written.append(folder / f"label_cost{suffix}")
    plt.close(figure)
    return written


def curve_lines(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Per kind of label the longest chain of budgets of one source that differ in that kind alone, by rising hours."""
    longest = {kind: max(chains(points, kind), key=len, default=[]) for kind in KINDS}
    return {kind: chain for kind, chain in longest.items() if len(chain) > 1}


def chains(points: Sequence[Point], kind: str) -> list[list[Point]]:
    """Budgets of one source that differ in one kind of label alone, by its rising count; each point is in one chain."""
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        key = (point.source, *(getattr(point.labels, other) for other in KINDS if other != kind))
        groups.setdefault(key, []).append(point)
    return [sorted(group, key=lambda point: int(getattr(point.labels, kind))) for group in groups.values()]


def _kind_of(point: Point) -> str:
    """The kind that a budget buys beside pixel areas."""
    return "boxes" if point.labels.boxes else "tag_crops" if point.labels.tag_crops else "pixel_areas"
