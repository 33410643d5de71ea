"""The tile table: what is written comes back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakseg.core.errors import DataError
from weakseg.data.manifest import TagCrops, load_manifest, save_manifest

NAMES = ("road", "roof", "car")


def table() -> TagCrops:
    return TagCrops(
        ("007_0_0", "007_0_8", "NA_0_0"),
        ("007", "007", "NA"),
        ("pixel", "holdout", "tags"),
        np.array([(0, 0, 8, 8), (0, 8, 8, 9), (0, 0, 5, 5)], np.int64),
        np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool),
        np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], bool),
    )


def same(one: TagCrops, two: TagCrops) -> bool:
    return (one.ids, one.areas, one.splits) == (two.ids, two.areas, two.splits) and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("windows", "present", "known")
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    save_manifest(path, table(), NAMES)
    assert path.read_text().splitlines()[:3] == [
        "id,area,split,row,column,height,width,tags,unknown",
        "007_0_0,007,pixel,0,0,8,8,road car,",
        "007_0_8,007,holdout,0,8,8,9,roof,car",
    ]
    back = load_manifest(path, NAMES)
    assert same(back, table())
    assert back.windows.dtype == np.int64


def test_empty_table(tmp_path: Path) -> None:
    save_manifest(tmp_path / "m.csv", table().select(split="none"), NAMES)
    back = load_manifest(tmp_path / "m.csv", NAMES)
    assert back.ids == ()
    assert back.windows.shape == (0, 4)
    assert back.present.shape == back.known.shape == (0, 3)


def test_select() -> None:
    crops = table()
    assert crops.select(split="tags").ids == ("NA_0_0",)
    assert crops.select(area="007").ids == ("007_0_0", "007_0_8")
    only = crops.select(area="007", split="holdout")
    assert (only.ids, only.windows.tolist(), only.present.tolist()) == (
        ("007_0_8",),
        [[0, 8, 8, 9]],
        [[False, True, False]],
    )
    assert same(crops.select(), crops)


def test_take_keeps_the_order_of_the_index() -> None:
    part = table().take(np.array([2, 0]))
    assert (part.ids, part.areas, part.splits) == (("NA_0_0", "007_0_0"), ("NA", "007"), ("tags", "pixel"))
    assert part.windows.tolist() == [[0, 0, 5, 5], [0, 0, 8, 8]]
    assert part.present.tolist() == [[False, False, False], [True, False, True]]
    assert part.known.tolist() == [[False, False, False], [True, True, True]]
    assert same(table().take(np.array([], np.int64)), table().select(split="none"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("road car", "road bus", "unknown class 'bus'"),
        ("roof,car", "roof,bus", "unknown class 'bus'"),
        ("holdout", "validation", r"splits \['validation'\]"),
        ("unknown", "unsure", "has columns"),
        ("007_0_8,007,holdout,0,8", "007_0_8,007,holdout,x,8", "row"),
        ("007_0_8,007,holdout,0,8", "007_0_8,007,holdout,,8", "row"),
    ],
)
def test_faults_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "manifest.csv"
    save_manifest(path, table(), NAMES)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=f"{message}.*rerun tiles"):
        load_manifest(path, NAMES)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro tiles`"):
        load_manifest(tmp_path / "manifest.csv", NAMES)
