"""The limit of the area of applicability: from places of one area to those of others."""

from __future__ import annotations

import pytest
import torch

from weakseg.core.errors import DataError
from weakseg.evaluation.applicability import PROTOTYPES, fit_applicability
from weakseg.networks.applicability import read_applicability


def test_the_limit_by_hand() -> None:
    """On a line at 0 and 2 (area 0), 1 and 5 (area 1): distances to the other area are 1, 1, 1, 3 over the scale."""
    features = torch.tensor([[0.0], [2.0], [1.0], [5.0]])
    known = fit_applicability(features, torch.tensor([0, 0, 1, 1]))
    scale = float(features.std())
    assert float(known.mean) == pytest.approx(2.0)
    assert float(known.typical) * scale == pytest.approx((2 + 1 + 5 + 1 + 3 + 4) / 6, rel=1e-3)
    quantile = 1 + 0.985 * 2  # of 1, 1, 1, 3: 99.5 % lie at place 2.985 of 0..3
    assert float(known.limit * known.typical) * scale == pytest.approx(quantile, rel=1e-3)
    assert known.index(torch.tensor([[9.0]])).item() * float(known.typical) * scale == pytest.approx(4, rel=1e-3)
    assert known.index(features).max() == pytest.approx(0, abs=1e-3)


def test_what_is_like_the_training_is_inside_and_what_is_not_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = torch.arange(20).repeat_interleave(100)
    shift = torch.randn(20, 8, generator=generator)[areas]
    known = fit_applicability(shift + torch.randn(2000, 8, generator=generator), areas)
    assert known.prototypes.shape == (PROTOTYPES, 8)
    more = torch.randn(4000, 8, generator=generator) * 2**0.5
    assert (known.index(more) > known.limit).float().mean() < 0.05
    assert (known.index(more + 8) > known.limit).float().mean() > 0.99


def test_the_same_seed_draws_the_same_and_a_file_holds_all() -> None:
    features, folds = torch.randn(800, 4, generator=torch.Generator().manual_seed(1)), torch.arange(800) % 5
    one, two = fit_applicability(features, folds), fit_applicability(features, folds)
    read = read_applicability(one.content())
    assert read is not None
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)
        torch.testing.assert_close(read.state_dict()[name], value, rtol=0, atol=0)
    assert one.content()["prototypes"].dtype == torch.float16
    assert read_applicability(None) is None


def test_a_feature_that_never_changed_counts_when_it_does() -> None:
    features = torch.cat([torch.randn(100, 2, generator=torch.Generator().manual_seed(2)), torch.zeros(100, 1)], 1)
    known = fit_applicability(features, torch.arange(100) % 4)
    assert known.index(torch.tensor([[0.0, 0.0, 1.0]])) > 100 * known.limit


def test_weights_stretch_the_distances() -> None:
    """Two features of the same spread, the second with a weight of 2: a step along it counts double."""
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    known = fit_applicability(features, torch.tensor([0, 0, 1, 1]), weights=torch.tensor([1.0, 2.0]))
    away = known.index(torch.tensor([[-1.0, 0.0], [0.0, -1.0]]))
    assert float(away[1] / away[0]) == pytest.approx(2, rel=1e-3)


def test_one_area_is_refused() -> None:
    with pytest.raises(DataError, match="4 places in 1 areas; expected two areas"):
        fit_applicability(torch.zeros(4, 2), torch.zeros(4))
