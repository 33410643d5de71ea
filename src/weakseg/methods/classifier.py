"""Multi-label tag classifier whose last feature map localises the classes, with its weights, sampling and metrics.

The published network (NoPeopleAllowed, LID 2020) is VGG16-BN at stride 8 with three extra convolutions, global average
pooling and one linear layer; any encoder of :mod:`weakseg.networks.build` can take the trunk's place. Its loss is
:func:`weakseg.networks.losses.multi_label_bce`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.methods import ClassifierParams, MissingLabels, Pooling
from weakseg.data.crops.augment import IMAGENET, Preprocessing, fit_preprocessing
from weakseg.networks.build import build_encoder, load_vgg
from weakseg.networks.first_convolution import widen_first

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

GEM_POWER: Final = 3.0
NECK_CHANNELS: Final = 256
# 0 stands for the 2x2 pool, 1 for the 3x3 stride-1 pool that replaces the fourth; the fifth is left out
VGG_LAYERS: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 1, 512, 512, 512)


def vgg16_bn_trunk(*, width: int = 1) -> nn.Sequential:
    """VGG16-BN at stride 8; ``width`` divides the channels. Indices equal torchvision's ``vgg16_bn().features``.

    As in NoPeopleAllowed (arXiv 2006.07601) the fourth pool keeps its size (3x3, stride 1) and the last three
    convolutions are dilated by 2. Weights start as torchvision's do, so that
    features without pretraining still depend on the image.
    """
    layers: list[nn.Module] = []
    channels, dilation = 3, 1
    for entry in VGG_LAYERS:
        if entry == 0:
            layers.append(nn.MaxPool2d(2, 2))
        elif entry == 1:
            layers.append(nn.MaxPool2d(3, stride=1, padding=1))
            dilation = 2
        else:
            wide = entry // width
            convolution = nn.Conv2d(channels, wide, 3, padding=dilation, dilation=dilation)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            channels = wide
    return nn.Sequential(*layers)


def extra_convolutions(channels: int) -> nn.Sequential:
    """The three 3x3 convolutions with ReLU behind the VGG trunk, N(0, sqrt(2 / (9 out))); never in place."""
    layers: list[nn.Module] = []
    for _ in range(3):
        convolution = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(convolution.weight, std=(2 / (9 * channels)) ** 0.5)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.ReLU(inplace=False)]
    return nn.Sequential(*layers)


def pool_features(features: Tensor, pooling: Pooling) -> Tensor:
    """Features (B, K, h, w) -> (B, K): mean, or generalised mean (power 3), which leans less to large
    classes.
    """
    if pooling == "gap":
        return features.mean((2, 3))
    return features.clamp(min=1e-6).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)


class Classifier(nn.Module):
    """Trunk, neck ending in a ReLU that is not in place, pooling and one linear layer.

    Args:
        trunk: (B, K, H, W) -> features, or a list of them of which ``tap`` names the one in use.

    Attributes:
        stride: image px per feature cell; image sides should be multiples of it.
        preprocessing: statistics that the images must be normalised with.
        is_linear_pooling: True where class maps follow from the linear weights alone, without any gradient.
    """

    def __init__(
        self,
        trunk: nn.Module,
        neck: nn.Module,
        *,
        channels: int,
        classes: int,
        stride: int,
        pooling: Pooling,
        preprocessing: Preprocessing = IMAGENET,
        tap: int = -1,
    ) -> None:
        super().__init__()
        self.trunk, self.neck = trunk, neck
        self.linear = nn.Linear(channels, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.stride, self.pooling, self.preprocessing = stride, pooling, preprocessing
        self.is_linear_pooling, self.tap = pooling == "gap", tap

    @property
    def class_weights(self) -> Tensor:
        """Linear weights (C, K)."""
        return self.linear.weight

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (B, K, H, W) -> non-negative features (B, K, H / stride, W / stride)."""
        trunk = self.trunk(images)
        return self.neck(trunk if isinstance(trunk, Tensor) else trunk[self.tap])  # type: ignore[no-any-return]

    def head(self, features: Tensor) -> Tensor:
        """Features (B, K, h, w) -> logits (B, C)."""
        return self.linear(pool_features(features, self.pooling))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, K, H, W) -> logits (B, C)."""
        return self.head(self.features(images))


def build_classifier(params: ClassifierParams, classes: int, bands: Bands = PLAIN) -> Classifier:
    """The classifier that the section describes.

    ``vgg16_bn`` has stride 8 and channels divided by ``width``; ``encoder`` is any encoder of
    :func:`weakseg.networks.build.build_encoder` with a 1x1 convolution, batch norm and ReLU behind it, because
    Grad-CAM++ and the generalised mean want features that are not negative and many encoders end in a linear layer. Of
    an encoder the deepest feature that has ``output_stride`` without dilation is taken, which is sharper. ``bands`` are
    those of the images.
    """
    if params.arch == "encoder":
        return _encoder_classifier(params, classes, bands)
    if params.output_stride != 8:
        raise ParamsError(
            f"classifier {params.arch} at stride {params.output_stride}",
            expected="vgg16_bn at stride 8, or encoder",
            cure="mend classifier.arch or classifier.output_stride",
        )
    vgg, channels = vgg16_bn_trunk(width=params.width), 512 // params.width
    widen_first(vgg, bands, pretrained=load_vgg(vgg, params.weights) is not None)
    return Classifier(
        vgg,
        extra_convolutions(channels),
        channels=channels,
        classes=classes,
        stride=8,
        pooling=params.pooling,
        preprocessing=fit_preprocessing(IMAGENET, bands),
    )


def _encoder_classifier(params: ClassifierParams, classes: int, bands: Bands) -> Classifier:
    trunk = build_encoder(params.encoder, weights=params.weights, output_stride=32, bands=bands)
    stride = params.output_stride
    if stride not in trunk.strides:
        raise ParamsError(
            f"{params.encoder} has no feature of stride {stride}",
            expected=f"one of {trunk.strides}",
            cure="mend classifier.output_stride",
        )
    tap = len(trunk.strides) - 1 - trunk.strides[::-1].index(stride)
    neck = nn.Sequential(
        nn.Conv2d(trunk.channels[tap], NECK_CHANNELS, 1, bias=False),
        nn.BatchNorm2d(NECK_CHANNELS),
        nn.ReLU(inplace=False),
    )
    return Classifier(
        trunk,
        neck,
        channels=NECK_CHANNELS,
        classes=classes,
        stride=stride,
        pooling=params.pooling,
        preprocessing=trunk.preprocessing,
        tap=tap,
    )


def positive_weights(tags: Flags, known: Flags | None = None, *, limit: float = 10.0) -> npt.NDArray[np.float32]:
    """Absences / presences per class from tags (N, C), clipped to 1/limit..limit; 1 for a class without either."""
    sure = np.ones(tags.shape, bool) if known is None else known
    present, absent = (tags & sure).sum(0), (~tags & sure).sum(0)
    both = (present > 0) & (absent > 0)
    ratio = np.where(both, absent / np.where(both, present, 1), 1.0)
    return np.clip(ratio, 1 / limit, limit).astype(np.float32)


def balanced_crop_weights(tags: Flags) -> npt.NDArray[np.float64]:
    """Sampling weights (N,), summing to 1, that favour rare presences *and* rare absences (ours).

    Each class shares one unit among the crops that hold it and one among those that do not, so the one crop without
    ground counts as much as all crops with it. Classes that are everywhere or nowhere say nothing and drop out; if all
    do, the weights are even.
    """
    if tags.ndim != 2 or not len(tags):
        raise DataError(f"tags of shape {tags.shape}", expected="(N, C), N > 0", cure="rerun the tiles stage")
    present = tags.sum(0)
    informative = tags[:, (present > 0) & (present < len(tags))]
    if not informative.shape[1]:
        return np.full(len(tags), 1 / len(tags))
    held = informative.sum(0)
    weights = np.where(informative, 1 / held, 1 / (len(tags) - held)).sum(1)
    return np.asarray(weights / weights.sum())


def apply_missing_label_policy(
    tags: Flags,
    known: Flags,
    probabilities: Floats,
    *,
    policy: MissingLabels,
    drop_classes: tuple[int, ...] = (),
    confidence: float = 0.8,
    uncertain: tuple[float, float] = (0.3, 0.7),
) -> Flags:
    """Which tags (N, C) to train on where some may be missing or wrong: ``known`` of the loss (after NoPeopleAllowed).

    Args:
        tags, known: bool (N, C). probabilities: (N, C) in 0..1 of an earlier classifier; only the last two policies
            read them.
        policy: ``keep`` returns ``known``; ``drop_class`` forgets the columns ``drop_classes``; ``confident_only``
            forgets whole crops with a given tag whose probability is below ``confidence``; ``ignore_uncertain`` forgets
            single tags, present or absent, whose probability lies strictly inside ``uncertain``.

    Raises:
        DataError: nothing is left to train on, or the probabilities are not finite.
    """
    if tags.shape != known.shape or tags.shape != probabilities.shape:
        raise DataError(
            f"tags {tags.shape}, known {known.shape}, probabilities {probabilities.shape}",
            expected="the same (N, C)",
            cure="pass one row per crop",
        )
    if not np.isfinite(probabilities).all():
        raise DataError("NaN among the probabilities", expected="0..1", cure="train the classifier again")
    kept = known.copy()
    if policy == "drop_class":
        kept[:, list(drop_classes)] = False
    elif policy == "confident_only":
        kept[(tags & known & (probabilities < confidence)).any(1)] = False
    elif policy == "ignore_uncertain":
        kept[(probabilities > uncertain[0]) & (probabilities < uncertain[1])] = False
    if not kept.any():
        raise DataError(f"policy {policy} forgets every tag", expected="some left", cure="loosen its thresholds")
    return kept


@dataclass(frozen=True)
class TagMetrics:
    """Quality of predicted tags: average precision and F1 (C,), NaN for a class no crop has; exact match in 0..1.

    All are NaN without a crop.
    """

    average_precision: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    exact_match: float


def tag_metrics(tags: Flags, probabilities: Floats, thresholds: Floats) -> TagMetrics:
    """Compare ``probabilities >= thresholds`` with tags, all (N, C), thresholds (C,).

    A class without a positive has NaN average precision and F1, to be left out of means; its NaN threshold (see
    :func:`f1_thresholds`) predicts "absent", and so takes part in the exact match.
    """
    predicted = probabilities >= thresholds
    hits = (predicted & tags).sum(0)
    sizes = predicted.sum(0) + tags.sum(0)
    f1 = np.where(tags.any(0), 2 * hits / np.maximum(sizes, 1), np.nan)
    precision = [average_precision(tags[:, c], probabilities[:, c]) for c in range(tags.shape[1])]
    exact = float((predicted == tags).all(1).mean()) if len(tags) else float("nan")
    return TagMetrics(np.array(precision), f1, exact)


def average_precision(present: Flags, probabilities: Floats) -> float:
    """Sum of precision times step of recall over all thresholds of one class, (N,) each; NaN without a positive."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(present, probabilities)) if present.any() else float("nan")


def f1_thresholds(tags: Flags, probabilities: Floats) -> npt.NDArray[np.float64]:
    """The F1-optimal threshold (C,) per class, midway to the next lower probability; NaN for a class no crop has."""
    from sklearn.metrics import precision_recall_curve

    best = np.full(tags.shape[1], np.nan)
    for c in np.flatnonzero(tags.any(0)):
        precision, recall, thresholds = precision_recall_curve(tags[:, c], probabilities[:, c].astype(np.float64))
        f1 = np.round(2 * precision * recall / np.maximum(precision + recall, 1e-12), 12)  # equals stay equal
        at = len(thresholds) - 1 - int(np.argmax(f1[:-1][::-1]))  # of equals the highest one
        lower = thresholds[at - 1] if at else 0.0
        best[c] = (thresholds[at] + lower) / 2
    return best
