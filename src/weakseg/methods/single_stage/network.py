"""The network of Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020.

Backbone -> ASPP -> decoder with a skip; a shallow branch that gets global cues by a channel-wise affine (GCI) is mixed
in by a stochastic gate (SG). Class scores are mask-weighted means of the logits (nGWP) plus a size-focal term, so tags
alone train it; ``pseudo_labels.py`` has the self-supervised part. Head names are those of the published checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import ParamsError
from weakseg.core.methods import SingleStageParams
from weakseg.networks.build import Encoder
from weakseg.networks.resnet38 import ResNet38

MASS_EPSILON = 1.0  # nGWP's denominator: the mass of one stride-4 pixel
FOCAL_POWER, FOCAL_FLOOR = 3.0, 0.01
BACKGROUND_LOGIT = 1.0
SKIP_CHANNELS = 48  # of the decoder's skip; a multiple of 8
GATE_PSI = 0.3  # share of the shallow feature in evaluation, and the chance of an element to be shallow in training
Norm = Literal["batch", "group"]


class SingleStageOutput(NamedTuple):
    """Of a batch: ``logits`` float32 (B, C or 1 + C, h, w) at stride 4, background first; ``scores`` float32 (B, C)."""

    logits: Tensor
    scores: Tensor


class EncoderBackbone(nn.Module):
    """Any timm encoder as a backbone: its stride-4 feature and a deep one.

    BatchNorm keeps its pretrained scale, shift and statistics, as the paper's backbones do.

    Args:
        encoder: of :func:`weakseg.networks.build.build_encoder`.
        deep_stride: 8 or 16; the deepest feature of this stride is taken. Of an encoder dilated to it that is the last
            one; of an undilated one a shallower, sharper feature, and the stages behind it learn nothing.
    """

    def __init__(self, encoder: Encoder, *, deep_stride: int = 16) -> None:
        super().__init__()
        if 4 not in encoder.strides or deep_stride not in encoder.strides or deep_stride not in (8, 16):
            raise ParamsError(
                f"encoder {encoder.name} has strides {encoder.strides}, stride {deep_stride} asked for",
                expected="features of stride 4 and of stride 8 or 16",
                cure="mend single_stage.output_stride or single_stage.backbone",
            )
        self.encoder = encoder
        self.preprocessing = encoder.preprocessing
        self._shallow = max(index for index, stride in enumerate(encoder.strides) if stride == 4)
        self._deep = max(index for index, stride in enumerate(encoder.strides) if stride == deep_stride)
        self.channels = (encoder.channels[self._shallow], encoder.channels[self._deep])
        self.strides = (4, deep_stride)
        for norm in _batch_norms(encoder):
            norm.requires_grad_(False)

    def train(self, mode: bool = True) -> EncoderBackbone:
        """As usual, but frozen BatchNorm stays in evaluation mode."""
        super().train(mode)
        for norm in _batch_norms(self.encoder):
            norm.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> the stride-4 feature and the deep one."""
        features = self.encoder(images)
        return features[self._shallow], features[self._deep]


Backbone = ResNet38 | EncoderBackbone


class SingleStage(nn.Module):
    """Class logits per pixel and class scores per image, trained by tags.

    Args:
        backbone: learns at the base rate, the heads faster (:func:`parameter_groups`).
        classes: number of classes, without background.
        params: of them channels, aspp_rates and aspp_image_pool.
        background: a channel of constant logit 1 comes before the classes ("none of them"), as published. Off where
            every pixel belongs to a class.
        norm: of the decoder; ``group`` (of 8 channels) does not depend on the batch size, ``batch`` is published.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        params: SingleStageParams,
        *,
        background: bool = False,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        shallow, deep = backbone.channels
        channels, skip = params.channels, SKIP_CHANNELS
        self.backbone = backbone
        self.classes = classes
        self.background = background
        self.preprocessing = backbone.preprocessing
        self.aspp = Aspp(deep, channels, rates=params.aspp_rates, image_pool=params.aspp_image_pool)
        self.fc8_skip = nn.Sequential(_conv(shallow, skip), _norm(norm, skip), nn.ReLU())
        self.fc8_x = nn.Sequential(_conv(channels + skip, channels, 3), _norm(norm, channels), nn.ReLU())
        self.shallow_mask = GlobalCueInjection(shallow, channels, norm=norm)
        layers: list[nn.Module] = []
        for dropout in (0.5, 0.1):
            layers += [_conv(channels, channels, 3), _norm(norm, channels), nn.ReLU(), nn.Dropout(dropout)]
        self.last_conv = nn.Sequential(*layers, _conv(channels, classes, bias=True))

    def forward(self, images: Tensor, valid: Tensor | None = None) -> SingleStageOutput:
        """Images (B, 3, H, W), normalised by ``preprocessing``, any H and W -> logits at stride 4 and scores.

        Args:
            images: float.
            valid: bool (B, H, W), False where there is no data (padding, raster borders): such pixels enter no global
                pooling and no score. All valid by default.
        """
        shallow, deep = self.backbone(images)
        near = None if valid is None else _shrink(valid, shallow)
        far = None if valid is None else _shrink(valid, deep)
        context = _resize(self.aspp(deep, far), shallow.shape[-2:])
        x = self.fc8_x(torch.cat([context, self.fc8_skip(shallow)], dim=1))
        x = stochastic_gate(x, self.shallow_mask(shallow, x, near), psi=GATE_PSI, training=self.training)
        logits = self.last_conv(x).float()
        if self.background:
            logits = torch.cat([torch.full_like(logits[:, :1], BACKGROUND_LOGIT), logits], dim=1)
        return SingleStageOutput(logits, class_scores(logits, background=self.background, valid=near))


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling. Its BatchNorm statistics stay at mean 0, variance 1, as in the published recipe.

    It is thus a learnt affine per channel, not a normalisation.
    """

    def __init__(self, inner: int, outer: int, *, rates: tuple[int, int, int], image_pool: bool) -> None:
        super().__init__()
        self.aspp1 = _aspp_branch(inner, outer, 1, 1)
        self.aspp2, self.aspp3, self.aspp4 = (_aspp_branch(inner, outer, 3, rate) for rate in rates)
        self.global_avg_pool: nn.Sequential | None = None
        if image_pool:
            self.global_avg_pool = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), _conv(inner, outer), nn.BatchNorm2d(outer), nn.ReLU()
            )
        self.conv1 = _conv((4 + image_pool) * outer, outer)
        self.bn1 = nn.BatchNorm2d(outer)
        self.dropout = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Aspp:
        """As usual, but BatchNorm stays in evaluation mode: scale and shift learn, the statistics do not move."""
        super().train(mode)
        for norm in _batch_norms(self):
            norm.eval()
        return self

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Features (B, inner, h, w) and ``valid`` float (B, 1, h, w) -> (B, outer, h, w)."""
        branches = [F.relu(branch(x)) for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)]
        if self.global_avg_pool is not None:
            pooled = self.global_avg_pool(x if valid is None else x * (valid / _share(valid)))
            branches.append(pooled.expand_as(branches[0]))
        return self.dropout(F.relu(self.bn1(self.conv1(torch.cat(branches, dim=1)))))  # type: ignore[no-any-return]


class GlobalCueInjection(nn.Module):
    """Shallow features under a channel-wise affine whose factors are the maximum of deep features over the image."""

    def __init__(self, inner: int, channels: int, *, norm: Norm) -> None:
        super().__init__()
        self.fc_deep = nn.Sequential(_conv(channels, 2 * channels), _norm(norm, 2 * channels), nn.ReLU())
        self.fc_skip = nn.Sequential(_conv(inner, channels), _norm(norm, channels, affine=False))
        self.fc_cls = nn.Sequential(_conv(channels, channels), _norm(norm, channels), nn.ReLU())

    def forward(self, shallow: Tensor, deep: Tensor, valid: Tensor | None = None) -> Tensor:
        """Shallow (B, inner, h, w), deep (B, channels, h, w), ``valid`` float (B, 1, h, w) -> (B, channels, h, w)."""
        cues = self.fc_deep(deep)
        cues = (cues if valid is None else cues * valid).amax(dim=(2, 3), keepdim=True)  # cues are never negative
        gain, shift = cues.chunk(2, dim=1)
        return self.fc_cls(F.relu(self.fc_skip(shallow) * (gain + 1) + shift))  # type: ignore[no-any-return]


def stochastic_gate(deep: Tensor, shallow: Tensor, *, psi: float, training: bool) -> Tensor:
    """Mix two features of the same shape.

    Training: each element is ``shallow`` with chance ``psi``, else ``(deep - psi * shallow) / (1 - psi)``, so that its
    mean is ``deep``. Evaluation: ``(1 - psi) * deep + psi * shallow``. That these two differ is as published.
    """
    if not training:
        return (1 - psi) * deep + psi * shallow
    keep = torch.rand_like(deep) >= psi
    return torch.where(keep, (deep - psi * shallow) / (1 - psi), shallow)


def ngwp(logits: Tensor, masks: Tensor) -> Tensor:
    """Normalised global weighted pooling, ``sum_p m z / (1 + sum_p m)``; (B, C, h, w) twice -> (B, C)."""
    return (masks * logits).sum(dim=(2, 3)) / (MASS_EPSILON + masks.sum(dim=(2, 3)))


def size_focal(shares: Tensor, *, power: float = FOCAL_POWER, floor: float = FOCAL_FLOOR) -> Tensor:
    """``(1 - m)^power * log(floor + m)`` of mean masks m in [0, 1]: from -4.6 without area to 0 for a large one."""
    return (1 - shares) ** power * torch.log(floor + shares)


def class_scores(logits: Tensor, *, background: bool, valid: Tensor | None = None) -> Tensor:
    """Scores (B, C) of the classes, background left out, for a sigmoid: nGWP plus the size term.

    Args:
        logits: float32 or float64 (B, C or 1 + C, h, w), background first if there is one.
        valid: float (B, 1, h, w), 1 where there is data.
    """
    masks = logits.softmax(dim=1)
    share = 1.0 if valid is None else _share(valid)[:, :, 0, 0]
    if valid is not None:
        masks = masks * valid
    scores = ngwp(logits, masks) + size_focal(masks.mean(dim=(2, 3)) / share)
    return scores[:, 1:] if background else scores


def soft_masks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class shares per pixel for inference: softmax at stride 4, then bilinear to ``size``; (B, C, *size), sums 1."""
    return _resize(logits.softmax(dim=1), size)


def parameter_groups(
    net: SingleStage, *, rate: float, weight_decay: float, head_factor: float = 10.0
) -> list[dict[str, Any]]:
    """Groups for an optimiser: backbone weights, biases at 1x, 2x the rate, heads ``head_factor`` times faster.

    No decay on biases. Published: SGD, momentum 0.9, rate 0.001, decay 5e-4, no schedule, factor 10. Frozen parameters
    are left out, so a group may be empty.
    """
    chosen: list[list[nn.Parameter]] = [[], [], [], []]
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            chosen[2 * (not name.startswith("backbone.")) + name.endswith("bias")].append(parameter)
    factors = (1, 2, head_factor, 2 * head_factor)
    return [
        {"params": parameters, "lr": rate * factor, "weight_decay": 0.0 if index % 2 else weight_decay}
        for index, (parameters, factor) in enumerate(zip(chosen, factors, strict=True))
    ]


def _conv(inner: int, outer: int, size: int = 1, *, rate: int = 1, bias: bool = False) -> nn.Conv2d:
    conv = nn.Conv2d(inner, outer, size, padding=rate * (size // 2), dilation=rate, bias=bias)
    nn.init.kaiming_normal_(conv.weight)
    return conv


def _norm(kind: Norm, channels: int, *, affine: bool = True) -> nn.Module:
    return (
        nn.BatchNorm2d(channels, affine=affine)
        if kind == "batch"
        else nn.GroupNorm(channels // 8, channels, affine=affine)
    )


def _aspp_branch(inner: int, outer: int, size: int, rate: int) -> nn.Sequential:
    conv = _conv(inner, outer, size, rate=rate)
    return nn.Sequential(OrderedDict([("atrous_conv", conv), ("bn", nn.BatchNorm2d(outer))]))


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _shrink(valid: Tensor, feature: Tensor) -> Tensor:
    """bool (B, H, W) -> float (B, 1, h, w) on the grid of ``feature``, 1 where valid."""
    return F.interpolate(valid[:, None].to(feature.dtype), size=feature.shape[-2:], mode="nearest")


def _share(valid: Tensor) -> Tensor:
    """Share of valid pixels per image, (B, 1, 1, 1), kept above 0 for images without any."""
    return valid.mean(dim=(2, 3), keepdim=True).clamp_min(1 / valid[0].numel())
