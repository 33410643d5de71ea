"""Lists of crops in the order in which they are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.crop_order import read_order, write_order

SIZES = {"t1": (64, 80), "t2": (64, 64)}
CROPS = [("t2", (16, 0, 16, 16)), ("t1", (0, 64, 32, 16))]


def test_what_is_written_comes_back_in_its_order(tmp_path: Path) -> None:
    write_order(tmp_path / "next.csv", CROPS, {"score": [0.9, 0.5]})
    assert (tmp_path / "next.csv").read_text() == (
        "area,row,column,height,width,score\nt2,16,0,16,16,0.9\nt1,0,64,32,16,0.5\n"
    )
    assert list(read_order(tmp_path / "next.csv", SIZES, ISPRS)) == CROPS


def test_x_and_y_stand_for_column_and_row_in_any_order_of_columns(tmp_path: Path) -> None:
    (tmp_path / "next.csv").write_text("\ufeffwidth,height,x,y,area\n16,32,64,0,t1\n")
    assert read_order(tmp_path / "next.csv", SIZES, ISPRS) == {("t1", (0, 64, 32, 16)): ()}


def test_a_crop_may_be_asked_about_some_classes_alone(tmp_path: Path) -> None:
    text = "area,row,column,height,width,asks,reason\nt1,0,0,9,9,car building,?\nt1,0,9,9,9,,\nt2,0,0,9,9,tree,x\n"
    (tmp_path / "next.csv").write_text(text)
    found = read_order(tmp_path / "next.csv", SIZES, ISPRS)
    assert list(found.values()) == [("building", "car"), (), ("tree",)]  # in the order of the classes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("area,row,column,width\n", "lacks the columns height"),
        ("area,row,y,column,height,width\n", "has the columns row and y"),
        ("area,row,column,height,width\nt9,0,0,1,1\n", "line 2: unknown area 't9'; expected one of t1, t2"),
        ("area,row,column,height,width\nt1,0,0,1.5,1\n", "line 2: '0', '0', '1.5', '1'; expected four whole numbers"),
        ("area,row,column,height,width\nt1,0,70,16,16\n", "line 2: window at row 0, column 70, 16x16 px"),
        ("area,row,column,height,width\nt1,0,0,9,9\nt1,0,0,9,9\n", "line 3: the crop of line 2 again"),
        ("", "lacks the columns area, row"),
        (
            "area,row,column,height,width,asks\nt1,0,0,9,9,cars\n",
            "line 2, asks: unknown class 'cars' (did you mean 'car'?)",
        ),
    ],
)
def test_a_bad_list_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "next.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_order(tmp_path / "next.csv", SIZES, ISPRS)
    assert words in str(caught.value)


def test_no_file_and_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `weakseg next`"):
        read_order(tmp_path / "next.csv", SIZES, ISPRS)
    (tmp_path / "next.csv").write_bytes(b"area,row,column,height,width\n\xff,0,0,1,1\n")
    with pytest.raises(DataError, match=r"next\.csv is unreadable"):
        read_order(tmp_path / "next.csv", SIZES, ISPRS)
