"""Editing params.yaml: one value changes, every other character stays."""

from __future__ import annotations

import difflib

import pytest
import yaml

from weakseg.errors import ParamsError
from weakseg.tuning.edit import set_values

TEXT = """\
# head
quick: &quick {steps: 5, lr: 0.1}
segment:
  network:
    dropout: 0.2   # share
    name: unet
  optimiser:
    <<: *quick
    batch: 8
  shared: *quick
  class_weights: {car: 2.0}
  empty: {}
tail: [1, 2,
  3]
"""


def changed_lines(after: str) -> list[str]:
    pairs = difflib.unified_diff(TEXT.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in pairs if line[0] in "+-" and line[:3] not in ("---", "+++")]


def test_a_value_changes_in_its_place() -> None:
    after = set_values(TEXT, {"segment.network.dropout": 0.35, "segment.class_weights.car": 3.5})
    assert changed_lines(after) == [
        "-    dropout: 0.2   # share",
        "+    dropout: 0.35   # share",
        "-  class_weights: {car: 2.0}",
        "+  class_weights: {car: 3.5}",
    ]


def test_a_missing_key_is_added_to_its_mapping() -> None:
    after = set_values(TEXT, {"segment.class_weights.low vegetation": 2.0, "segment.empty.x": 1.0})
    assert changed_lines(after)[2:] == ["+  class_weights: {low vegetation: 2.0, car: 2.0}", "+  empty: {x: 1.0}"]


def test_a_merged_key_gets_an_entry_of_its_own() -> None:
    after = set_values(TEXT, {"segment.optimiser.lr": 1e-5})
    assert changed_lines(after) == ["+    lr: 1.0e-05"]
    read = yaml.safe_load(after)
    assert (read["segment"]["optimiser"]["lr"], read["quick"]["lr"]) == (1e-5, 0.1)


def test_a_shared_mapping_is_refused() -> None:
    with pytest.raises(ParamsError, match="write the section out"):
        set_values(TEXT, {"segment.shared.lr": 0.2})


def test_a_missing_section_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"no section segment\.nowhere"):
        set_values(TEXT, {"segment.nowhere.lr": 0.2})
