"""Tags as a CSV: round trips, what people and programs make of it, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.bit_sets import bits_of

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.tag_table import check_kept_tags, read_tags, write_tags
from weakseg.labels.tags import TagWindow, allowed_raster, tag_arrays, tags_from_mask, to_tag_windows, window_grid

ABC = ClassScheme(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
AREAS = {"area1": (100, 120), "area2": (50, 50)}


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def refusal(path: Path, classes: ClassScheme = ABC) -> str:
    with pytest.raises(DataError) as caught:
        read_tags(path, classes, AREAS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(names, tuple((index, 0, 0) for index in range(len(names))))


@pytest.mark.parametrize("sizes", [None, AREAS])
def test_csv_round_trip(tmp_path: Path, sizes: dict[str, tuple[int, int]] | None) -> None:
    mask = np.kron(np.random.default_rng(5).choice([0, 1, 2, 255], (15, 18)), np.ones((7, 7)))[:100, :120]
    mask = mask.astype(np.uint8)
    mask[:20, :20] = 255
    windows = window_grid(100, 120, 20)
    present, known = tags_from_mask(mask, windows, 3, min_share=20.0)
    rows = to_tag_windows("area1", windows, present, known, ABC)
    assert {row.tagged for row in rows} == {True, False}
    assert any(row.unknown for row in rows)
    write_tags(tmp_path / "tags.csv", rows, ABC, sizes)
    back = read_tags(tmp_path / "tags.csv", ABC, AREAS)
    assert back == rows
    again_present, again_known = tag_arrays(back, ABC)
    assert np.array_equal(again_present, present)
    assert np.array_equal(again_known, known)


def test_csv_text(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    rows = [TagWindow("area1", 0, 10, 20, 30, ("a", "c"), ("b",)), TagWindow("area2", 0, 0, 5, 5)]
    write_tags(path, rows, ABC)
    assert path.read_text() == "area,row,column,height,width,tags,unknown\narea1,0,10,20,30,a c,b\narea2,0,0,5,5,,\n"
    write_tags(path, rows, ABC, AREAS)
    assert path.read_text() == (
        "area,row,column,height,width,tags,unknown,area_height,area_width\n"
        "area1,0,10,20,30,a c,b,100,120\narea2,0,0,5,5,,,50,50\n"
    )


def test_csv_text_of_class_names_with_blanks(tmp_path: Path) -> None:
    path, classes = tmp_path / "tags.csv", scheme("bare soil", "water", "low vegetation")
    rows = [TagWindow("area1", 0, 0, 9, 9, ("bare soil", "low vegetation"), ("water",))]
    write_tags(path, rows, classes)
    assert path.read_text().splitlines()[1] == "area1,0,0,9,9,bare soil;low vegetation,water"
    assert read_tags(path, classes, AREAS) == rows


HEADER = "area,row,column,height,width,tags,unknown"
ROW = TagWindow("area1", 0, 10, 20, 30, ("a", "b"))
OTHER = TagWindow("area2", 0, 0, 5, 5, ("c",))


@pytest.mark.parametrize(
    "lines",
    [
        (HEADER, "area1,0,10,20,30,a b,", "area2,0,0,5,5,c,"),
        (HEADER.replace(",", ";"), "area1;0;10;20;30;a b;", "area2;0;0;5;5;c;"),
        (HEADER.replace(",", "\t"), "area1\t0\t10\t20\t30\ta b\t", "area2\t0\t0\t5\t5\tc"),
        ("sep=;", HEADER.replace(",", ";"), "area1;0;10;20;30;a b;", "area2;0;0;5;5;c;"),
        (HEADER, " area1 ,0, 10,20,30, a  b ,", "area2,0,0,5,5, c,"),
        (HEADER, "area1,0,10,20,30,a b,", "area2,0,0,5,5,c,", ",,,,,,", ",,,,,,,,", ""),
        (f"{HEADER},,", "area1,0,10,20,30,a b,,,", "area2,0,0,5,5,c,,,"),
        (HEADER, 'area1,0,10,20,30,"a,b",', 'area2,0,0,5,5,"c,",'),
        (HEADER, 'area1,0,10,20,30,"b;a",', "area2,0,0,5,5,c;,"),
        (HEADER, "area1.tif,0,10,20,30,a b,", "images\\area2.PNG,0,0,5,5,c,"),
        (HEADER, "IMG_area1.jpg,0,10,20,30,a b,", "area2_m.png,0,0,5,5,c,"),
        (HEADER, "area1_RGB.tif,0,10,20,30,a b,", "top_mosaic_09cm_area2.tif,0,0,5,5,c,"),
        (HEADER, "area1,0.0,10.0,20.0,30.0,a b,nan", "area2,0,0,5,5,c,<NA>"),
        (HEADER.replace(",", ";"), "area1;0,0;10,0;20,0;30,0;a b;", "area2;0;0;5;5;c;"),
        (f",{HEADER}", "0,area1,0,10,20,30,a b,", "1,area2,0,0,5,5,c,"),
        (f"Unnamed: 0,{HEADER},note", "0,area1,0,10,20,30,a b,,x", "1,area2,0,0,5,5,c,,"),
        ("Width,Height,Column,Row,Tags,Area", "30,20,10,0,a b,area1", "5,5,0,0,c,area2"),
        (f"{HEADER},area_width,area_height", "area1,0,10,20,30,a b,,120,100", "area2,0,0,5,5,c,,,"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_as_people_and_programs_write_them(tmp_path: Path, lines: tuple[str, ...], end: str) -> None:
    path = write(tmp_path / "tags.csv", *lines, end=end)
    assert read_tags(path, ABC, AREAS) == [ROW, OTHER]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_tags(path, ABC, AREAS) == [ROW, OTHER]


def test_nothing_of_pandas_is_a_class_or_an_area(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", HEADER, "area1,0,0,5,5,NaN,nan", "area1,0,5,5,5,,a")
    assert [row.tagged for row in read_tags(path, ABC, AREAS)] == [False, True]
    path = write(tmp_path / "tags.csv", HEADER, "NA,0,0,5,5,a,")
    assert [row.area for row in read_tags(path, ABC, {"NA": (9, 9)})] == ["NA"]
    path = write(tmp_path / "tags.csv", HEADER, "NA,0,0,5,5,nan,")
    assert [row.present for row in read_tags(path, scheme("nan", "b"), {"NA": (9, 9)})] == [("nan",)]


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ("area1,0,0,10,10,A b,", "line 2: unknown class 'A' (did you mean 'a'?)"),
        ("area1,0,0,10,10,none,", "line 2: unknown class 'none'"),
        ("area1,1.5,0,10,10,a,", "must be whole numbers, not '1.5' '0' '10' '10'"),
        ("area1,,0,10,10,a,", "must be whole numbers, not '' '0' '10' '10'"),
        ("area1,1e1,0,10,10,a,", "must be whole numbers"),
        ("area1,1.000,0,10,10,a,", "line 2: '1.000' may mean 1 or 1000"),
        ('area1,"1,000",0,10,10,a,', "line 2: '1,000' may mean 1 or 1000"),
        ("Area1,0,0,10,10,a,", "line 2: unknown area 'Area1' (did you mean 'area1'?)"),
        ("field,0,0,10,10,a,", "line 2: unknown area 'field' (of area1, area2)"),
        ("area1,0,0,10,10,a,b,", "line 2: more cells than columns"),
        ("area1,0,0,10,10,a,b c a", "line 2: class 'a' 2 times"),
        ('area1,0,0,10,10,"a; b, c",', "line 2: unknown class 'b, c'"),
    ],
)
def test_a_row_is_refused_in_a_sentence(tmp_path: Path, cells: str, text: str) -> None:
    found = refusal(write(tmp_path / "tags.csv", HEADER, cells))
    assert text in found
    assert found.endswith("with classes from a, b, c; mend the lines")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("area,x,y,width,height,tags", "lacks the columns row, column"),
        ("area;x;y;width;height;tags", "lacks the columns row, column"),
        (HEADER.replace(",", "|"), "lacks the columns area, row, column, height, width, tags"),
        (f"{HEADER},tags", "has the columns tags twice"),
        (f"{HEADER},Row", "has the columns row twice"),
        (HEADER.replace("unknown", "unkown"), "has the columns unkown (did you mean 'unknown'?)"),
        (f"{HEADER},area_height", "lacks the columns area_width"),
        ("", "lacks the columns area"),
    ],
)
def test_a_header_is_refused_in_a_sentence(tmp_path: Path, header: str, text: str) -> None:
    assert text in refusal(write(tmp_path / "tags.csv", header, "area1,0,0,10,10,a,"))


def test_cells_under_no_name_are_refused(tmp_path: Path) -> None:
    assert "line 2: more cells" in refusal(write(tmp_path / "tags.csv", f"{HEADER},", "area1,0,0,10,10,a,,b"))


def test_an_area_by_its_file_must_be_one_area(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", HEADER, "b.tif,0,0,10,10,a,")
    with pytest.raises(DataError, match=r"line 2: area 'b.tif' may mean b or b\.tif"):
        read_tags(path, ABC, {"b": (10, 10), "b.tif": (10, 10)})
    decomposed = write(tmp_path / "tags.csv", HEADER, "Mu\u0308llheim,0,0,10,10,a,")
    assert read_tags(decomposed, ABC, {"M\u00fcllheim": (10, 10)})[0].area == "M\u00fcllheim"


def test_tags_of_a_raster_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    write_tags(path, [TagWindow("area1", 0, 0, 5, 5, ("a",))], ABC, {"area1": (50, 60)})
    assert "line 2: tags of a raster of 50x60 px, area1 has 100x120 px" in refusal(path)
    half = write(path, f"{HEADER},area_height,area_width", "area1,0,0,10,10,a,,100,")
    assert "area_height and area_width must be whole numbers, not '100' ''" in refusal(half)


def test_tags_are_not_kept_where_a_raster_changes_its_size(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    check_kept_tags(path, {"a": (10, 10)}, {"a": (20, 10)})  # there are no tags
    path.write_text("anything")
    check_kept_tags(path, {"a": (10, 10), "gone": (5, 5)}, {"a": (10, 10), "new": (7, 7)})
    with pytest.raises(DataError, match=r"1 area\(s\), first a, 10x10 px before and 20x10 px now.*move it away"):
        check_kept_tags(path, {"a": (10, 10), "b": (1, 1)}, {"a": (20, 10), "b": (1, 1)})


def test_csv_by_hand_may_reorder_and_leave_unknown_out(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(
        "\ufeffarea,tags,row,column,height,width\narea1,c a,0,0,10,10\narea1,,0,10,10,10\n", encoding="utf-8"
    )
    rows = read_tags(path, ABC, AREAS)
    assert rows[0] == TagWindow("area1", 0, 0, 10, 10, ("a", "c"))
    assert [row.tagged for row in rows] == [True, False]
    present, known = tag_arrays(rows, ABC)
    assert present.tolist() == [[True, False, True], [False] * 3]
    assert known.tolist() == [[True] * 3, [False] * 3]
    raster = allowed_raster(100, 120, [row.window for row in rows], present, known)
    assert bits_of(raster)[[0, 0, 50], [0, 10, 50]].tolist() == [0b101, 0b111, 0b111]


def test_csv_empty_tags_with_unknown_means_the_others_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("area,row,column,height,width,tags,unknown\narea1,0,0,10,10,,b\n")
    present, known = tag_arrays(read_tags(path, ABC, AREAS), ABC)
    assert (present.tolist(), known.tolist()) == ([[False] * 3], [[True, False, True]])


def test_csv_lists_every_problem_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(
        "area,row,column,height,width,tags,unknown\n"
        "area1,0,0,10,10,a,\n"
        "area1,0,0,10,10,b,\n"
        "area9,0,0,10,10,a,\n"
        "area2,45,0,10,10,a,\n"
        "area1,x,0,10,10,a,\n"
        "area1,0,20,10,10,a lawn,\n"
        "area1,0,30,10,10,a,a\n"
        "area1,0,40,10,10,a,,surplus\n"
        "area1,0,50\n"
    )
    with pytest.raises(DataError) as caught:
        read_tags(path, ABC, AREAS)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "8 problems",
        "area area1: window (0, 0, 10, 10) 2 times",
        "line 4: unknown area 'area9'",
        "line 5: window at row 45, column 0, 10x10 px is not a rectangle inside 50x50 px",
        "line 6: row, column, height and width must be whole numbers",
        "line 7: unknown class 'lawn'",
        "line 8: class 'a' 2 times",
        "line 9: more cells than columns",
        "line 10: row, column",
        "mend the lines",
    ):
        assert part in text


def test_csv_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*weakseg tag --merge"):
        read_tags(tmp_path / "none.csv", ABC, AREAS)
    path = tmp_path / "other.csv"
    path.write_text("image,label\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns area, row"):
        read_tags(path, ABC, AREAS)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="unreadable"):
        read_tags(path, ABC, AREAS)


def test_a_background_may_be_named_but_not_doubted(tmp_path: Path) -> None:
    scheme = ClassScheme(("roof", "rest"), ((1, 1, 1), (2, 2, 2)), background="rest")
    path = tmp_path / "tags.csv"
    path.write_text(f"{HEADER}\narea1,0,0,5,5,rest,\narea1,0,5,5,5,rest roof,\n")
    assert [row.present for row in read_tags(path, scheme, AREAS)] == [("rest",), ("roof", "rest")]
    path.write_text(f"{HEADER}\narea1,0,0,5,5,,rest\n")
    with pytest.raises(DataError, match="rest, the background, among the unknown: no tag speaks of it"):
        read_tags(path, scheme, AREAS)
