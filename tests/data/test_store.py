"""Arrays and files on disk: whole or not at all, found again or named as missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakseg.core.class_sets import FEW, SetTable
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.data.areas import open_area
from weakseg.data.manifest import TagCrops
from weakseg.data.store import SETS, fingerprint, list_areas, open_allowed, open_array, save_areas, save_array


def test_array_round_trip_is_a_read_only_map(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    save_array(tmp_path / "new" / "folder", "a", array)
    back = open_array(tmp_path / "new" / "folder", "a")
    assert np.array_equal(back, array)
    assert isinstance(back, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.npy"]


def test_missing_things_name_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no array .*a\.npy; .*run `dvc repro`"):
        open_array(tmp_path, "a")
    with pytest.raises(DataError, match=r"no table .*run `dvc repro tiles`"):
        list_areas(tmp_path)


def test_areas_by_split_keep_their_order_and_names(tmp_path: Path) -> None:
    """Names that look like numbers or like missing values stay names."""
    save_areas(tmp_path, [("007", "tags", 3, 4), ("NA", "pixel", 1, 2), ("b", "tags", 5, 6)])
    assert list_areas(tmp_path, "tags") == ["007", "b"]
    assert list_areas(tmp_path, "pixel") == ["NA"]
    assert list_areas(tmp_path) == ["007", "NA", "b"]
    assert list_areas(tmp_path, "validation") == []


def test_an_area_is_opened_with_its_own_sets(tmp_path: Path) -> None:
    """Of a table that grows with the images, so that all areas together do not cost the square of their number."""
    table = SetTable(40, (np.isin(np.arange(40), (low, high)) for low in range(40) for high in range(low + 1, 40)))
    assert len(table.sets) > FEW
    save_array(tmp_path, SETS, table.sets)
    save_array(tmp_path / "allowed", "a", np.array([[700, 1], [0, 700]], np.int32))
    found = open_allowed(tmp_path, "a")
    assert found.numbers.tolist() == [[2, 1], [0, 2]]
    assert found.sets.tolist() == [[False] * 40, [True] * 40, table[700].tolist()]


def test_atomic_path_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".txt"
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_fingerprint_sees_contents_and_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_text("x")
    first = fingerprint(tmp_path / "one" / "sub")
    assert len(first) == 32
    assert first == fingerprint(tmp_path / "two" / "sub")  # where the folder lies does not matter
    assert first == fingerprint(tmp_path / "one" / "sub")
    (tmp_path / "two" / "sub" / "a").write_text("y")
    assert first != fingerprint(tmp_path / "two" / "sub")
    (tmp_path / "one" / "sub" / "a").rename(tmp_path / "one" / "sub" / "b")
    assert first != fingerprint(tmp_path / "one" / "sub")


def test_open_area_brings_its_own_tags(tmp_path: Path) -> None:
    windows = np.array([[0, 0, 1], [0, 0, -1]], np.int32)
    save_array(tmp_path / "images", "b", np.zeros((2, 3, 3), np.uint8))
    save_array(tmp_path / "allowed", "b", np.full((2, 3), 1, np.uint8))
    save_array(tmp_path, SETS, np.array([(0, 0), (1, 1)], bool))
    save_array(tmp_path / "windows", "b", windows)
    crops = TagCrops(
        ("a_0_0", "b_0_0", "b_0_2"),
        ("a", "b", "b"),
        ("tags",) * 3,
        np.array([(0, 0, 2, 2), (0, 0, 2, 2), (0, 2, 1, 1)], np.int64),
        np.array([[1, 1], [1, 0], [0, 1]], bool),
        np.ones((3, 2), bool),
    )
    area = open_area(tmp_path, "b", crops=crops)
    assert area.tags is not None
    assert area.tags.tolist() == [[True, False], [False, True]]
    assert area.window_pixels is not None
    assert area.window_pixels.tolist() == [4, 1]
    bare = open_area(tmp_path, "b")
    assert (bare.mask, bare.windows, bare.tags, bare.allowed) == (None, None, None, None)
