"""Pooled features and the index as a map of pixels."""

from __future__ import annotations

import pytest
import torch
from tests.generators.small_networks import unpool

from weakseg.core.params import NetworkParams
from weakseg.networks.applicability import REACH, Applicability, pool_features, scale_weights
from weakseg.networks.build import Segmenter
from weakseg.networks.encdec_unpool import Crop, Encoded
from weakseg.training.segmenter import segmenter_of


def encoded(deep: torch.Tensor, shallow: torch.Tensor, stride: int, crop: Crop) -> Encoded:
    size = (deep.shape[0], 3, deep.shape[2] * stride, deep.shape[3] * stride)
    return Encoded((torch.zeros(size), shallow, deep), (), crop)


def test_all_scales_on_the_grid_of_the_deepest() -> None:
    """Stride 96 px: nothing left to average; of the shallow scale the mean of each 2 x 2."""
    deep = torch.arange(6.0).reshape(1, 1, 2, 3)
    shallow = torch.arange(24.0).reshape(1, 1, 4, 6)
    found = pool_features(encoded(deep, shallow, REACH, Crop(0, 0, 192, 288)))
    torch.testing.assert_close(found[0, 0], torch.tensor([[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]))
    torch.testing.assert_close(found[0, 1], deep[0, 0])


def test_features_are_averaged_over_the_reach_and_never_over_what_is_not_there() -> None:
    """Stride 32 px: 3 x 3 places; at a corner the mean of the four that are there."""
    deep = torch.zeros(1, 1, 3, 3)
    deep[0, 0, 1, 1] = 36.0
    found = pool_features(encoded(deep, deep, 32, Crop(0, 0, 96, 96)))
    torch.testing.assert_close(found[0, 1], torch.tensor([[9.0, 6, 9], [6, 4, 6], [9, 6, 9]]))


def test_the_index_over_the_limit_at_every_pixel() -> None:
    """Prototypes 0 and 4 on one feature of mean 1 and std 2, typical 4, limit 0.5: at 3 it is min(1, 3) / 4 / 0.5."""
    known = Applicability(torch.ones(1), torch.full((1,), 2.0), torch.tensor([[0.0], [4.0]]), 4.0, 0.5)
    image = torch.zeros(2, 3, 64, 64)
    maps = known(Encoded((image, torch.full((2, 1, 2, 2), 3.0)), (), Crop(3, 5, 50, 40)))
    assert maps.shape == (2, 1, 50, 40)
    torch.testing.assert_close(maps, torch.full_like(maps, 0.5))


@pytest.mark.parametrize("name", ["encdec_unpool", "unet"])
def test_every_network_has_features(name: str) -> None:
    small = {**unpool(32), "weights": "none", "dropout": 0.0}
    if name == "unet":
        small |= {"name": "unet", "encoder": "tf_efficientnet_lite0", "width": 1, "encoder_depth": 4}
    model: Segmenter = segmenter_of(NetworkParams.model_validate(small), 3).eval()
    with torch.no_grad():
        content = model.encode(torch.randn(2, 3, 70, 90))
        features = pool_features(content)
    depth = sum(feature.shape[1] for feature in content.features[1:])
    weights = scale_weights(content)
    assert weights.shape == (depth,)
    scales = weights.square().split([feature.shape[1] for feature in content.features[1:]])
    assert [float(scale.sum()) for scale in scales] == pytest.approx([1.0] * len(scales))
    assert features.shape[:2] == (2, depth)
    known = Applicability(torch.zeros(depth), torch.ones(depth), torch.zeros(3, depth), 1.0, 1.0)
    with torch.no_grad():
        assert known(content).shape == (2, 1, 70, 90)
