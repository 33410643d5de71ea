"""Windows that cover, and weights that blend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.errors import ParamsError
from weakseg.data.windows import blend_weights, cover_starts, cover_windows, cut_area, paste


@settings(max_examples=200)
@given(st.integers(1, 500), st.integers(1, 120), st.floats(0, 0.9))
def test_starts_cover_without_repeat_or_overhang(length: int, size: int, overlap: float) -> None:
    starts = cover_starts(length, size, overlap)
    assert starts[0] == 0
    if length <= size:
        assert starts == [0]
        return
    steps = np.diff(starts)
    assert starts[-1] == length - size
    assert (steps > 0).all()
    assert (steps <= max(1, int(size * (1 - overlap)))).all()


def test_starts_by_hand() -> None:
    assert cover_starts(10, 4, 0.0) == [0, 3, 6]
    assert cover_starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert cover_starts(8, 4, 0.0) == [0, 4]
    assert cover_starts(3, 4, 0.5) == [0]
    assert cover_windows(4, 8, 4, 0.0) == [(0, 0), (0, 4)]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0.5), (4, 1.0), (4, -0.1)])
def test_bad_windows_are_refused(size: int, overlap: float) -> None:
    with pytest.raises(ParamsError, match="0 <= overlap < 1"):
        cover_starts(10, size, overlap)


def test_weights_by_hand() -> None:
    assert blend_weights(1, 1).tolist() == [[1.0]]
    assert blend_weights(3, 3) == pytest.approx(np.array([[0.5, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 0.5]]))
    weights = blend_weights(7, 12)
    assert weights.dtype == np.float32
    assert 0 < weights.min() < weights.max() <= 1
    assert np.array_equal(weights, weights[::-1, ::-1])


@pytest.mark.parametrize(
    ("height", "width", "side", "halo"), [(5, 9, 4, 2), (4, 4, 4, 0), (3, 2, 8, 5), (1, 7, 2, 100)]
)
def test_kept_parts_cover_the_area_once(height: int, width: int, side: int, halo: int) -> None:
    area = np.arange(2 * height * width).reshape(2, height, width) + 1
    target, count = np.zeros_like(area), np.zeros_like(area)
    for rows, columns, keep_rows, keep_columns in cut_area(height, width, side, halo):
        window = (rows, columns, keep_rows, keep_columns)
        part = area[:, rows, columns]
        assert max(part.shape[1:]) <= side + 2 * halo
        assert part[:, keep_rows, keep_columns].size <= 2 * side * side
        paste(target, window, part)
        one = np.zeros_like(area)
        paste(one, window, np.ones_like(part))
        count += one
    np.testing.assert_array_equal(target, area)
    assert (count == 1).all()


def test_halo_is_read_where_there_is_some() -> None:
    assert cut_area(3, 10, 4, 1) == [
        (slice(0, 3), slice(0, 5), slice(0, 3), slice(0, 4)),
        (slice(0, 3), slice(3, 9), slice(0, 3), slice(1, 5)),
        (slice(0, 3), slice(7, 10), slice(0, 3), slice(1, 3)),
    ]
