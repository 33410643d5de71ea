"""IRNet: a frozen encoder with a branch of 1x1 convolutions that finds class boundaries, and one for displacements.

Ahn, Cho and Kwak (CVPR 2019), section 4, in the form of the NoPeopleAllowed entry (LID 2020). Differences: any encoder
and any image size; the encoder's batch norm never drifts; no displacement branch unless asked for, since it changes no
semantic map. The grid has one cell per 4x4 px; cell (i, j) stands for the px 4i..4i+3, 4j..4j+3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.methods.irnet.affinity import Offset, boundary_loss, displacement_loss, pair_offsets, sample_offsets
from weakseg.methods.irnet.forms import Form, Views
from weakseg.networks.build import Encoder

STRIDE = 4  # image px per grid cell
BOUNDARY_CHANNELS = 32


class IRNet(nn.Module):
    """Boundary branch, and optionally displacement branch, over a frozen encoder.

    Per feature map: 1x1 convolution without bias, GroupNorm, resampling to the grid, ReLU; all maps are concatenated
    and reduced to one boundary logit. With ResNet50 (64 to 2048 channels) the branches have the published 125 409 and
    1 269 120 weights. Maps finer than the grid are max-pooled 3x3, which makes of ResNet's first map the published one.

    Attributes:
        encoder: frozen: no gradients, running statistics always.
        stride: images are padded, by their own rim, to multiples of it; results are cropped again.
        displacement: the branch, or None.
    """

    def __init__(self, encoder: Encoder, *, displacement: bool = False) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.strides = tuple(encoder.strides)
        self.stride = max(STRIDE, *self.strides)
        count = len(self.strides)
        self.boundary = nn.ModuleList(_block(channels, BOUNDARY_CHANNELS, 4) for channels in encoder.channels)
        self.boundary_head = nn.Conv2d(BOUNDARY_CHANNELS * count, 1, 1)
        self.displacement = Displacement(encoder.channels, self.strides) if displacement else None

    def train(self, mode: bool = True) -> IRNet:
        """As in torch, but the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> boundary logits (B, 1, ceil(H / 4), ceil(W / 4))."""
        return _crop(self._boundary(self._features(x)), x)

    def boundary_and_displacement(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boundary logits as in :meth:`forward` and displacements (B, 2, h, w) in cells, channel 0 = y, 1 = x."""
        if self.displacement is None:
            raise ParamsError("IRNet without displacements", expected="displacement=True", cure="build it with them")
        features = self._features(x)
        return _crop(self._boundary(features), x), _crop(self.displacement(features), x)

    def _features(self, x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return list(self.encoder(pad_to_multiple(x, self.stride)))

    def _boundary(self, features: Sequence[Tensor]) -> Tensor:
        maps = [
            torch.relu(_resample(block(_coarsen(feature, stride)), max(stride, STRIDE), STRIDE))
            for block, feature, stride in zip(self.boundary, features, self.strides, strict=True)
        ]
        return self.boundary_head(torch.cat(maps, 1))  # type: ignore[no-any-return]


class Displacement(nn.Module):
    """The displacement branch: from every cell towards the centroid of its instance.

    Attributes:
        mean_shift: (2,), of published weights: mean displacement over their images, subtracted in evaluation mode.
    """

    mean_shift: Tensor

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        shallow = [index for index, stride in enumerate(strides) if stride <= STRIDE]
        self.first_deep = len(shallow)
        if self.first_deep not in (1, 2) or self.first_deep == len(self.strides):
            raise ParamsError(
                f"encoder with strides {self.strides}",
                expected="one or two up to 4, and some above",
                cure="take a feature pyramid, or do without displacements",
            )
        widths = [(64, 8), (128, 16)][-self.first_deep :] + [(256, 16)] * (len(self.strides) - self.first_deep)
        self.blocks = nn.ModuleList(
            _block(wide, width, groups) for wide, (width, groups) in zip(channels, widths, strict=True)
        )
        self.deep = _block(sum(width for width, _ in widths[self.first_deep :]), 256, 16)
        self.joint = _block(sum(width for width, _ in widths[: self.first_deep]) + 256, 256, 16)
        self.head = nn.Conv2d(256, 2, 1, bias=False)
        self.register_buffer("mean_shift", torch.zeros(2))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Encoder features -> displacements (B, 2, h, w) in cells."""
        maps = []
        for index, (block, feature) in enumerate(zip(self.blocks, features, strict=True)):
            stride = self.strides[index]
            target = STRIDE if index < self.first_deep else 2 * STRIDE
            maps.append(torch.relu(_resample(block(_coarsen(feature, stride)), max(stride, STRIDE), target)))
        deep = torch.cat(maps[self.first_deep :], 1)
        deep = torch.relu(_resample(self.deep(deep), 2 * STRIDE, STRIDE))
        field: Tensor = self.head(torch.relu(self.joint(torch.cat([*maps[: self.first_deep], deep], 1))))
        return field if self.training else field - self.mean_shift.view(1, 2, 1, 1)


def label_grid(labels: Tensor) -> Tensor:
    """Masks (B, H, W) -> (B, ceil(H / 4), ceil(W / 4)): the label in the middle (row 2, column 2) of each cell.

    The published code takes its upper left px; the walk averages and enlarges by whole cells, so the middle fits.
    """
    rows, columns = (
        (torch.arange(0, size, STRIDE, device=labels.device) + 2).clamp(max=size - 1) for size in labels.shape[1:]
    )
    return labels[:, rows[:, None], columns[None, :]]


def irnet_loss(
    model: IRNet,
    images: Tensor,
    labels: Tensor,
    form: Form,
    classes: int,
    *,
    radius: int,
    pairs: int,
    generator: torch.Generator,
) -> Tensor:
    """Training loss of one batch: normalised images (B, 3, H, W), masks (B, H, W) of the same crops -> a scalar.

    Pairs lie less than ``radius`` grid cells apart (a cell is 4 px); ``generator`` (CPU) draws ``pairs`` of their
    offsets for this step, all where there are fewer (radius 5 has 34, radius 10 has 152).
    """
    if labels.shape != (images.shape[0], *images.shape[2:]):
        raise DataError(
            f"images {tuple(images.shape)}, masks {tuple(labels.shape)}",
            expected="(B, 3, H, W) and (B, H, W)",
            cure="cut image and mask from the same window, and resize neither alone",
        )
    offsets: tuple[Offset, ...] = sample_offsets(pair_offsets(radius), pairs, generator)
    grid = label_grid(labels)
    if not form.displacement:
        return boundary_loss(model(images), grid, offsets, classes, background=form.background)
    logits, field = model.boundary_and_displacement(images)
    return boundary_loss(logits, grid, offsets, classes, background=form.background) + displacement_loss(
        field, grid, offsets, classes, background=form.background
    )


@torch.no_grad()
def boundary_map(model: IRNet, images: Tensor, views: Views = "flip") -> Tensor:
    """Boundary probability (B, 1, ceil(H / 4), ceil(W / 4)) of normalised images (B, 3, H, W).

    The *logits* of all views are averaged before the sigmoid (published with "flip"). Images are padded before they are
    turned, so that the cells of all views coincide. The model must be in evaluation mode; raises ParamsError if not.
    """
    if model.training:
        raise ParamsError("a model in training mode", expected="evaluation mode", cure="call model.eval() first")
    turns, mirrors = {"none": ((0,), (False,)), "flip": ((0,), (False, True)), "d4": (range(4), (False, True))}[views]
    padded = pad_to_multiple(images, model.stride)
    logits: dict[tuple[int, bool], Tensor] = {}
    for odd in sorted({turn % 2 for turn in turns}):  # views of one shape in one batch
        group = [(turn, mirror) for turn in turns if turn % 2 == odd for mirror in mirrors]
        seen = model(torch.cat([_turned(padded, turn, mirror) for turn, mirror in group]))
        for (turn, mirror), view in zip(group, seen.chunk(len(group)), strict=True):
            logits[turn, mirror] = torch.rot90(view.flip(3) if mirror else view, -turn, (2, 3))
    return torch.sigmoid(_crop(torch.stack([logits[key] for key in sorted(logits)]).mean(0), images))


def _turned(images: Tensor, turn: int, mirror: bool) -> Tensor:
    view = torch.rot90(images, turn, (2, 3))
    return view.flip(3) if mirror else view


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (B, C, H, W) up to multiples; a rim of zeros would be a boundary."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _block(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(groups, width))


def _coarsen(feature: Tensor, stride: int) -> Tensor:
    """Max-pool a map finer than the grid, halving until it is as coarse."""
    while stride < STRIDE:
        feature = F.max_pool2d(feature, 3, 2, 1)
        stride *= 2
    return feature


def _resample(feature: Tensor, stride: int, target: int) -> Tensor:
    """Bilinear between strides; average where ``target`` is coarser."""
    if stride < target:
        return F.avg_pool2d(feature, target // stride)
    if stride == target:
        return feature
    return F.interpolate(feature, scale_factor=stride / target, mode="bilinear", align_corners=False)


def _crop(field: Tensor, images: Tensor) -> Tensor:
    return field[..., : -(-images.shape[2] // STRIDE), : -(-images.shape[3] // STRIDE)]
