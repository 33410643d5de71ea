"""Builds encoders and segmentation networks by name; the one place that asks timm and smp for anything.

The values of ``weights``, everywhere: ``none``; ``package``, offline weights from an installed package, for
``tf_efficientnet_lite0``, ``1`` and ``2`` (ImageNet) and for VGG16 (ImageNet, then edges; ``vgg16``, ``vgg16_bn``,
encdec_unpool); ``torchvision``, torchvision's ImageNet weights of the same name, by its download; else the path of a
local weight file. Nothing but ``torchvision`` ever touches a network.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.errors import ParamsError, WeightsError
from weakseg.data.crops.augment import IMAGENET, Preprocessing, fit_preprocessing
from weakseg.networks.encdec_unpool import EncDecUnpool, Encoded, check_images, crop_back, pad_to_multiple
from weakseg.networks.first_convolution import first_convolution, widen_first
from weakseg.networks.hed_file import load_vgg16_package
from weakseg.networks.plain_decoder import PlainNetwork
from weakseg.networks.timm_import import NothingDrawnOnMeta, import_timm
from weakseg.networks.weights import (
    LITES,
    LoadReport,
    load_by_name,
    load_lite,
    load_vgg16_bn,
    read_state,
    read_torchvision,
)

NETWORKS = ("encdec_unpool", "unet", "deeplabv3plus", "plain")
DECODER_CHANNELS = (256, 128, 64, 32, 16)  # smp's own default for its U-Net
LITE0 = "tf_efficientnet_lite0"
LITE0_PREPROCESSING = Preprocessing((127 / 255,) * 3, (128 / 255,) * 3)  # (x - 127) / 128, as all of them were trained
PACKAGE = "package"
TRANSFORMERS = ("vit_", "deit_", "eva02_")  # of one scale; timm's others have scales of their own
VGGS = ("vgg16", "vgg16_bn")


class Encoder(nn.Module):
    """A timm network as a pyramid of features, its classification head dropped.

    Attributes:
        name: timm's name.
        channels, strides: of each feature, from stride 2 (4, where the network has none) to the deepest.
        preprocessing: what the input must have been normalised with; depends on ``name`` and the bands alone, so that
            a network built without weights and filled from a checkpoint sees what it was trained on.
        report: what was loaded, None without weights.
    """

    def __init__(self, name: str, net: nn.Module, *, report: LoadReport | None, bands: Bands = PLAIN) -> None:
        super().__init__()
        info: Any = net.feature_info
        self.net = net
        self.name = name
        self.report = report
        self._kept = [index for index, stride in enumerate(info.reduction()) if stride > 1]
        self.channels: tuple[int, ...] = tuple(info.channels()[index] for index in self._kept)
        self.strides: tuple[int, ...] = tuple(info.reduction()[index] for index in self._kept)
        self.preprocessing = fit_preprocessing(preprocessing_of(name), bands)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (B, K, H, W) float -> features (B, channels[i], ceil(H / strides[i]), ...), any H, W."""
        features = self.net(x)
        return [features[index] for index in self._kept]


def build_encoder(name: str, *, weights: str, output_stride: int = 32, bands: Bands = PLAIN) -> Encoder:
    """A timm encoder as a feature pyramid.

    Args:
        name: timm's name, for instance ``tf_efficientnet_lite0``, ``resnet50``.
        weights: as this module says; a file may be timm's or torchvision's, of the same network.
        output_stride: 8, 16 or 32; below 32 the last stages are dilated instead of strided.
        bands: of the images; see :mod:`weakseg.networks.first_convolution` for others than three.

    Raises:
        ParamsError: timm has no such encoder, or it cannot be dilated.
        WeightsError: the weights do not fit.
    """
    net = _timm_features(name, output_stride)
    report = load_encoder_weights(net, name, weights)
    widen_first(net, bands, pretrained=report is not None)
    return Encoder(name, net, report=report, bands=bands)


def preprocessing_of(name: str) -> Preprocessing:
    """The input statistics of a timm encoder, by its name alone; never asks a network."""
    timm = import_timm()

    if name in LITES:
        return LITE0_PREPROCESSING
    published = timm.get_pretrained_cfg(name)
    return IMAGENET if published is None else Preprocessing(tuple(published.mean), tuple(published.std))


def load_encoder_weights(net: nn.Module, name: str, weights: str) -> LoadReport | None:
    """Fill timm's ``features_only`` network ``name``; None where ``weights`` is ``none``."""
    if weights == "none":
        return None
    if weights == PACKAGE:
        return _load_package(net, name)
    if weights == "torchvision":
        return load_by_name(net, read_torchvision(name), source=f"torchvision {name}")
    return load_file(net, Path(weights))


def load_file(net: nn.Module, path: Path) -> LoadReport:
    """A local file into timm's ``features_only`` network: its own names, or those of the authors that timm translates.

    A vision transformer's position embedding is resampled to the network's grid, as timm does.

    Raises WeightsError where the file does not fit, or holds biases that the network lacks.
    """
    wrapped = getattr(net, "model", None)  # timm's transformers stand in a wrapper
    inner: nn.Module = wrapped if isinstance(wrapped, nn.Module) else net
    state = read_state(path)
    translate = getattr(import_module(type(inner).__module__), "checkpoint_filter_fn", None)
    if translate is None or inner is net:
        return load_by_name(net, state, source=str(path))
    dinov3 = "storage_tokens" in state  # the authors' names; timm drops biases that the network lacks, zero or not
    unmatched = [name for name, bias in state.items() if dinov3 and name.endswith("qkv.bias") and bool(bias.any())]
    with redirect_stdout(StringIO()):  # timm prints what it tries
        translated = translate(dict(state), inner)
    if unmatched and not any(name.endswith(("q_bias", "qkv.bias")) for name in inner.state_dict()):
        raise WeightsError(
            f"{path} has {len(unmatched)} biases of attention that the network lacks",
            expected="the network that the file was made from",
            cure="take the encoder whose name ends in _qkvb",
        )
    return load_by_name(inner, translated, source=str(path))


def _load_package(net: nn.Module, name: str) -> LoadReport:
    if name in VGGS:
        return load_vgg16_package(net, preprocessing_of(name))
    if name not in LITES:
        raise WeightsError(
            f"weights: {PACKAGE} with encoder {name!r}",
            expected=f"one of {', '.join((*LITES, *VGGS))}, which packages hold",
            cure="change one of the two",
        )
    return load_lite(net, name)


def _timm_features(name: str, output_stride: int) -> nn.Module:
    timm = import_timm()

    if output_stride not in (8, 16, 32):
        raise ParamsError(f"output stride {output_stride}", expected="8, 16 or 32", cure="set one of them")
    _check_timm_name(name)
    options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    if name.startswith(TRANSFORMERS):
        options |= {"dynamic_img_size": True}  # crops and windows of any size
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **options)
    except (TypeError, AssertionError, NotImplementedError, RuntimeError) as error:
        raise _no_pyramid(name, output_stride) from error
    return net


def _check_timm_name(name: str) -> None:
    timm = import_timm()

    if not timm.is_model(name):
        raise ParamsError(
            f"timm has no model {name!r}", expected="a name of timm.list_models()", cure=f"try {LITE0} or resnet50"
        )


def _no_pyramid(name: str, output_stride: int) -> ParamsError:
    return ParamsError(
        f"timm cannot make a feature pyramid of {name!r} at output stride {output_stride}",
        expected="a convolutional encoder",
        cure=f"try {LITE0} or resnet50, or output stride 32",
    )


class SmpNetwork(nn.Module):
    """An encoder-decoder of segmentation-models-pytorch, taken apart into encoding and decoding.

    Attributes:
        encoder: the timm encoder; it learns at a lower rate.
        stride: input sizes are padded to a multiple of it, and the output cropped back.
    """

    def __init__(self, net: Any, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.encoder: nn.Module = net.encoder
        self.decoder: nn.Module = net.decoder
        self.head: nn.Module = net.segmentation_head
        self.dropout = nn.Dropout2d(dropout)
        self.stride = stride

    def encode(self, x: Tensor) -> Encoded:
        """Normalised images (B, K, H, W) of any size -> what :meth:`decode` needs."""
        check_images(x, first_convolution(self.encoder).in_channels)
        padded, crop = pad_to_multiple(x, self.stride)
        features = self.encoder(padded)
        return Encoded((*features[:-1], self.dropout(features[-1])), (), crop)

    def decode(self, encoded: Encoded) -> Tensor:
        """Logits (B, C, H, W) at the size of the image that was encoded."""
        return crop_back(self.head(self.decoder(list(encoded.features))), encoded.crop)


class Segmenter(nn.Module):
    """Any segmentation network under one face: any input size, preprocessing and parameter groups with it.

    Attributes:
        net: the network itself (EncDecUnpool has an image-level head, ``net.forward_with_tags``).
        classes: number of classes C.
        preprocessing: what images must be normalised with.
        report: what was loaded, None without weights.
    """

    def __init__(
        self,
        net: EncDecUnpool | SmpNetwork | PlainNetwork,
        *,
        classes: int,
        preprocessing: Preprocessing,
        report: LoadReport | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.classes = classes
        self.preprocessing = preprocessing
        self.report = report
        self.is_frozen = False

    @property
    def encoder(self) -> nn.Module:
        """The part that learns at a lower rate, or not at all."""
        return self.net.encoder

    def train(self, mode: bool = True) -> Segmenter:
        """As any module; a frozen encoder stays in evaluation, its statistics as they are."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def encode(self, x: Tensor) -> Encoded:
        """Normalised images (B, K, H, W) float, any size -> features, to be decoded once or several times."""
        return self.net.encode(x)

    def decode(self, encoded: Encoded) -> Tensor:
        """Features -> logits (B, C, H, W) at the images' size."""
        return self.net.decode(encoded)

    def forward(self, x: Tensor) -> Tensor:
        """Segment images.

        Args:
            x: normalised images (B, K, H, W) float; sizes the network cannot take are padded and cropped back.

        Returns:
            Logits (B, C, H, W) float.
        """
        return self.decode(self.encode(x))

    def parameter_groups(self, lr: float, *, encoder_factor: float = 0.5, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for a torch optimiser, see :func:`parameter_groups`; ``encoder_factor`` 0 freezes the encoder."""
        self.is_frozen = encoder_factor == 0
        self.encoder.requires_grad_(not self.is_frozen)
        return parameter_groups(self, self.encoder, lr=lr, encoder_factor=encoder_factor, weight_decay=weight_decay)


def parameter_groups(
    module: nn.Module, encoder: nn.Module, *, lr: float, encoder_factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Every parameter of ``module`` exactly once, in up to four groups for a torch optimiser.

    Args:
        module: the whole network.
        encoder: the part of it that learns at ``lr * encoder_factor``; the rest learns at ``lr``.
        lr: learning rate.
        encoder_factor: 0.5 in the published task (i); 0 leaves the encoder's parameters out.
        weight_decay: for weights; biases and the scales of normalisation layers (one dimension) never decay.

    Returns:
        Dicts with ``name`` (``encoder/decay``, ``encoder/plain``, ``decoder/decay``, ``decoder/plain``), ``params``,
        ``lr`` and ``weight_decay``; groups without parameters are left out.
    """
    inside = {id(parameter) for parameter in encoder.parameters()}
    rates = {"encoder": lr * encoder_factor, "decoder": lr}
    decays = {"decay": weight_decay, "plain": 0.0}
    members: dict[tuple[str, str], list[nn.Parameter]] = {(part, kind): [] for part in rates for kind in decays}
    for parameter in module.parameters():
        if id(parameter) in inside and encoder_factor == 0:
            continue
        part = "encoder" if id(parameter) in inside else "decoder"
        members[part, "decay" if parameter.ndim > 1 else "plain"].append(parameter)
    return [
        {"name": f"{part}/{kind}", "params": params, "lr": rates[part], "weight_decay": decays[kind]}
        for (part, kind), params in members.items()
        if params
    ]


def build_segmenter(
    name: str,
    classes: int,
    *,
    encoder: str,
    weights: str,
    width: int,
    dropout: float,
    decoder_channels: tuple[int, ...] = DECODER_CHANNELS,
    encoder_depth: int = 5,
    bands: Bands = PLAIN,
) -> Segmenter:
    """A segmentation network by name.

    Args:
        name: ``encdec_unpool``, ``unet``, ``deeplabv3plus``, or ``plain`` for encoders of one scale or of coarse ones.
        classes: number of classes C, at most as many as the masks have.
        encoder: timm's name; encdec_unpool has an encoder of its own and ignores it.
        weights: of the encoder, as this module says; for encdec_unpool, a VGG16 with batch norm, a file is
            torchvision's ``vgg16_bn``.
        width: channel divisor of encdec_unpool; the other two ignore it.
        dropout: encdec_unpool: channels dropped in each decoder block. unet: channels of the deepest feature (its
            last decoder layer has too few to lose any). plain: channels of the summed features. deeplabv3plus: values
            of the pyramid pooling's output, as its authors do.
        decoder_channels: of unet's decoder blocks, deepest first. As many as ``encoder_depth`` reach the input's
            resolution; with one or two fewer the logits are predicted at a half or a quarter of it and enlarged, which
            is much cheaper on a CPU. plain: of the sum of the features, then of each block that doubles the grid.
        encoder_depth: scales of the encoder that unet uses, 3 to 5 (stride 8 to 32); the other two ignore it. Small
            crops have nothing left for the deepest: 64 px are 2 px there, and its blocks a third of a step.
        bands: of the images, as for :func:`build_encoder`.

    Raises:
        ParamsError: an unknown name, or values out of range.
        WeightsError: the weights do not fit.
    """
    if name not in NETWORKS:
        raise ParamsError(f"network {name!r}", expected=" or ".join(NETWORKS), cure="correct segment.network.name")
    if classes < 1 or not 0.0 <= dropout < 1.0:
        raise ParamsError(
            f"{classes} classes and dropout {dropout}",
            expected="at least 1 class and 0 <= dropout < 1",
            cure="check the class scheme and segment.network.dropout",
        )
    if name == "encdec_unpool":
        net = EncDecUnpool(classes, width=width, dropout=dropout)
        report = load_vgg(net.encoder, weights)
        widen_first(net.encoder, bands, pretrained=report is not None)
        return Segmenter(net, classes=classes, preprocessing=fit_preprocessing(IMAGENET, bands), report=report)
    if name == "plain":
        pyramid = build_encoder(encoder, weights=weights, bands=bands)
        plain = PlainNetwork(pyramid, classes, channels=decoder_channels, dropout=dropout)
        return Segmenter(plain, classes=classes, preprocessing=pyramid.preprocessing, report=pyramid.report)
    smp_net = _smp_network(name, classes, encoder, dropout=dropout, channels=decoder_channels, depth=encoder_depth)
    timm_net = smp_net.encoder.get_submodule("model")
    report = load_encoder_weights(timm_net, encoder, weights)
    _drop_deeper_blocks(timm_net)
    widen_first(timm_net, bands, pretrained=report is not None)
    preprocessing = fit_preprocessing(preprocessing_of(encoder), bands)
    return Segmenter(smp_net, classes=classes, preprocessing=preprocessing, report=report)


def load_vgg(trunk: nn.Module, weights: str) -> LoadReport | None:
    """Fill a VGG16-BN trunk of ours (encdec_unpool's encoder, the classifier's); ``weights`` as this module says."""
    if weights == "none":
        return None
    if weights == PACKAGE:
        return load_vgg16_package(trunk, IMAGENET)
    return load_vgg16_bn(trunk, None if weights == "torchvision" else Path(weights))


def _smp_network(
    name: str, classes: int, encoder: str, *, dropout: float, channels: tuple[int, ...], depth: int
) -> SmpNetwork:
    import_timm()  # without torch's compiler, as smp would import it
    import segmentation_models_pytorch as smp

    _check_timm_name(encoder)
    common: dict[str, Any] = {"encoder_name": f"tu-{encoder}", "encoder_weights": None, "classes": classes}
    stride = 2**depth if name == "unet" else 16
    try:
        if name == "unet":
            blocks = _blocks(channels, depth)
            with NothingDrawnOnMeta():
                net = smp.Unet(**common, encoder_depth=depth, decoder_channels=blocks)
            return SmpNetwork(_shorten(net, channels, classes), stride=stride, dropout=dropout)
        with NothingDrawnOnMeta():
            net = smp.DeepLabV3Plus(**common, encoder_output_stride=stride, decoder_aspp_dropout=dropout)
    except (TypeError, ValueError, AssertionError, NotImplementedError, RuntimeError) as error:
        raise _no_pyramid(encoder, stride) from error
    return SmpNetwork(net, stride=stride, dropout=0.0)


def _blocks(decoder_channels: tuple[int, ...], depth: int) -> list[int]:
    """smp builds a block per scale; those that the params leave out are cut off again by :func:`_shorten`."""
    if not 3 <= depth <= 5:
        raise ParamsError(f"encoder_depth {depth}", expected="3 to 5", cure="set 5, or 4 for crops of 64 px")
    if not 3 <= len(decoder_channels) <= depth or min(decoder_channels) < 1:
        raise ParamsError(
            f"decoder_channels {list(decoder_channels)} for encoder_depth {depth}",
            expected=f"3 to {depth} positive numbers",
            cure=f"list {depth}",
        )
    return [*decoder_channels, *decoder_channels[-1:] * (depth - len(decoder_channels))]


def _shorten(unet: Any, decoder_channels: tuple[int, ...], classes: int) -> Any:
    """End the decoder after as many blocks as there are channels, and enlarge its logits to the full size."""
    left_out = len(unet.decoder.blocks) - len(decoder_channels)
    if left_out:
        unet.decoder.blocks = unet.decoder.blocks[:-left_out]
        unet.segmentation_head = nn.Sequential(
            nn.Conv2d(decoder_channels[-1], classes, 3, padding=1),
            nn.Upsample(scale_factor=2**left_out, mode="bilinear", align_corners=False),
        )
    return unet


def _drop_deeper_blocks(timm_net: Any) -> None:
    """Take away what lies below the last feature in use: timm's EfficientNets compute it all the same."""
    folder, _, last = timm_net.feature_info.module_name()[-1].rpartition(".")  # "blocks.4"
    blocks = getattr(timm_net, folder, None) if folder else None
    if isinstance(blocks, nn.Sequential):
        setattr(timm_net, folder, blocks[: int(last) + 1])
