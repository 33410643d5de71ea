"""Boxes: from masks by hand, as class bits, at another scale, and through their file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bit_sets import bits_of

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import (
    Box,
    BoxTable,
    allowed_by_boxes,
    boxes_from_mask,
    check_kept_boxes,
    fit_window,
    join_boxes,
    scale_boxes,
    write_boxes,
)

CAR, BUILDING = ISPRS.index("car"), ISPRS.index("building")


def may_by_boxes(*arguments: Any) -> np.ndarray:
    return bits_of(allowed_by_boxes(*arguments))


def mask() -> np.ndarray:
    """Two cars (one of two pixels that touch at a corner), a speck, a building at the rim."""
    found = np.zeros((20, 30), np.uint8)
    found[2:5, 3:9] = CAR
    found[10, 10] = found[11, 11] = CAR
    found[18, 2] = CAR
    found[8:20, 22:30] = BUILDING
    return found


def test_boxes_of_a_mask_by_hand() -> None:
    table = boxes_from_mask("a", mask(), ISPRS, ["car", "building"], min_pixels=2)
    assert table.boxes == (
        Box("a", 2, 3, 3, 6, "car"),
        Box("a", 10, 10, 2, 2, "car"),
        Box("a", 18, 2, 1, 1, "car", crowd=True),
        Box("a", 8, 22, 12, 8, "building"),
    )
    assert table.searched == {"a": ("car", "building")}
    assert table.count() == 3
    assert table.count(["b"]) == 0


def test_a_mask_without_labels_was_searched_for_nothing() -> None:
    assert boxes_from_mask("a", np.full((4, 4), IGNORE, np.uint8), ISPRS, ["car"]) == BoxTable()
    assert boxes_from_mask("a", np.zeros((4, 4), np.uint8), ISPRS, ["car"]) == BoxTable((), {"a": ("car",)})


def test_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match="class 'lorry'"):
        boxes_from_mask("a", mask(), ISPRS, ["lorry"])


def test_bits_are_cleared_outside_complete_boxes_alone() -> None:
    table = boxes_from_mask("a", mask(), ISPRS, ["car", "building"], min_pixels=2)
    bits = may_by_boxes(20, 30, table.boxes, ["car"], ISPRS)
    may = bits >> CAR & 1 == 1
    assert may.sum() == 3 * 6 + 2 * 2 + 1  # the speck too
    assert may[2:5, 3:9].all()
    assert may[18, 2]
    assert (bits | 1 << CAR == 31).all()  # every other class may be anywhere
    assert (may_by_boxes(20, 30, table.boxes, [], ISPRS) == 31).all()
    assert (may_by_boxes(2, 2, [], ["car"], ISPRS) == 31 & ~(1 << CAR)).all()  # searched, and nothing found


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_boxes_of_a_mask_never_forbid_its_truth(seed: int, min_pixels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 2, 3, 4, IGNORE], np.uint8), (12, 17), p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    table = boxes_from_mask("a", truth, ISPRS, ISPRS.names, min_pixels=min_pixels)
    bits = may_by_boxes(12, 17, table.boxes, ISPRS.names, ISPRS)
    known = truth != IGNORE
    assert (bits[known] >> truth[known] & 1 == 1).all()


def test_scaled_boxes_enclose_what_they_enclosed() -> None:
    table = BoxTable((Box("a", 3, 5, 4, 1, "car"), Box("a", 0, 0, 21, 31, "car")), {"a": ("car",)})
    half = scale_boxes(table, 0.5, {"a": (21, 31)})
    assert [box.window for box in half.boxes] == [(1, 2, 3, 1), (0, 0, 10, 16)]  # 21 * 0.5 rounds to 10 rows
    assert half.searched == table.searched
    assert [box.window for box in scale_boxes(table, 2.0, {"a": (21, 31)}).boxes] == [(6, 10, 8, 2), (0, 0, 42, 62)]


def test_windows_are_the_pixels_that_a_box_touches() -> None:
    assert fit_window((2.0, 1.0, 5.0, 3.0), (10, 10), slack=0) == (1, 2, 2, 3)
    assert fit_window((2.2, 1.9, 4.1, 3.5), (10, 10), slack=0) == (1, 2, 3, 3)
    assert fit_window((-0.5, 0, 3, 10.4), (10, 10), slack=1) == (0, 0, 10, 3)
    assert "leaves its raster" in str(fit_window((-1.5, 0, 3, 4), (10, 10), slack=1))
    assert "no width" in str(fit_window((3, 1, 3, 4), (10, 10), slack=1))
    assert "no width" in str(fit_window((1, 1, float("inf"), 4), (10, 10), slack=float("inf")))
    assert fit_window((-1e300, 1, 1e300, 4), (10, 10), slack=float("inf")) == (1, 0, 3, 10)
    assert fit_window((9.9995, 0, 12, 1), (10, 10), slack=5) == (0, 9, 1, 1)
    assert "outside" in str(fit_window((10.2, 1, 12, 4), (10, 10), slack=5))


def test_file_round_trip_keeps_what_was_searched(tmp_path: Path) -> None:
    table = join_boxes(
        [
            boxes_from_mask("a", mask(), ISPRS, ["car", "building"], min_pixels=2),
            BoxTable((Box("b.1", 0, 1, 2, 3, "car"),), {"b.1": ("car",)}),
            BoxTable((), {"empty": ("building", "car")}),
        ]
    )
    sizes = {"a": (20, 30), "b.1": (9, 9), "empty": (5, 6)}
    path = tmp_path / "boxes" / "boxes.json"
    write_boxes(path, table, ISPRS, sizes)
    found = read_boxes(path, ISPRS, sizes)
    assert set(found.boxes) == set(table.boxes)
    assert {area: set(names) for area, names in found.searched.items()} == {
        "a": {"car", "building"},
        "b.1": {"car"},
        "empty": {"building", "car"},
    }
    first = path.read_bytes()
    write_boxes(path, found, ISPRS, sizes)
    assert path.read_bytes() == first
    coco = json.loads(first)
    assert coco["images"][1] == {
        **{"id": 2, "file_name": "b.1.tif", "height": 9, "width": 9},
        "not_exhaustive_category_ids": [1],
    }
    assert coco["annotations"][-1]["bbox"] == [1, 0, 3, 2]


def test_select_and_join() -> None:
    table = boxes_from_mask("a", mask(), ISPRS, ["car", "building"])
    cars = table.select(["a"], ["car"])
    assert {box.name for box in cars.boxes} == {"car"}
    assert cars.searched == {"a": ("car",)}
    assert table.select(["b"], ["car"]) == BoxTable()
    assert join_boxes([cars, BoxTable((), {"b": ()})]).searched == {"a": ("car",), "b": ()}


def test_a_file_that_was_spoilt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*weakseg data boxes"):
        read_boxes(tmp_path / "boxes.json", ISPRS, {})
    write_boxes(
        tmp_path / "boxes.json", BoxTable((Box("a", 0, 0, 2, 2, "car"),), {"a": ("car",)}), ISPRS, {"a": (4, 4)}
    )
    with pytest.raises(DataError, match=r"1 problem\(s\), first .*4x4 px, its raster has 3x3"):
        read_boxes(tmp_path / "boxes.json", ISPRS, {"a": (3, 3)})


def test_boxes_of_rasters_of_another_size_are_said(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    assert check_kept_boxes(path, {"a": (10, 20)}) == ""
    write_boxes(path, BoxTable((Box("a", 0, 0, 2, 3, "car"),), {"a": ("car",)}), ISPRS, {"a": (10, 20)})
    assert check_kept_boxes(path, {"a": (10, 20), "b": (1, 1)}) == ""
    assert check_kept_boxes(path, {"b": (1, 1)}) == ""
    said = check_kept_boxes(path, {"a": (5, 10)})
    assert "1 area(s), first a, 10x20 px before and 5x10 px now; import the boxes of the new rasters" in said
    path.write_text("[]")
    assert "holds no boxes as weakseg writes them" in check_kept_boxes(path, {"a": (5, 10)})
