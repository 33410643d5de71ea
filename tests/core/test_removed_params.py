"""Options that are gone: lines with the value in force are taken out and named, other values are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from weakseg.core.config import dump_yaml, leaves, load_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.params import load_params
from weakseg.core.removed_params import REMOVED, drop_removed, find_removed

PROJECT = Path(__file__).parents[2]
NOW: dict[str, Any] = load_yaml(PROJECT / "params.yaml")


def with_old(**changes: Any) -> dict[str, Any]:
    raw = copy.deepcopy(NOW)
    raw["segment"] |= {"dice": 0.0, "copy_paste": {"class_name": "car", "probability": 0.0, "most": 3}}
    raw["irnet"]["optimiser"]["clip"] = 5.0
    raw["segment"] |= changes
    return raw


def test_none_of_them_is_an_option_of_today() -> None:
    assert not REMOVED.keys() & {path for path, _ in leaves(NOW)}


def test_values_in_force_are_taken_out() -> None:
    raw = with_old()
    gone = ["irnet.optimiser.clip", "segment.dice"]
    gone += [f"segment.copy_paste.{key}" for key in ("probability", "class_name", "most")]
    assert list(find_removed(raw)) == gone
    assert drop_removed(raw, "mine") == gone
    assert raw == NOW
    assert drop_removed(raw, "mine") == []
    assert drop_removed(["no", "table"], "mine") == []


def test_another_value_is_refused() -> None:
    with pytest.raises(ParamsError) as error:
        drop_removed(with_old(dice=0.5), "mine")
    assert str(error.value) == (
        "mine: segment.dice: 0.5, an option that is gone; expected 0.0, which is in force for good; "
        "take the line out, or use the version that it was written for"
    )
    with pytest.raises(ParamsError, match=r"tune\.space names segment\.lovasz"):
        drop_removed({"tune": {"space": {"segment.lovasz": {"low": 0.0, "high": 1.0, "log": False}}}}, "mine")


def test_a_workspace_with_old_lines_is_told(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(dump_yaml(with_old()))
    with pytest.raises(ParamsError, match=r"has irnet\.optimiser\.clip, segment\.dice, .*`weakseg init`.*takes them"):
        load_params(tmp_path / "params.yaml")
