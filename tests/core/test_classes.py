"""Class schemes: names, colours and indices agree, and what is unknown raises."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weakseg.core.classes import (
    IGNORE,
    ISPRS,
    READY,
    ClassScheme,
    find_classes,
    load_classes,
    pack_colour,
    parse_classes,
)
from weakseg.core.errors import DataError


def test_isprs_colours_are_the_published_ones() -> None:
    assert ISPRS.names == ("impervious_surface", "building", "low_vegetation", "tree", "car")
    rgb = np.array([[(255, 255, 255), (0, 0, 255), (0, 255, 255)], [(0, 255, 0), (255, 255, 0), (255, 0, 0)]], np.uint8)
    assert ISPRS.to_indices(rgb).tolist() == [[0, 1, 2], [3, 4, IGNORE]]
    assert ISPRS.to_indices(np.zeros((1, 1, 3), np.uint8)).tolist() == [[IGNORE]]  # eroded borders are black


def test_index_by_name() -> None:
    assert ISPRS.index("car") == 4
    assert len(ISPRS) == 5
    with pytest.raises(
        DataError, match=r"class 'cars' \(did you mean 'car'\?\); expected one of impervious_surface, .*classes\.yaml"
    ):
        ISPRS.index("cars")


@settings(max_examples=20)
@given(arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 3, 4, IGNORE])))
def test_colours_and_back(mask: np.ndarray) -> None:
    assert np.array_equal(ISPRS.to_indices(ISPRS.to_colours(mask)), mask)


def test_ignored_is_black_without_an_ignored_colour() -> None:
    scheme = ClassScheme(("a",), ((9, 8, 7),))
    assert scheme.to_colours(np.array([[0, IGNORE]], np.uint8)).tolist() == [[[9, 8, 7], [0, 0, 0]]]


def test_ignored_is_never_a_class_s_colour() -> None:
    black = ClassScheme(("house", "rest"), ((9, 9, 9), (0, 0, 0)), background="rest")
    assert black.to_colours(np.array([[1, IGNORE]], np.uint8)).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    both = ClassScheme(("roof", "rest"), ((255, 255, 255), (0, 0, 0)))
    assert both.ignored_colour == (128, 128, 128)


def test_unknown_colour_names_count_and_place() -> None:
    rgb = ISPRS.to_colours(np.zeros((4, 6), np.uint8))
    rgb[2, 3] = rgb[3, 5] = (1, 2, 3)
    with pytest.raises(DataError, match=r"2 px of unknown colours, first \(1, 2, 3\) at row 2, column 3"):
        ISPRS.to_indices(rgb)


@pytest.mark.parametrize(
    ("names", "colours", "ignored"),
    [
        ((), (), ()),
        (("a", "b"), ((0, 0, 0),), ()),
        (("a", "a"), ((0, 0, 0), (1, 1, 1)), ()),
        (("a", "b"), ((0, 0, 0), (0, 0, 0)), ()),
        (("a",), ((0, 0, 0),), (("x", (0, 0, 0)),)),
        (tuple(f"c{i}" for i in range(256)), tuple((i % 256, i // 255, 0) for i in range(256)), ()),
    ],
)
def test_bad_schemes_are_refused(names: tuple, colours: tuple, ignored: tuple) -> None:
    with pytest.raises(DataError, match=r"mend classes\.yaml"):
        ClassScheme(names, colours, ignored)


def test_as_many_classes_fit_as_a_mask_can_hold() -> None:
    assert len(ClassScheme(tuple(f"c{i}" for i in range(255)), tuple((i, 0, 0) for i in range(255)))) == 255


def test_save_and_load(tmp_path: Path) -> None:
    ISPRS.save(tmp_path / "classes.yaml")
    assert load_classes(tmp_path / "classes.yaml") == ISPRS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "classes: 3",
        "classes: [{name: a}]",
        "classes: [{name: a, colour: [1, 2]}]",
        "classes: [{name: a, colour: [1, 2, 256]}]",
        "{",
        "- a",
    ],
)
def test_broken_tables_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="is not a class table") as error:
        load_classes(path)
    assert "\n" not in str(error.value)


def test_missing_table_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run `weakseg data import` or `data ensure`"):
        load_classes(tmp_path / "classes.yaml")


# ids, names, ready schemes

VALUED = ClassScheme(("a", "b"), ((1, 1, 1), (2, 2, 2)), (("x", (0, 0, 0)), ("y", (9, 9, 9))), (1, 2), (0, None))


def test_values_are_kept_and_left_out_of_index_masks(tmp_path: Path) -> None:
    VALUED.save(tmp_path / "classes.yaml")
    assert load_classes(tmp_path / "classes.yaml") == VALUED
    assert VALUED.value_codes() == {1: 0, 2: 1, 0: IGNORE}
    assert VALUED.by_index() == ClassScheme(VALUED.names, VALUED.colours, VALUED.ignored)
    assert VALUED.by_index().value_codes() == {}
    assert VALUED.colour_codes() == {(1, 1, 1): 0, (2, 2, 2): 1, (0, 0, 0): IGNORE, (9, 9, 9): IGNORE}


@pytest.mark.parametrize(
    "rows",
    [
        "[{name: a, colour: [1, 1, 1], value: 1}, {name: b, colour: [2, 2, 2]}]",
        "[{name: a, colour: [1, 1, 1], value: 1}, {name: b, colour: [2, 2, 2], value: 1}]",
        "[{name: a, colour: [1, 1, 1]}]\nignored: [{name: b, colour: [2, 2, 2], value: 0}]",
    ],
)
def test_values_are_for_all_classes_and_each_once(tmp_path: Path, rows: str) -> None:
    (tmp_path / "c.yaml").write_text(f"classes: {rows}\n")
    with pytest.raises(DataError, match=r"c\.yaml: values .* for a.*; expected no `value:` at all, or one for every"):
        load_classes(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{name: a, colour: [1, 1, 1], value: 1.5}", "value 1.5 is no whole number"),
        ("{name: a, colour: [1, 1, 1], value: true}", "value True is no whole number"),
        ("{name: a, color: [1, 1, 1]}", "unknown key color"),
        ("{name: true, colour: [1, 1, 1]}", "name True is no text"),
        ("{name: a, colour: [1.5, 1, 1]}", "not three whole numbers"),
    ],
)
def test_what_is_no_entry_is_refused(tmp_path: Path, row: str, reason: str) -> None:
    (tmp_path / "c.yaml").write_text(f"classes: [{row}]\n")
    with pytest.raises(DataError, match=reason):
        load_classes(tmp_path / "c.yaml")


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\tb", "a\x00", "a\u200b"])
def test_names_that_no_table_can_carry_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"class name .* without control characters and without blanks at its ends"):
        ClassScheme((name,), ((0, 0, 0),))
    with pytest.raises(DataError, match="class name"):
        ClassScheme(("a",), ((0, 0, 0),), ((name, (1, 1, 1)),))


def test_names_in_words_survive_and_letters_have_one_spelling(tmp_path: Path) -> None:
    scheme = ClassScheme(
        ("low vegetation (grass)", "Gewässer", "no", "42"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3))
    )
    scheme.save(tmp_path / "c.yaml")
    assert load_classes(tmp_path / "c.yaml") == scheme
    text = unicodedata.normalize("NFD", (tmp_path / "c.yaml").read_text(encoding="utf-8"))
    (tmp_path / "c.yaml").write_text("\ufeff" + text, encoding="utf-8")  # as macOS and Notepad may write it
    assert load_classes(tmp_path / "c.yaml") == scheme


READY_NAMES = [path.stem for path in sorted(READY.glob("*.yaml"))]


def test_ready_schemes_are_those_of_the_sets_we_name() -> None:
    assert set(READY_NAMES) == {
        *("vaihingen", "potsdam", "loveda", "openearthmap", "flair", "flair_12", "deepglobe", "landcover_ai"),
        *("isaid", "inria", "floodnet", "dubai"),
    }
    assert find_classes("vaihingen") == find_classes("Potsdam") == ISPRS


@pytest.mark.parametrize("name", READY_NAMES)
def test_ready_schemes_load_and_name_their_source(name: str) -> None:
    scheme = find_classes(name)
    assert len(scheme) >= 2
    assert "https://" in (READY / f"{name}.yaml").read_text() or "http://" in (READY / f"{name}.yaml").read_text()
    indices = np.arange(len(scheme), dtype=np.uint8)[None]
    assert np.array_equal(scheme.to_indices(scheme.to_colours(indices)), indices)


@pytest.mark.parametrize(
    ("name", "count", "index", "row"),
    [
        ("loveda", 7, 1, ("building", (255, 0, 0), 2)),
        ("openearthmap", 8, 7, ("building", (222, 31, 7), 8)),
        ("flair", 19, 18, ("other", (0, 0, 0), 19)),
        ("flair-12", 12, 11, ("plowed_land", (228, 223, 124), 12)),
        ("LandCover.ai", 5, 4, ("road", (207, 207, 207), 4)),
        ("isaid", 16, 15, ("harbor", (0, 100, 155), 15)),
        ("inria", 2, 1, ("building", (255, 255, 255), 255)),
        ("floodnet", 9, 5, ("tree", (0, 82, 255), 6)),
        ("dubai", 5, 4, ("water", (226, 169, 41), 4)),
    ],
)
def test_ready_schemes_have_the_published_ids(
    name: str, count: int, index: int, row: tuple[str, tuple[int, int, int], int]
) -> None:
    scheme = find_classes(name)
    assert len(scheme) == count
    assert (scheme.names[index], scheme.colours[index], scheme.values[index]) == row


def test_ready_schemes_know_what_is_ignored() -> None:
    for name, ignored in (("loveda", {0}), ("openearthmap", {0}), ("floodnet", {0}), ("dubai", {5})):
        assert {value for value, code in find_classes(name).value_codes().items() if code == IGNORE} == ignored
    assert sorted(value for value, code in find_classes("flair_12").value_codes().items() if code == IGNORE) == [
        *range(13, 20)
    ]
    deepglobe = find_classes("deepglobe")
    assert deepglobe.colour_codes()[0, 0, 0] == IGNORE
    assert (deepglobe.names[4], deepglobe.colours[4], deepglobe.values) == ("water", (0, 0, 255), ())


def test_schemes_by_path_or_name(tmp_path: Path) -> None:
    VALUED.save(tmp_path / "c.yaml")
    assert find_classes(str(tmp_path / "c.yaml")) == VALUED
    with pytest.raises(DataError, match=r"no file .*none\.yaml"):
        find_classes(str(tmp_path / "none.yaml"))
    with pytest.raises(DataError, match=r"classes 'lovda'; expected the path of a classes\.yaml, or one of .*loveda"):
        find_classes("lovda")


def test_colours_are_one_number_each() -> None:
    assert pack_colour(1, 2, 3) == 0x010203
    assert pack_colour(*np.array([[255], [0], [16]])).tolist() == [0xFF0010]


def test_a_table_says_the_scheme_as_plain_data() -> None:
    table = VALUED.to_table()
    assert table["classes"][0] == {"name": "a", "colour": [1, 1, 1], "value": 1}
    assert table["ignored"][1] == {"name": "y", "colour": [9, 9, 9]}
    assert parse_classes(table, "here") == VALUED
    with pytest.raises(DataError, match=r"the model file is not a class table .*KeyError"):
        parse_classes({"ignored": []}, "the model file")
    with pytest.raises(DataError, match="the model file: repeated name"):
        parse_classes({"classes": [table["classes"][0]] * 2}, "the model file")


def test_one_class_may_be_the_background(tmp_path: Path) -> None:
    scheme = ClassScheme(("roof", "rest", "pool"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), background="rest")
    assert (scheme.background_index, scheme.object_names) == (1, ("roof", "pool"))
    assert scheme.objects.tolist() == [0, 2]
    scheme.save(tmp_path / "classes.yaml")
    assert load_classes(tmp_path / "classes.yaml") == scheme
    assert "background: rest" in (tmp_path / "classes.yaml").read_text()
    plain = ClassScheme(("roof", "rest"), ((1, 1, 1), (2, 2, 2)))
    assert (plain.background_index, plain.objects.tolist()) == (None, [0, 1])
    assert "background" not in plain.to_table()


@pytest.mark.parametrize(("names", "background"), [(("a", "b"), "c"), (("a",), "a")])
def test_a_background_is_one_class_beside_others(names: tuple[str, ...], background: str) -> None:
    colours = tuple((index, 0, 0) for index in range(len(names)))
    with pytest.raises(DataError, match=f"background '{background}' among the classes"):
        ClassScheme(names, colours, background=background)
