"""The published task (i) network: VGG16-BN encoder, mirrored decoder with max-unpooling, and an image-level head."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.networks.first_convolution import first_convolution
from weakseg.networks.weights import VGG_STAGES


@dataclass(frozen=True)
class Crop:
    """Where the image lies in its padded version, px."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Encoded:
    """What a decoder needs, all at the padded size.

    Attributes:
        features: the padded image (B, K, H, W), then the encoder's features from shallow to deep.
        indices: flat max-pool positions per pooling, shallow to deep; empty where the decoder uses skips instead.
        crop: where the image lies in the padded one.
    """

    features: tuple[Tensor, ...]
    indices: tuple[Tensor, ...]
    crop: Crop


def pad_to_multiple(images: Tensor, multiple: int) -> tuple[Tensor, Crop]:
    """Images (B, C, H, W) grown to multiples of ``multiple``, half on each side, by repeating the border.

    Repetition, not reflection: it takes any size, down to a single pixel.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    crop = Crop(down // 2, right // 2, height, width)
    if down == 0 and right == 0:
        return images, crop
    sides = (crop.left, right - crop.left, crop.top, down - crop.top)
    return F.pad(images, sides, mode="replicate"), crop


def crop_back(maps: Tensor, crop: Crop) -> Tensor:
    """Inverse of :func:`pad_to_multiple` on any maps (B, K, H, W) of the padded size."""
    return maps[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def check_images(images: Tensor, bands: int) -> None:
    """Raise DataError unless ``images`` is a float tensor (B, K, H, W) with at least one pixel of ``bands`` bands."""
    if images.ndim != 4 or images.shape[1] != bands or 0 in images.shape or not images.is_floating_point():
        raise DataError(
            f"a {images.dtype} tensor of shape {tuple(images.shape)} as network input",
            expected=f"normalised float images (B, {bands}, H, W)",
            cure="pass it through normalise() first",
        )


def max_unpool(values: Tensor, indices: Tensor) -> Tensor:
    """Undo a 2x2 max-pool: each value back where it came from, zeros elsewhere.

    The same numbers as ``F.max_unpool2d``, which refuses to run under ``torch.use_deterministic_algorithms`` on any
    device although 2x2 windows never collide; a scatter is allowed there.

    Args:
        values: (B, C, H, W).
        indices: int64 (B, C, H, W), flat positions in the plane of 2H x 2W, from ``F.max_pool2d``.

    Returns:
        (B, C, 2H, 2W), dtype of ``values``.
    """
    batch, channels, height, width = values.shape
    plane = values.new_zeros(batch, channels, 4 * height * width)
    plane = plane.scatter(2, indices.flatten(2), values.flatten(2))
    return plane.view(batch, channels, 2 * height, 2 * width)


def _stage(plan: tuple[int, ...], channels_in: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU for each entry of ``plan`` (output channels)."""
    layers: list[nn.Module] = []
    for channels in plan:
        layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        channels_in = channels
    return nn.Sequential(*layers)


class VggEncoder(nn.Module):
    """The 13 convolutions of VGG16-BN in five stages, each followed by a 2x2 max-pool that keeps its positions.

    Attributes:
        channels: of each stage; strides after each pool are 2, 4, 8, 16, 32.
    """

    def __init__(self, *, width: int = 1) -> None:
        super().__init__()
        if width < 1 or VGG_STAGES[0][0] % width:
            raise ParamsError(f"width {width}", expected="a divisor of 64: 1, 2, 4 ... 64", cure="set one of them")
        plans = [tuple(channels // width for channels in stage) for stage in VGG_STAGES]
        inputs = (3, *(plan[-1] for plan in plans))
        self.channels = inputs[1:]
        self.stages = nn.ModuleList(_stage(plan, size) for plan, size in zip(plans, inputs, strict=False))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Images (B, K, H, W), H and W multiples of 32 -> bottleneck (B, 512 / width, H / 32, W / 32), pool indices."""
        indices: list[Tensor] = []
        for stage in self.stages:
            x, positions = F.max_pool2d(stage(x), 2, return_indices=True)
            indices.append(positions)
        return x, tuple(indices)


class EncDecUnpool(nn.Module):
    """Encoder-decoder with max-unpooling, after SegNet (Badrinarayanan et al. 2017), for pixels and for crop tags.

    The decoder mirrors the encoder's stages; a 3x3 convolution gives the class logits. The image-level head is a
    linear layer on the mean of the bottleneck, so it takes any input size (the published one was flattened from
    200 x 200 px; ours also sees the padding of odd sizes).

    Each decoder block drops whole channels (Dropout2d) after its unpooling: neighbouring pixels of a map say nearly
    the same, so dropping single values would hide little. None stands right before the last convolution, where a
    narrow network has only a few channels to lose.

    Args:
        classes: number of classes C.
        width: divisor of all channel counts, a divisor of 64; 1 is the published size and takes VGG16's weights.
        dropout: share of channels dropped in each decoder block while training.

    Attributes:
        encoder: the part that ImageNet weights fill; it learns at a lower rate.
        stride: input sizes are padded to a multiple of it, and the output cropped back.
    """

    stride = 32

    def __init__(self, classes: int, *, width: int = 1, dropout: float) -> None:
        super().__init__()
        if classes < 1:
            raise ParamsError(f"{classes} classes", expected="at least 1", cure="check the class scheme")
        if not 0.0 <= dropout < 1.0:
            raise ParamsError(f"dropout {dropout}", expected="0 <= dropout < 1", cure="set, for instance, 0.2")
        self.encoder = VggEncoder(width=width)
        channels = self.encoder.channels
        outputs = (channels[0], *channels[:-1])
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.Dropout2d(dropout), _stage((size,) * (len(VGG_STAGES[level]) - 1) + (out,), size))
            for level, (size, out) in enumerate(zip(channels, outputs, strict=True))
        )
        self.head = nn.Conv2d(channels[0], classes, 3, padding=1)
        self.tag_head = nn.Linear(channels[-1], classes)
        self.apply(_initialise)
        nn.init.normal_(self.head.weight, 0.0, 0.01)  # He's rule by 5 outputs gives logits so large that learning waits

    def encode(self, x: Tensor) -> Encoded:
        """Normalised images (B, K, H, W) of any size -> what :meth:`decode` needs."""
        check_images(x, first_convolution(self.encoder).in_channels)
        padded, crop = pad_to_multiple(x, self.stride)
        bottleneck, indices = self.encoder(padded)
        return Encoded((padded, bottleneck), indices, crop)

    def decode(self, encoded: Encoded) -> Tensor:
        """Logits (B, C, H, W) at the size of the image that was encoded."""
        x = encoded.features[-1]
        for block, positions in zip(reversed(self.decoder), reversed(encoded.indices), strict=True):
            x = block(max_unpool(x, positions))
        return crop_back(self.head(x), encoded.crop)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, K, H, W) float, any size -> logits (B, C, H, W)."""
        return self.decode(self.encode(x))

    def forward_with_tags(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, and the tag logits (B, C) of the whole image."""
        encoded = self.encode(x)
        # mean() rather than adaptive pooling, whose gradient is not deterministic on GPUs.
        tags: Tensor = self.tag_head(encoded.features[-1].mean((2, 3)))
        return self.decode(encoded), tags


def _initialise(module: nn.Module) -> None:
    """He initialisation of convolutions and N(0, 0.01) of linear layers, as VGG16-BN's authors trained it."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
