"""What the page says about the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from weakseg.evaluation.bootstrap import Interval
from weakseg.report import text
from weakseg.report.content import Page, Row

NAN = math.nan


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (Interval(0.1, 0.05, 0.2), "Cam beats task (i) by +0.100 mIoU (95 % interval +0.050 to +0.200)."),
        (Interval(0.013, -0.037, 0.055), "Cam is 0.013 mIoU above task (i), but the 95 % interval −0.037 to +0.055"),
        (Interval(-0.01, -0.05, 0.02), "Cam is 0.010 mIoU below task (i), but"),
        (
            Interval(-0.1, -0.2, -0.05),
            "No source of task (ii) beats task (i); the nearest, cam, stays −0.100 mIoU away",
        ),
        (Interval(0.1, NAN, NAN), "Cam differs from task (i) by +0.100 mIoU; one validation area allows no interval."),
    ],
)
def test_verdict(new_row: Callable[..., Row], gain: Interval, says: str) -> None:
    rows = [new_row("pixel", 0.4), new_row("crf", 0.1, gain=Interval(-0.3, -0.4, -0.2)), new_row("cam", 0.5, gain=gain)]
    assert text.verdict(rows).startswith(says)
    assert text.verdict(rows[:1]).startswith("Only task (i)")


def test_pictures_show_task_i_the_best_and_the_oracle(new_row: Callable[..., Row]) -> None:
    rows = [new_row(name, miou) for name, miou in (("pixel", 0.4), ("full", 0.9), ("cam", 0.3), ("crf", 0.35))]
    assert text.shown_first(rows) == ["pixel", "crf", "full"]
    assert text.shown_first(rows[:1]) == ["pixel"]


def test_cautions(new_page: Callable[..., Page], new_row: Callable[..., Row]) -> None:
    rows = [new_row("pixel", 0.4), new_row("cam", 0.5), new_row("crf", 0.45)]
    said = text.cautions(new_page(rows=rows, warnings=["Look out."]))
    assert said[0] == "Look out."
    assert "highest of 2 sources" in said[1]
    assert said[2].startswith("One seed each")
    assert said[3].startswith("The oracle has not been evaluated")
    assert text.cautions(new_page(rows=[new_row("pixel", 0.4, seeds=3), new_row("full", 0.5, seeds=3)])) == []


def test_gaps_in_words() -> None:
    assert (text.gap_text(None), text.gap_limits(None)) == ("–", "")
    assert text.gap_text(Interval(0.5, NAN, NAN)) == "gap not established"
    assert text.gap_text(Interval(NAN, NAN, NAN)) == "–"
    found = Interval(-0.25, -0.5, 0.1)
    assert (text.gap_text(found), text.gap_limits(found)) == ("−25 %", "−50 % to 10 %")
    assert (text.number(None), text.number(NAN), text.number(0.12345)) == ("–", "–", "0.123")
