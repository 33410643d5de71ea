"""Windows cover an area once, whatever its size."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.methods.windows import cut_area, paste


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
