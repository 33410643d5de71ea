"""What tags say per crop size: by hand, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.labels import tag_statistics as tags

ABC = ClassScheme(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def test_statistics_by_hand() -> None:
    """Four crops of 10 px: {a}, {a, b}, {a, b, c}, nothing labelled."""
    mask = np.zeros((20, 20), np.uint8)
    mask[0, 10] = 1
    mask[10, 0], mask[10, 1] = 1, 2
    mask[10:, 10:] = 255
    statistics = tags.tag_statistics([mask], ABC, sizes=(10, 20))
    rate = statistics.classes["rate"]
    assert [rate[10, name] for name in "abc"] == pytest.approx([1, 2 / 3, 1 / 3])
    third = -(1 / 3) * math.log2(1 / 3) - (2 / 3) * math.log2(2 / 3)
    assert [statistics.classes["entropy"][10, name] for name in "abc"] == pytest.approx([0, third, third])
    row = statistics.sizes.loc[10]
    assert (row["crops"], row["pixels"], row["classes_per_crop"]) == (3, 100, 2)
    assert (row["single"], row["all"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert row["bits_per_crop"] == pytest.approx(2 * third)
    assert row["mean_entropy"] == pytest.approx(2 * third / 3)
    assert row["bits_per_pixel"] == pytest.approx(2 * third / 100)
    assert statistics.together[10].loc["b"].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert statistics.sizes.loc[20, "bits_per_crop"] == 0  # every class in the only crop: the tag says nothing
    assert statistics.sizes.loc[20, "all"] == 1


def test_statistics_pool_masks_and_leave_unknown_out() -> None:
    first = np.zeros((10, 10), np.uint8)
    second = first.copy()
    second[0, 0] = 1  # 1 %: under the threshold, so unknown
    statistics = tags.tag_statistics(iter([first, second]), ABC, sizes=(10,), min_share=2.0)
    assert statistics.classes["rate"][10, "b"] == 0  # over the one crop where it is known
    assert statistics.sizes.loc[10, "crops"] == 2
    anything = tags.tag_statistics([first, second], ABC, sizes=(10,))
    assert anything.classes["rate"][10, "b"] == 0.5
    assert anything.classes["entropy"][10, "b"] == 1.0


def test_best_size_weighs_tags_or_area() -> None:
    """Blocks of 8 px: crops of 8 px hold one of two classes (1 bit each), 24 px both always, 4 px one as well."""
    checks = (np.indices((48, 48)) // 8).sum(0) % 2
    mask = checks.astype(np.uint8)
    statistics = tags.tag_statistics([mask], ABC, sizes=(4, 8, 24))
    assert statistics.sizes["bits_per_crop"].tolist() == pytest.approx([2, 2, 0])
    assert tags.best_size(statistics) == 8  # of equals, the one with fewer tags
    assert tags.best_size(statistics, "pixel") == 4
    with pytest.raises(ParamsError, match="use crop"):
        tags.best_size(statistics, "area")  # type: ignore[arg-type]


def test_statistics_refuse_nothing() -> None:
    with pytest.raises(DataError, match="import labels first"):
        tags.tag_statistics([], ISPRS)
