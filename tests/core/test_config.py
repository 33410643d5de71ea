"""YAML as DVC reads it; values by dotted path; files changed in place, by us and by DVC, keep every other byte."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest

from weakseg.core.config import (
    dump_yaml,
    find_anchors,
    leaves,
    load_commented,
    load_yaml,
    parse_yaml,
    save_yaml,
    set_value,
    set_values,
)
from weakseg.core.errors import DataError, ParamsError

PROJECT = Path(__file__).parents[2]
TEXT = """\
# head
segment:
  network:
    dropout: 0.2 # share
    name: unet
  seeds: # of the trainings
  - 0
  - 1
  class_weights: {car: 2.0}
  empty: {}
tail:
- 1
"""


def changed_lines(after: str, before: str = TEXT) -> list[str]:
    pairs = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in pairs if line[0] in "+-" and line[:3] not in ("---", "+++")]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("010", 10), ("0o10", 8), ("yes", "yes"), ("on", "on"), ("true", True)],
)
def test_scalars_are_read_as_dvc_reads_them(text: str, value: object) -> None:
    from dvc.utils.serialize import parse_yaml as parse_as_dvc

    assert parse_yaml(f"a: {text}") == parse_as_dvc(f"a: {text}", "x") == {"a": value}


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "\tx"])
def test_what_is_no_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ParamsError, match=r"^f\.yaml is not YAML .*; expected key: value lines; mend it$") as error:
        parse_yaml(text, "f.yaml", ParamsError)
    assert "\n" not in str(error.value)


def test_files_come_back(tmp_path: Path) -> None:
    content = {"z": [1, 2.5], "a": {"x": None, "é": "yes"}, "e": [], "small": 1e-05}
    save_yaml(tmp_path / "f.yaml", content)
    assert load_yaml(tmp_path / "f.yaml") == content
    assert list(load_yaml(tmp_path / "f.yaml")) == ["z", "a", "e", "small"]
    (tmp_path / "bad.yaml").write_text("a: {")
    with pytest.raises(DataError, match=r"bad\.yaml is not YAML"):
        load_yaml(tmp_path / "bad.yaml")


def test_equal_parts_are_written_out() -> None:
    shared = {"x": [1]}
    assert dump_yaml({"a": shared, "b": shared}) == "a:\n  x:\n  - 1\nb:\n  x:\n  - 1\n"


def test_a_value_changes_in_its_place() -> None:
    after = set_values(TEXT, {"segment.network.dropout": 0.35, "segment.class_weights.car": 3.5})
    assert changed_lines(after) == [
        "-    dropout: 0.2 # share",
        "+    dropout: 0.35 # share",
        "-  class_weights: {car: 2.0}",
        "+  class_weights: {car: 3.5}",
    ]


def test_a_list_changes_and_the_comments_stay() -> None:
    after = set_values(TEXT, {"segment.seeds": [4, 5, 6]})
    assert parse_yaml(after)["segment"]["seeds"] == [4, 5, 6]
    assert changed_lines(after) == ["-  - 0", "-  - 1", "+  - 4", "+  - 5", "+  - 6"]


@pytest.mark.parametrize("value", [[], (), [7]])
def test_a_list_with_a_comment_may_become_empty(value: object) -> None:
    after = set_values(TEXT, {"segment.seeds": list(value)})  # type: ignore[call-overload]
    assert parse_yaml(after)["segment"]["seeds"] == list(value)  # type: ignore[call-overload]


def test_a_missing_key_is_added_to_its_section() -> None:
    after = set_values(TEXT, {"segment.class_weights.low vegetation": 2.0, "segment.empty.x": 1e-5})
    assert changed_lines(after)[2:] == [
        "+  class_weights: {car: 2.0, low vegetation: 2.0}",
        "+  empty:",
        "+    x: 1e-05",
    ]
    assert parse_yaml(after)["segment"]["empty"]["x"] == 1e-5


def test_a_missing_section_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"no section segment\.nowhere for segment\.nowhere\.lr"):
        set_values(TEXT, {"segment.nowhere.lr": 0.2})


@pytest.mark.parametrize(("text", "name"), [("a: &q {x: 1}\nb: *q\n", "&q"), ("a: &q {x: 1}\nb:\n  <<: *q\n", "&q")])
def test_shared_sections_are_refused(text: str, name: str) -> None:
    assert list(find_anchors(text)) == ["&q", "*q"]
    with pytest.raises(ParamsError, match=f"anchor {name}; expected every section written out"):
        set_values(text, {"a.x": 2})


def test_values_by_path() -> None:
    tree: dict[str, Any] = {"a": {"b": {"c": 1}, "d": {}}, "e": [1]}
    set_value(tree, "a.b.c", 2)
    set_value(tree, "a.d.new", 3)
    assert dict(leaves(tree)) == {"a.b.c": 2, "a.d.new": 3, "e": [1]}
    with pytest.raises(ParamsError, match=r"no section e for e\.0"):
        set_value(tree, "e.0", 1)


WHOLE = [PROJECT / "params.yaml", PROJECT / "src" / "weakseg" / "pipeline" / "base.yaml"]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_our_files_are_laid_out_as_dvc_writes_them_and_share_nothing(path: Path) -> None:
    text = path.read_text()
    assert dump_yaml(load_commented(text)) == text
    assert not list(find_anchors(text))


def test_dvc_exp_run_changes_one_line_of_params_yaml(tmp_path: Path) -> None:
    """`dvc exp run -S` goes through this function of DVC."""
    from dvc.utils.hydra import apply_overrides

    file, before = tmp_path / "params.yaml", (PROJECT / "params.yaml").read_text()
    file.write_text(before)
    apply_overrides(file, ["report.draws=7"])
    assert changed_lines(file.read_text(), before) == ["-  draws: 2000", "+  draws: 7"]
    apply_overrides(file, ["segment.seeds=[0,1]"])
    assert changed_lines(file.read_text(), before)[0] == "+  - 1"
    assert set_values(before, {"report.draws": 7, "segment.seeds": [0, 1]}) == file.read_text()


def test_nesting_is_bounded_before_anything_is_built() -> None:
    assert parse_yaml("[" * 100 + "]" * 100) is not None
    for text in ("[" * 101 + "]" * 101, "- " * 101 + "x", "? " * 101 + "x"):
        with pytest.raises(DataError, match="more than 100 levels; expected at most 100 levels and 1000000 values"):
            parse_yaml(text)


def test_aliases_are_counted_with_what_they_repeat() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}
    hundred = ", ".join(["1"] * 100)
    text = f"a: &a [{hundred}]\n"
    for name, before in (("b", "a"), ("c", "b"), ("d", "c")):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 30)}]\n"
    with pytest.raises(ParamsError, match=r"^p\.yaml: more than 1000000 values"):
        parse_yaml(text, "p.yaml", ParamsError)
    with pytest.raises(DataError, match=r"the alias \*a of nothing before it"):
        parse_yaml("a: &a [1, *a]")  # it holds itself


@pytest.mark.parametrize("text", ["a: 2001-13-41", f"a: {'9' * 5000}", "!!python/name:os.system", "a: !!binary é"])
def test_values_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not YAML"):
        parse_yaml(text)


def test_files_that_are_changed_in_place_are_read_by_the_same_rules() -> None:
    for text in ("a: [", "[" * 101 + "]" * 101):
        with pytest.raises(ParamsError, match="the YAML text"):
            load_commented(text)
