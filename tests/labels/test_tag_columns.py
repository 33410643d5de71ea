"""Columns that say what a table's own do not: refused in both kinds of tag tables; rows that end too soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.class_map import ClassMap, read_class_map
from weakseg.labels.image_tags import read_image_tags
from weakseg.labels.tag_table import read_tags

HEADER = "area,row,column,height,width,tags,unknown"


def crops(tmp_path: Path, text: str) -> list[tuple[str, ...]]:
    (tmp_path / "tags.csv").write_bytes(text.encode())
    return [row.present for row in read_tags(tmp_path / "tags.csv", ISPRS, {"b": (64, 64)})]


def pictures(tmp_path: Path, text: str) -> list[tuple[str, ...]]:
    (tmp_path / "images.csv").write_bytes(text.encode())
    names: ClassMap = read_class_map(None, ISPRS)
    return [tuple(mark.present) for mark in read_image_tags("csv", [tmp_path / "images.csv"], names).rows]


@pytest.mark.parametrize("column", ["absent", "Absent", "not_present", "car", "TREE"])
def test_a_column_that_speaks_of_tags_is_refused(tmp_path: Path, column: str) -> None:
    """They were read as a note: `building` present and `car` absent made all the other classes absent too."""
    said = rf"has the columns {column.casefold()} beside tags; expected tags for the classes that are there"
    with pytest.raises(DataError, match=said):
        crops(tmp_path, f"{HEADER},{column}\nb,0,0,8,8,building,,car\n")
    with pytest.raises(DataError, match=said):
        pictures(tmp_path, f"image,tags,{column}\na.png,building,car\n")


@pytest.mark.parametrize("column", ["note", "cars", "who", "date", "id"])
def test_a_column_of_the_users_own_is_left_alone(tmp_path: Path, column: str) -> None:
    assert crops(tmp_path, f"{HEADER},{column}\nb,0,0,8,8,building,,x\n") == [("building",)]
    assert pictures(tmp_path, f"image,tags,{column}\na.png,building,x\n") == [("building",)]


def test_unknown_misspelt_is_refused_in_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unkown \(did you mean 'unknown'\?\)"):
        crops(tmp_path, "area,row,column,height,width,tags,unkown\nb,0,0,8,8,building,car\n")
    with pytest.raises(DataError, match=r"unkown \(did you mean 'unknown'\?\)"):
        pictures(tmp_path, "image,tags,unkown\na.png,building,car\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "sep=;\n"])
def test_lines_of_any_program_end_alike_in_both(tmp_path: Path, end: str, first: str) -> None:
    """A table of images whose lines ended in CR was a traceback, one that began with `sep=;` had no columns."""
    text = f"{first}{HEADER.replace(',', ';')}\nb;0;0;8;8;building;\n".replace("\n", end)
    assert crops(tmp_path, text) == [("building",)]
    text = f"{first}image;tags\na.png;building car\n".replace("\n", end)
    assert pictures(tmp_path, text) == [("building", "car")]


def test_a_row_that_ends_before_its_tags_is_refused(tmp_path: Path) -> None:
    """It counted as a crop that nobody tagged."""
    with pytest.raises(DataError, match="line 3: fewer cells than columns: no tags"):
        crops(tmp_path, f"{HEADER}\nb,0,0,8,8,car\nb,8,0,8,8\n")
    with pytest.raises(DataError, match="line 3: fewer cells than columns"):
        pictures(tmp_path, "image,tags\na.png,car\nb.png\n")
