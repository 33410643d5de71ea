"""Wide ResNet38 (Wu, Shen, van den Hengel 2016, model A1), the backbone of Araslanov and Roth, CVPR 2020.

Module names are those of the published file ``ilsvrc-cls_rna-a1_cls1000_ep-0001.pth`` (191 tensors, 401 MiB), so that
it loads by name.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import ParamsError, WeightsError
from weakseg.data.crops.augment import IMAGENET, Preprocessing
from weakseg.networks.weights import COUNTER, LoadReport, load_checked, read_state

HEADS = ("fc8.", "fc.", "linear1000")  # classifiers that files of this backbone may carry along
_FROZEN_BLOCKS = ("conv1a", "b2", "b2_1", "b2_2")
# name, input, middle and output channels, stride, dilation of the first and of the second 3x3 convolution
_BASIC = (
    ("b2", 64, 128, 128, 2, 1, 1),
    *((f"b2_{i}", 128, 128, 128, 1, 1, 1) for i in (1, 2)),
    ("b3", 128, 256, 256, 2, 1, 1),
    *((f"b3_{i}", 256, 256, 256, 1, 1, 1) for i in (1, 2)),
    ("b4", 256, 512, 512, 2, 1, 1),
    *((f"b4_{i}", 512, 512, 512, 1, 1, 1) for i in (1, 2, 3, 4, 5)),
    ("b5", 512, 512, 1024, 1, 1, 2),
    *((f"b5_{i}", 1024, 512, 1024, 1, 2, 2) for i in (1, 2)),
)
# name, input and output channels, dilation, dropout
_BOTTLENECK = (("b6", 1024, 2048, 4, 0.3), ("b7", 2048, 4096, 4, 0.5))
_BLOCKS = (*(block[0] for block in _BASIC), *(block[0] for block in _BOTTLENECK))
ONEDNN_BLOCK = 8  # channels that AVX2 holds at once
_SHALLOW, _CHANNELS = "b3_2", (256, 4096)


class ResNet38(nn.Module):
    """Normalised images -> the stride-4 and stride-8 features called conv3 and conv6 in the paper's code.

    Args:
        width: divisor of all channel counts, a power of two up to 64; 1 fits the published weights, 8 or 16 a CPU.
        frozen: the published recipe: conv1a, b2* and every BatchNorm's scale, shift and statistics stay as they are.
            False lets everything learn: without pretrained weights there is nothing to keep.

    Attributes:
        channels, strides: of the two features.
        preprocessing: ImageNet statistics, RGB.
    """

    strides: tuple[int, int] = (4, 8)
    preprocessing: Preprocessing = IMAGENET

    def __init__(self, *, width: int = 1, frozen: bool = True) -> None:
        super().__init__()
        if width not in (1, 2, 4, 8, 16, 32, 64):
            raise ParamsError(f"ResNet38 width {width}", expected="1, 2, 4, ... or 64", cure="set width: 8 for a CPU")
        self.channels: tuple[int, int] = (_CHANNELS[0] // width, _CHANNELS[1] // width)
        self.frozen = frozen
        self.conv1a = nn.Conv2d(3, 64 // width, 3, padding=1, bias=False)
        for name, inner, middle, outer, stride, first, second in _BASIC:
            block = _Basic(inner // width, middle // width, outer // width, stride, first, second)
            self.add_module(name, block)
        for name, inner, outer, dilation, dropout in _BOTTLENECK:
            self.add_module(name, _Bottleneck(inner // width, outer // width, dilation, dropout))
        self.bn7 = nn.BatchNorm2d(self.channels[1])
        if frozen:
            self._freeze()

    def _freeze(self) -> None:
        for name in _FROZEN_BLOCKS:
            self.get_submodule(name).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> ResNet38:
        """As usual, but a frozen network's BatchNorm stays in evaluation mode; Dropout follows ``mode``."""
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> shallow (B, 256/width, H/4, W/4), deep (B, 4096/width, H/8, W/8), sizes rounded up.

        The shallow feature is the raw sum of its last block; the deep one has passed BatchNorm and ReLU.
        """
        x = self.conv1a(images)
        shallow = x
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
            if name == _SHALLOW:
                shallow = x
        return shallow, F.relu(self.bn7(x), inplace=True)


class _Basic(nn.Module):
    """Pre-activation block of two 3x3 convolutions; projections read the activated input, the identity the raw one."""

    def __init__(self, inner: int, middle: int, outer: int, stride: int, first: int, second: int) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inner)
        self.conv_branch2a = nn.Conv2d(inner, middle, 3, stride, padding=first, dilation=first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = nn.Conv2d(middle, outer, 3, padding=second, dilation=second, bias=False)
        self.conv_branch1: nn.Conv2d | None = None
        if inner != outer or stride != 1:
            self.conv_branch1 = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn_branch2a(x), inplace=True)
        shortcut = x if self.conv_branch1 is None else _project(self.conv_branch1, active)
        middle = F.relu(self.bn_branch2b1(self.conv_branch2a(active)), inplace=True)
        return shortcut + self.conv_branch2b1(middle)  # type: ignore[no-any-return]


def _project(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution. Of a few channels, the pixels that it steps over are left out before it, which is the same.

    Going back through them as they are, torch 2.15.0 with oneDNN on AVX2 ends the process.
    """
    if convolution.in_channels >= ONEDNN_BLOCK or convolution.stride == (1, 1):
        return convolution(x)  # type: ignore[no-any-return]
    down, across = convolution.stride
    return F.conv2d(x[..., ::down, ::across], convolution.weight)


class _Bottleneck(nn.Module):
    """Pre-activation block 1x1, dilated 3x3, 1x1 with channel dropout before the last two."""

    def __init__(self, inner: int, outer: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inner)
        self.conv_branch2a = nn.Conv2d(inner, outer // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(outer // 4)
        self.conv_branch2b1 = nn.Conv2d(outer // 4, outer // 2, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(outer // 2)
        self.conv_branch2b2 = nn.Conv2d(outer // 2, outer, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inner, outer, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn_branch2a(x), inplace=True)
        branch = self.dropout(F.relu(self.bn_branch2b1(self.conv_branch2a(active))))
        branch = self.dropout(F.relu(self.bn_branch2b2(self.conv_branch2b1(branch))))
        return self.conv_branch1(active) + self.conv_branch2b2(branch)  # type: ignore[no-any-return]


def load_resnet38(module: ResNet38, path: Path) -> LoadReport:
    """Fill ``module`` from a file of the published form, or leave it as it was and raise.

    The file is a dict of tensors (or one under ``state_dict``), names with or without ``module.`` before them; it is
    read without unpickling code. Classifier layers of known names are left out and reported; counters of BatchNorm
    need not be there. Every other difference in names or shapes is an error.

    Raises:
        WeightsError: the file cannot be read, or lists what is missing, unexpected or of another shape.
    """
    state = read_state(path)
    names = {name: name.removeprefix("module.") for name in state}
    integers = [name for name, value in state.items() if not (value.is_floating_point() or name.endswith(COUNTER))]
    if integers:
        raise WeightsError(
            f"{path} holds {state[integers[0]].dtype} in {integers[0]} and {len(integers) - 1} more tensors",
            expected="floating-point weights",
            cure="use the file ilsvrc-cls_rna-a1_cls1000_ep-0001.pth",
        )
    leave_out = [prefix + head for prefix in ("", "module.") for head in HEADS]
    return load_checked(module, state, source=str(path), names=names, leave_out=leave_out)
