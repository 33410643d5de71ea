"""Numbers and sentences of the page: what a figure says, and what it does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from weakseg.evaluation.bootstrap import Interval
from weakseg.report.content import Page, Row


def number(value: float | None) -> str:
    """0.392, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """+0.013 or −0.029, with a true minus."""
    return f"{value:+.3f}".replace("-", "−")


def limits(interval: Interval | None) -> str:
    """The interval in words, "" where it is not known."""
    if interval is None or math.isnan(interval.low):
        return ""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def gap_text(gap: Interval | None) -> str:
    """The share of the gap closed, "not established" where the oracle is not clearly above task (i)."""
    if gap is None or math.isnan(gap.value):
        return "–"
    return "gap not established" if math.isnan(gap.low) else percent(gap.value)


def gap_limits(gap: Interval | None) -> str:
    if gap is None or math.isnan(gap.value) or math.isnan(gap.low):
        return ""
    return f"{percent(gap.low)} to {percent(gap.high)}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def plain(name: str) -> str:
    """A class or method name for readers."""
    return name.replace("_", " ")


def best_weak(rows: Sequence[Row]) -> Row | None:
    """The row of task (ii) with the highest mIoU."""
    return max((row for row in rows if row.role == "task_ii"), key=lambda row: row.miou, default=None)


def weak_name(row: Row) -> str:
    """A source of task (ii) inside a sentence."""
    return row.label.removeprefix("task (ii): ")


def shown_first(rows: list[Row]) -> list[str]:
    """Sources that every picture shows: task (i), the best of task (ii), the oracle."""
    best = best_weak(rows)
    return [row.source for row in rows if row.role == "task_i"] + [
        row.source for row in [best, *(row for row in rows if row.role == "oracle")] if row is not None
    ]


def verdict(rows: list[Row]) -> str:
    """The first sentence of the page: whether task (ii) beats task (i)."""
    best = best_weak(rows)
    if best is None or best.gain is None:
        return "Only task (i) has been evaluated so far: there is nothing to compare it with."
    gain, name = best.gain, weak_name(best)
    size = f"{signed(gain.value)} mIoU"
    if math.isnan(gain.low):
        return f"{_sentence(name)} differs from task (i) by {size}; one validation area allows no interval."
    interval = f"95 % interval {limits(gain)}"
    if gain.low > 0:
        return f"{_sentence(name)} beats task (i) by {size} ({interval})."
    if gain.high < 0:
        return f"No source of task (ii) beats task (i); the nearest, {name}, stays {size} away ({interval})."
    side = "above" if gain.value >= 0 else "below"
    return (
        f"{_sentence(name)} is {size[1:]} {side} task (i), but the {interval} includes zero: "
        "on these areas the difference is not established."
    )


def cautions(page: Page) -> list[str]:
    """What a reader should know before believing the numbers."""
    found = list(page.warnings)
    weak = [row for row in page.rows if row.role == "task_ii"]
    best = best_weak(page.rows)
    if best is not None and len(weak) > 1:
        found.append(
            f"{_sentence(weak_name(best))} is named first because it is the highest of {len(weak)} sources on the "
            "validation areas themselves; a pick made after the fact is somewhat flattering."
        )
    if all(row.seeds <= 1 for row in page.rows):
        found.append("One seed each: how much a second training would differ is not known.")
    if not any(row.role == "oracle" for row in page.rows):
        found.append("The oracle has not been evaluated, so the share of the gap closed is unknown.")
    return found


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
