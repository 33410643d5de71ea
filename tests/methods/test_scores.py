"""ScoreMaps on disk and the faults that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakseg.core.errors import DataError
from weakseg.methods.scores import ScoreMaps, check_scores, load_scores, save_scores


def maps(scores: np.ndarray | None = None, present: tuple[bool, ...] = (True, False, True)) -> ScoreMaps:
    given = np.zeros((2, 4, 5), np.float32) if scores is None else scores
    return ScoreMaps(given, np.array(present))


def test_classes_that_are_absent_have_no_map() -> None:
    planes = np.zeros((200, 1, 2), np.float32)
    planes[3], planes[120, 0, 0], planes[199, 0, 1] = 0.5, 0.75, 0.25
    found = ScoreMaps.of(planes)
    assert (found.scores.shape, found.classes.tolist()) == ((3, 1, 2), [3, 120, 199])
    np.testing.assert_array_equal(found.dense(), planes)
    assert found.over(np.array([199, 0, 3]))[:, 0].tolist() == [[0.0, 0.25], [0.0, 0.0], [0.5, 0.5]]
    assert found.winners().tolist() == [[120, 3]]
    silent = found.but_silent(np.array([[True, False]]))
    assert (silent.classes.tolist(), silent.scores[:, 0].tolist()) == ([3, 199], [[0.0, 0.5], [0.0, 0.25]])
    assert ScoreMaps.of(planes[:3]).winners().tolist() == [[0, 0]]  # nobody has a score


def test_files_with_maps_of_absent_classes_still_load(tmp_path: Path) -> None:
    planes = np.zeros((3, 1, 1), np.float16)
    planes[2] = 0.5
    np.savez(tmp_path / "old.npz", scores=planes, present=np.array([False, False, True]))
    found = load_scores(tmp_path / "old.npz")
    assert (found.scores.tolist(), found.present.tolist()) == ([[[0.5]]], [False, False, True])


def test_round_trip_within_half_precision(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((2, 4, 5), np.float32)
    save_scores(tmp_path / "sub" / "a.npz", maps(scores))
    back = load_scores(tmp_path / "sub" / "a.npz")
    assert back.scores.dtype == np.float32
    assert np.abs(back.scores - scores).max() <= 2**-12
    assert back.present.tolist() == [True, False, True]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.npz"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_values_outside_are_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    scores = np.zeros((2, 4, 5), np.float32)
    scores[0, 1, 2] = value
    with pytest.raises(DataError, match=r"a: scores from .*\[0, 1\].*NaN weights"):
        save_scores(tmp_path / "a.npz", maps(scores))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "present"), [((4, 5), (True,) * 3), ((2, 4, 5), (True,) * 3), ((3, 4, 5), (True, False, True))]
)
def test_shapes_are_checked(shape: tuple[int, ...], present: tuple[bool, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(P, H, W\), a map per present class"):
        check_scores(maps(np.zeros(shape, np.float32), present), "x")
    good = maps(np.zeros((2, 4, 5), np.float32))
    assert check_scores(good, "x") is good


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"no scores at .*run the stage that writes it"):
        load_scores(path)
    save_scores(path, maps(np.random.default_rng(0).random((3, 40, 50), np.float32), (True,) * 3))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", b"text", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-10], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"is unreadable .*rerun its stage"):
            load_scores(path)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=np.zeros((3, 2, 2)))
    with pytest.raises(DataError, match="unreadable"):
        load_scores(tmp_path / "a.npz")
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="unreadable"):
        load_scores(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", scores=np.full((1, 2, 2), 7.0), present=np.ones(1, bool))
    with pytest.raises(DataError, match=r"scores from 0\.0 to 7\.0"):
        load_scores(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("scores", "present"),
    [
        (np.zeros((1, 2, 2), np.int64), np.ones(1, bool)),
        (np.zeros((1, 2, 2), np.complex64), np.ones(1, bool)),
        (np.zeros((1, 2, 2), np.float32), np.ones(1, np.int64)),
        (np.zeros((1, 2, 2), "M8[s]"), np.ones(1, bool)),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, scores: np.ndarray, present: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", scores=scores, present=present)
    with pytest.raises(DataError, match="not floats and booleans"):
        load_scores(tmp_path / "a.npz")


def test_arrays_that_announce_more_than_they_have_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    import io
    import zipfile

    body = io.BytesIO()
    np.save(body, np.zeros((1, 2, 2), np.float16))
    longer = body.getvalue().replace(b"(1, 2, 2)", b"(1, 9, 9)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("scores.npy", longer)
        archive.writestr("present.npy", b"")
    with pytest.raises(DataError, match=r"scores\.npy of float16 \(1, 9, 9\) in 136 bytes"):
        load_scores(tmp_path / "a.npz")


def test_arrays_by_column_are_read_as_they_are(tmp_path: Path) -> None:
    scores = np.asfortranarray(np.arange(6, dtype=np.float16).reshape(1, 2, 3) / 8)
    np.savez(tmp_path / "a.npz", scores=scores, present=np.ones(1, bool))
    np.testing.assert_array_equal(load_scores(tmp_path / "a.npz").scores, scores)
