"""Run lengths and polygons of COCO, against values of pycocotools 2.0.11 and against masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.errors import DataError
from weakseg.labels.coco_shapes import outline_edges, read_counts, run_edges, turned_edges


@pytest.mark.parametrize(
    ("counts", "size", "bbox"),  # encode and toBbox of pycocotools: x, y, width, height
    [
        ("=192K00000005", (7, 9), (1, 2, 7, 5)),
        ("d0", (4, 5), None),
        ("b23a00n>", (20, 30), (4, 2, 2, 3)),
    ],
)
def test_edges_of_compressed_counts(counts: str, size: tuple[int, int], bbox: tuple[int, ...] | None) -> None:
    edges = outline_edges({"size": list(size), "counts": counts}, size)
    assert edges == (None if bbox is None else (bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]))


def test_counts_of_pycocotools() -> None:
    assert read_counts("=192K00000005") == [13, 1, 9, 3, 4, 3, 4, 3, 4, 3, 4, 3, 9]
    assert read_counts("b23a00n>") == [82, 3, 17, 3, 495]


def write_counts(counts: list[int]) -> str:
    """As pycocotools' rleToString: 5 bits a character, from the fourth on the difference to the last but one."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


@settings(max_examples=100)
@given(st.integers(1, 40), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_edges_of_any_mask(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share**3
    flat = np.concatenate([[False], mask.T.ravel(), [not mask.T.ravel()[-1]]])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1])])).tolist()
    rows, columns = np.nonzero(mask)
    wanted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
    assert run_edges(counts, height, width) == wanted
    assert read_counts(write_counts(counts)) == counts
    assert outline_edges({"size": [height, width], "counts": write_counts(counts)}, (height, width)) == wanted


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [2, 3], "counts": [1, 2]}, r"run lengths of 3 px; expected 6 px of 3x2"),
        ({"size": [2, 3], "counts": []}, r"run lengths of 0 px"),
        ({"size": [2, 3], "counts": [-1, 7]}, r"run lengths of 6 px"),
        ({"size": [2, 3], "counts": "~"}, r"counts with '~'"),
        ({"size": [2, 3], "counts": "P"}, r"counts that end early"),
        ({"size": [2, 3], "counts": None}, r"counts that are none"),
        ({"size": "2x3", "counts": [6]}, r"run lengths of size 2x3"),
        ({"size": [3, 2], "counts": [6]}, r"run lengths of 2x3 px \(width x height\); expected 3x2 px"),
        ([[1, 2, 3, 4]], r"a segmentation that is none"),
        ([[1, 2, 3, 4, 5]], r"a segmentation that is none"),
        ([[1, 2, 3, 4, 5, "6"]], r"a segmentation that is none"),
        ("mask.png", r"a segmentation that is none"),
    ],
)
def test_outlines_that_are_none(segmentation: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        outline_edges(segmentation, (2, 3))


def test_no_outline_and_a_turn() -> None:
    assert outline_edges(None, (2, 3)) is None
    assert outline_edges([], (2, 3)) is None
    assert outline_edges({"size": [2, 3], "counts": [6]}, (2, 3)) is None
    assert turned_edges((0, 0, 4, 2), 90) == pytest.approx((1, -1, 3, 3))
    assert turned_edges((0, 0, 4, 2), -180) == pytest.approx((0, 0, 4, 2))


@pytest.mark.parametrize("counts", [[10**40, 1], [-(10**40)], [], [3, -1, 4], "o" * 40 + "0"])
def test_run_lengths_without_an_end_are_refused(counts: object) -> None:
    with pytest.raises(DataError, match=r"run lengths|counts"):
        outline_edges({"size": [2, 3], "counts": counts}, (2, 3))
