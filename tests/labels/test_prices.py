"""Seconds of a label, by hand: the median of what people took, shared out among the classes asked; or assumptions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.layout import Layout
from weakseg.core.params import BudgetParams, LabelCostParams
from weakseg.labels.answers import TagAnswer
from weakseg.labels.prices import LITERATURE, Price, price_labels, read_prices
from weakseg.pipeline.presets import load_preset

BUDGETS = (BudgetParams(name="a", source="pixel", pixel=1, tags=0.0, boxes=0.0),)
ASSUMED = LabelCostParams(
    pixel_seconds_per_megapixel=2575.0, tag_seconds_per_class=1.0, box_seconds=35.0, budgets=BUDGETS
)


def answer(number: int, seconds: float, classes: Sequence[str] = ISPRS.names, who: str = "Ana") -> TagAnswer:
    mode = "crop" if len(classes) > 1 else "grid"
    present, absent = tuple(classes[:1]), tuple(classes[1:])
    time = "2026-11-28T08:00:00.000Z"
    return TagAnswer(f"n{number}", "t1", (0, number, 16, 16), (64, 64), present, absent, (), who, time, seconds, mode)


def test_the_median_of_the_seconds_per_class_replaces_the_assumption() -> None:
    """Eleven crops of 5 s with five classes are 1 s a class; ten cells of a grid 0.4 s; the 11th of 21 is 1 s."""
    answers = [answer(i, 5.0) for i in range(11)] + [answer(i, 0.4, ["car"], "Ben") for i in range(20, 30)]
    prices = price_labels(answers, ASSUMED)
    assert prices.tag == Price(1.0, "median of 21 answers of 2 annotators")
    assert prices.crop_seconds(5) == 5.0
    prices = price_labels([*answers, *(answer(i, 0.4, ["car"], "Ben") for i in range(30, 33))], ASSUMED)
    assert prices.tag == Price(pytest.approx(0.4), "median of 24 answers of 2 annotators")


def test_looks_are_told_from_questions_where_there_are_answers_about_few_and_many_classes() -> None:
    """Crops of five classes take 6 s, single questions 2 s: 1 s a question, and 1 s to look."""
    answers = [answer(i, 6.0) for i in range(20)] + [answer(i, 2.0, ["car"]) for i in range(20, 40)]
    prices = price_labels(answers, ASSUMED)
    assert prices.tag == Price(pytest.approx(1.0), "median of 40 answers of 1 annotator about 1 to 5 classes")
    assert prices.look == Price(pytest.approx(1.0), "median of 40 answers of 1 annotator")
    assert [prices.crop_seconds(count) for count in (0, 1, 5)] == pytest.approx([0.0, 2.0, 6.0])
    slow = price_labels([answer(i, 2.0) for i in range(20)] + answers[20:], ASSUMED)  # five are as quick as one
    assert (slow.tag.seconds, slow.look.seconds) == pytest.approx((0.1, 1.9))
    grid = price_labels(answers[:20] + [answer(i, 0.4, ["car"]) for i in range(20, 40)], ASSUMED)
    assert grid.look.seconds == 0.0  # cells of a grid are quicker than a fifth of a crop: no look is left over
    assert grid.tag.seconds == pytest.approx(0.8)  # median of twenty times 1.2 and twenty times .4


def test_coffee_beside_some_crops_does_not_count() -> None:
    answers = [answer(i, 4.0 + i / 10) for i in range(21)]  # 4.0 to 6.0 s, the median 5.0
    coffee = [answer(i, 600.0) if i > 16 else one for i, one in enumerate(answers)]
    assert price_labels(answers, ASSUMED).tag.seconds == pytest.approx(1.0)
    assert price_labels(coffee, ASSUMED).tag.seconds == pytest.approx(1.0)
    assert price_labels(answers, ASSUMED).tag.source == "median of 21 answers of 1 annotator"


def test_few_answers_or_answers_without_seconds_measure_nothing() -> None:
    untimed = [answer(i, 0.0) for i in range(100)]
    few = [answer(i, 3.0) for i in range(19)]
    prices = price_labels(few + untimed, ASSUMED)
    assert prices.tag == Price(1.0, "literature: Bearman et al. 2016, 20 s for 20 classes")
    assert prices.box == Price(35.0, "params.yaml: label_cost.box_seconds")  # not the literature's 7 s
    assert prices.megapixel.source == "literature: Cordts et al. 2016, Cityscapes, 1.5 h for 2.1 Mpx"
    assert prices.pixel_seconds(2_000_000) == 5150.0
    assert price_labels([*few, answer(99, 3.0)], ASSUMED).tag.source == "median of 20 answers of 1 annotator"


def test_a_workspace_is_priced_by_the_answers_in_its_data(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_prices(layout, ISPRS, ASSUMED).tag.seconds == 1.0
    for path, seconds in ((layout.answers, 50.0), (layout.merged_answers, 10.0)):  # merged ones alone count
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(answer(i, seconds).to_json()) + "\n" for i in range(20)))
    assert read_prices(layout, ISPRS, ASSUMED).tag == Price(2.0, "median of 20 answers of 1 annotator")


def test_the_presets_have_the_prices_of_the_literature() -> None:
    section = load_preset("demo").label_cost
    assert {key: getattr(section, key) for key in LITERATURE} == {key: value for key, (value, _) in LITERATURE.items()}
