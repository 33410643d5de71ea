"""Class schemes: names, colours and indices agree, and what is unknown raises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weakseg.classes import IGNORE, ISPRS, ClassScheme, load_classes
from weakseg.errors import DataError


def test_isprs_colours_are_the_published_ones() -> None:
    assert ISPRS.names == ("impervious_surface", "building", "low_vegetation", "tree", "car")
    rgb = np.array([[(255, 255, 255), (0, 0, 255), (0, 255, 255)], [(0, 255, 0), (255, 255, 0), (255, 0, 0)]], np.uint8)
    assert ISPRS.to_indices(rgb).tolist() == [[0, 1, 2], [3, 4, IGNORE]]
    assert ISPRS.to_indices(np.zeros((1, 1, 3), np.uint8)).tolist() == [[IGNORE]]  # eroded borders are black


def test_index_by_name() -> None:
    assert ISPRS.index("car") == 4
    assert len(ISPRS) == 5
    with pytest.raises(DataError, match=r"class 'cars'; expected one of impervious_surface, .*classes\.yaml"):
        ISPRS.index("cars")


@settings(max_examples=20)
@given(arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 3, 4, IGNORE])))
def test_colours_and_back(mask: np.ndarray) -> None:
    assert np.array_equal(ISPRS.to_indices(ISPRS.to_colours(mask)), mask)


def test_ignored_is_black_without_an_ignored_colour() -> None:
    scheme = ClassScheme(("a",), ((9, 8, 7),))
    assert scheme.to_colours(np.array([[0, IGNORE]], np.uint8)).tolist() == [[[9, 8, 7], [0, 0, 0]]]


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
        (tuple(f"c{i}" for i in range(32)), tuple((i, 0, 0) for i in range(32)), ()),
    ],
)
def test_bad_schemes_are_refused(names: tuple, colours: tuple, ignored: tuple) -> None:
    with pytest.raises(DataError, match=r"mend classes\.yaml"):
        ClassScheme(names, colours, ignored)


def test_thirty_one_classes_fit() -> None:
    assert len(ClassScheme(tuple(f"c{i}" for i in range(31)), tuple((i, 0, 0) for i in range(31)))) == 31


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
