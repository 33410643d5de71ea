"""Class names in one cell: forms, round trips of any names, ambiguous cells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.class_names import did_you_mean
from weakseg.core.errors import DataError
from weakseg.labels.class_lists import join_names, split_names

LAND = ("bare soil", "water", "low vegetation", "roof,metal")


def test_forms_by_hand() -> None:
    assert join_names(["tree", "car"], ["tree", "car"]) == "tree car"
    assert join_names([], ["tree"]) == ""
    assert join_names(["bare soil", "water"], LAND) == "bare soil;water"
    assert join_names(["bare soil"], ["bare", "soil", "bare soil"]) == "bare soil;"
    assert join_names(["bare", "soil"], ["bare", "soil", "bare soil"]) == "bare;soil"
    assert join_names(["a;b", "c"], ["a;b", "c", "a;b c"]) == '"a;b";c'


@pytest.mark.parametrize(
    "text",
    [
        "bare soil water roof,metal",
        "bare soil;water; roof,metal",
        "bare soil | water | roof,metal",
        'bare soil, water, "roof,metal"',
        '"bare soil" water "roof,metal"',
        "bare soil\nwater\u00a0roof,metal",
    ],
)
def test_one_way_to_read_it(text: str) -> None:
    assert split_names(text, LAND) == ("bare soil", "water", "roof,metal")


def test_refusals_name_the_choices() -> None:
    with pytest.raises(DataError, match=r"'bare soil' may mean bare \+ soil or bare soil; expected one meaning; put a"):
        split_names("bare soil", ("bare", "soil", "bare soil"))
    with pytest.raises(DataError, match=r"unknown class 'Water' \(did you mean 'water'\?\); expected classes of bare"):
        split_names("bare soil; Water", LAND)
    with pytest.raises(DataError, match="class 'water' 2 times"):
        split_names("water water", LAND)
    with pytest.raises(DataError, match="rename the classes"):
        join_names([""], ["", "a"])


def test_hints() -> None:
    assert did_you_mean("BUILDING", ("building", "car")) == " (did you mean 'building'?)"
    assert did_you_mean("lawn", ("building", "car")) == ""


NAME = st.text("ab ;,|\"'Aé", min_size=1, max_size=5)


@given(st.lists(NAME, min_size=1, max_size=5, unique=True), st.data())
@settings(max_examples=300)
def test_what_is_written_is_read_back_or_refused(known: list[str], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(known), unique=True))
    try:
        text = join_names(names, known)
    except DataError:
        assert any(name != " ".join(name.split()) or not set(name).isdisjoint(';,|" ') for name in names)
        return
    assert split_names(text, known) == tuple(names)
