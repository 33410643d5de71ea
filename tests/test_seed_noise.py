"""scripts/seed_noise.py: two seeds and their mean by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scripts.seed_noise import compare_seeds, row

from weakseg.core.errors import DataError


def test_two_seeds_by_hand() -> None:
    """Truth 0 0 1 1. The first says 0 0 0 1 (its error unsure), the second 1 0 1 1 (the same): their mean is right."""
    first = np.array([0.9, 0.9, 0.6, 0.1])
    second = np.array([0.4, 0.9, 0.1, 0.1])
    scores = np.stack([[one, 1 - one] for one in (first, second)]).reshape(2, 2, 1, 4).astype(np.float32)
    found = compare_seeds(iter([scores]), iter([np.array([[0, 0, 1, 1]], np.uint8)]))
    np.testing.assert_allclose(found.seeds, [[2 / 3, 1 / 2], [1 / 2, 2 / 3]])
    np.testing.assert_allclose(found.mean, 1.0)
    assert found.differ == 0.5
    assert row("pixel", found, 0.25) == ["pixel", "0.583, 0.583", "0.000", "1.000", "0.167, 0.167", "0.500", "0.250"]


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(DataError, match="1 network; expected two seeds at least"):
        compare_seeds(iter([np.zeros((1, 2, 1, 4), np.float32)]), iter([np.zeros((1, 4), np.uint8)]))
