"""How unlike what a network was trained on an image is, seen by its own encoder: the area of applicability.

After Meyer and Pebesma, Predicting into unknown space? Estimating the area of applicability of spatial prediction
models (Methods in Ecology and Evolution 12, 2021), the R package CAST. Their dissimilarity index is the distance in the
space of the standardised predictors to the nearest training point, over the mean distance of training points; a place
lies outside where it is above what was found between folds of the training data. Deviations:

* The predictors are the encoder's features of all scales, averaged over some 100 px. So blur, light and noise count
  (shallow features) as well as what is on the ground (deep ones).
* Every scale weighs the same, however many channels it has. CAST takes the variable importance of a random forest,
  which a network has not; unweighted, the deepest scale with its hundreds of channels outvotes those that see most.
* The nearest of a few hundred prototypes drawn from the training places, not of all of them.
* The limit is the 99.5th percentile of the distances between folds (CAST: the largest that is no outlier).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import WeightsError
from weakseg.networks.encdec_unpool import Encoded, crop_back
from weakseg.networks.tensor_files import is_finite

REACH: Final = 96  # px that features are averaged over, about
_PARTS: Final = ("mean", "std", "prototypes", "typical", "limit")


def join_scales(encoded: Encoded) -> Tensor:
    """All scales of the encoder one after another (B, D, rows, columns) float32, on the grid of the deepest."""
    features = encoded.features[1:]
    deepest = features[-1]
    steps = (int(feature.shape[2] // deepest.shape[2]) for feature in features)  # int: of a tracer these are tensors
    same = [F.avg_pool2d(f.float(), k) if k > 1 else f.float() for f, k in zip(features, steps, strict=True)]
    return torch.cat(same, 1)


def pool_features(encoded: Encoded) -> Tensor:
    """Features (B, D, rows, columns) float32 on the grid of the deepest, averaged over about ``REACH`` px.

    All scales of the encoder one after another; D is their channels together.
    """
    stride = int(encoded.features[0].shape[2] // encoded.features[-1].shape[2])
    kernel = max(1, REACH // stride) | 1  # odd, so that it has a middle
    return F.avg_pool2d(join_scales(encoded), kernel, 1, kernel // 2, count_include_pad=False)


def scale_weights(encoded: Encoded) -> Tensor:
    """Weights (D,) of the pooled features, with which every scale counts the same."""
    channels = torch.tensor([feature.shape[1] for feature in encoded.features[1:]])
    return (1 / channels.sqrt()).repeat_interleave(channels)


class Applicability(nn.Module):
    """The dissimilarity index of every pixel, relative to its limit.

    Args:
        mean, std: float (D,) of the training features; ``std`` is divided by the weights.
        prototypes: (P, D), standardised features of training places; kept as float16.
        typical: mean distance of two of them.
        limit: of the index; above it nothing like the place was seen.
    """

    mean: Tensor
    std: Tensor
    prototypes: Tensor
    typical: Tensor
    limit: Tensor

    def __init__(self, mean: Tensor, std: Tensor, prototypes: Tensor, typical: float, limit: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.register_buffer("prototypes", prototypes.half().float())
        self.register_buffer("typical", torch.tensor(typical, dtype=torch.float32))
        self.register_buffer("limit", torch.tensor(limit, dtype=torch.float32))

    def index(self, features: Tensor) -> Tensor:
        """Features (N, D) -> dissimilarity index (N,)."""
        return distances((features - self.mean) / self.std, self.prototypes).amin(1) / self.typical

    def forward(self, encoded: Encoded) -> Tensor:
        """Encoded images -> index over limit (B, 1, H, W) float32: above 1 nothing like it was seen."""
        features = pool_features(encoded)
        batch, depth, rows, columns = features.shape
        found = self.index(features.permute(0, 2, 3, 1).reshape(-1, depth)) / self.limit
        maps = found.reshape(batch, 1, rows, columns)
        size = encoded.features[0].shape[2:]
        return crop_back(F.interpolate(maps, size, mode="bilinear", align_corners=False), encoded.crop)

    def content(self) -> dict[str, Tensor]:
        """For a model file; prototypes as float16."""
        parts = {name: getattr(self, name).cpu() for name in _PARTS}
        return {**parts, "prototypes": parts["prototypes"].half()}


def read_applicability(content: Mapping[str, Any] | None) -> Applicability | None:
    """The inverse of :meth:`Applicability.content`; None for a model file that has none.

    Raises:
        WeightsError: another content, such as of another number of features, or values that are not finite.
    """
    if content is None:
        return None
    parts = [content.get(name) for name in _PARTS] if isinstance(content, Mapping) else []
    tensors = [part for part in parts if isinstance(part, Tensor) and is_finite(part)]
    if len(tensors) < len(_PARTS):
        raise _no_area("parts missing, or not finite")
    mean, std, prototypes, typical, limit = tensors
    depth = mean.numel()
    if not (mean.ndim == std.ndim == 1 and std.numel() == depth and prototypes.ndim == 2 and len(prototypes)):
        raise _no_area("parts of another shape")
    if prototypes.shape[1] != depth or typical.numel() != 1 or limit.numel() != 1:
        raise _no_area("parts of another shape")
    if not (bool((std > 0).all()) and typical > 0 and limit > 0):
        raise _no_area("a deviation or distance that is not above 0")
    return Applicability(mean, std, prototypes, float(typical), float(limit)).eval()


def _no_area(found: str) -> WeightsError:
    return WeightsError(
        f"the area of applicability of the model file has {found}",
        expected="what training wrote",
        cure="train it again",
    )


def distances(places: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances (N, P) of places (N, D) and others (P, D)."""
    squares = places.square().sum(1, keepdim=True) + others.square().sum(1) - 2 * places @ others.T
    return squares.clamp(min=0).sqrt()
