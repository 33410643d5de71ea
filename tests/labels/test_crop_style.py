"""QML of an order: every rank in one rule, the first tenth in a colour of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from weakseg.labels.crop_style import order_style


@pytest.mark.parametrize(
    ("count", "labels"),
    [(100, ["1 to 10", "11 to 50", "51 to 100"]), (12, ["1 to 2", "3 to 6", "7 to 12"]), (1, ["1 to 1"])],
)
def test_ranks_fall_into_the_first_tenth_half_and_the_rest(count: int, labels: list[str]) -> None:
    rules = ET.fromstring(order_style(count).split("\n", 1)[1]).findall(".//rule")
    assert [rule.get("label") for rule in rules] == labels
    first, last = labels[0].split(" to ")
    assert rules[0].get("filter") == f'"rank" >= {first} AND "rank" <= {last}'
