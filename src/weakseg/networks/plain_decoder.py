"""A plain decoder for encoders that a U-Net has no use for: of one scale (vision transformers), or none below 4 px."""

from __future__ import annotations

import itertools
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import ParamsError
from weakseg.networks.encdec_unpool import Encoded, check_images, crop_back, pad_to_multiple
from weakseg.networks.first_convolution import first_convolution


class Pyramid(Protocol):
    """Features of several scales, with the channels and the stride of each."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, x: Tensor) -> list[Tensor]: ...


class PlainNetwork(nn.Module):
    """Features of all scales, each by a 1x1 convolution, summed on the finest grid; then doubled and convolved in turn.

    Vision transformers (Dosovitskiy et al., ICLR 2021) have no fine scale, and nothing is skipped in from the image:
    thin objects come from what the deep features say of their places.

    Args:
        encoder: see :class:`Pyramid`; it learns at a lower rate, or stays as it is (``encoder_factor`` 0).
        classes: number of classes C.
        channels: of the sum, then of each block that doubles the grid; the logits are enlarged from there.
        dropout: share of the sum's channels dropped while training.

    Attributes:
        stride: input sizes are padded to a multiple of it, and the output cropped back.

    Raises:
        ParamsError: more blocks than doublings from the finest feature to the image.
    """

    def __init__(self, encoder: nn.Module, classes: int, *, channels: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        pyramid: Pyramid = encoder  # type: ignore[assignment]
        self.stride, self.finest = max(pyramid.strides), min(pyramid.strides)
        if 2 ** (len(channels) - 1) > self.finest or min(channels) < 1:
            raise ParamsError(
                f"decoder_channels {list(channels)} for features of stride {self.finest} and coarser",
                expected=f"at most {self.finest.bit_length()} positive numbers",
                cure="list fewer, or take the network unet",
            )
        self.encoder = encoder
        self.reduce = nn.ModuleList(_normed(count, channels[0], 1) for count in pyramid.channels)
        self.dropout = nn.Dropout2d(dropout)
        self.blocks = nn.ModuleList(_normed(before, after, 3) for before, after in itertools.pairwise(channels))
        self.head = nn.Conv2d(channels[-1], classes, 1)

    def encode(self, x: Tensor) -> Encoded:
        """Normalised images (B, K, H, W) of any size -> what :meth:`decode` needs."""
        check_images(x, first_convolution(self.encoder).in_channels)
        padded, crop = pad_to_multiple(x, self.stride)
        features = self.encoder(padded)
        return Encoded((padded, *features), (), crop)

    def decode(self, encoded: Encoded) -> Tensor:
        """Logits (B, C, H, W) at the size of the image that was encoded."""
        padded, *features = encoded.features
        grid = max(feature.shape[-2:] for feature in features)
        parts = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        total = torch.stack([_resize(part, (grid[0], grid[1])) for part in parts]).sum(0)
        x = self.dropout(F.relu(total))
        for block in self.blocks:
            x = F.relu(block(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)))
        return crop_back(_resize(self.head(x), (padded.shape[-2], padded.shape[-1])), encoded.crop)


def _normed(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after))


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
