"""Class activation maps: where in a crop a tag classifier sees each class, and the driver that maps a whole area.

CAM (Zhou et al. 2016), Grad-CAM (Selvaraju et al. 2017) and Grad-CAM++ (Chattopadhay et al. 2018), merged over scales,
flips and quarter turns. The backbone runs once per view without gradients and serves all classes; a head that is mean
pooling and one linear layer needs no gradient at all, any other is differentiated alone, not through the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import DataError, ParamsError
from weakseg.core.methods import CamMethod, CamNormalise, CamParams, LabelSource
from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.methods.scores import ScoreMaps

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Windows = npt.NDArray[np.integer]


class LocalisingNet(Protocol):
    """What the maps need from a network; :class:`weakseg.methods.classifier.Classifier` is one."""

    stride: int
    preprocessing: Preprocessing
    is_linear_pooling: bool

    @property
    def class_weights(self) -> Tensor | None:
        """(C, K) of a linear head, None where there is none (then ``cam`` is refused)."""

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K, h, w)."""

    def head(self, features: Tensor) -> Tensor:
        """(B, K, h, w) -> logits (B, C)."""


LID_COMPAT: Final = {
    "method": "gradcam",
    "scales": (1.0, 0.5, 0.75, 2.0),
    "flips": True,
    "quarter_turns": False,
    "normalise": "global",
    "label_source": "given_or_predicted",
}
"""The merge of NoPeopleAllowed (LID 2020, arXiv 2006.07601) as released, on crops of 352 px without context.

Views added as they come, one ReLU at the end, one maximum for all classes; tags at thresholds of 0.5. Not reproduced:
the in-place ReLU that gated the published gradients, and its Grad-CAM++ formula.
"""


def in_force(params: CamParams, zoom: float = 1.0) -> CamParams:
    """The section with what ``lid_compat`` stands for; scales times ``zoom``, training crop's side over tag crop's."""
    given = params.replaced(**LID_COMPAT) if params.lid_compat else params
    return given.replaced(scales=tuple(scale * zoom for scale in given.scales))


@torch.no_grad()
def view_maps(model: LocalisingNet, images: Tensor, method: CamMethod) -> Tensor:
    """Maps of one view: normalised images (B, 3, H, W) -> float32 (B, C, h, w) of either sign, on the feature grid.

    ``cam`` is the weighted sum of features without the bias; ``gradcam`` weighs by the mean gradient, which is the same
    over h * w for a mean-pooling head; ``gradcampp`` has the gradient of the logit, not of its exponential, so it is
    finite for any logit (the factor that is left out scales a whole class).

    Raises:
        DataError: the network gives NaN or infinity.
        ParamsError: ``cam`` asked of a head that is not linear.
    """
    features = model.features(images)
    # a surrounding autocast may run the backbone in bfloat16; the small head always runs in float32
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        weights = _analytic_weights(model, features, method)
        if weights is None:
            maps = _gradient_maps(model, features, method)
        else:
            maps = torch.einsum("bck,bkhw->bchw", weights, features)
    if not torch.isfinite(maps).all():
        raise DataError(
            "class activation maps hold NaN or infinity",
            expected="finite values",
            cure="look for NaN weights in the classifier's checkpoint and train it again",
        )
    return maps


def _analytic_weights(model: LocalisingNet, features: Tensor, method: CamMethod) -> Tensor | None:
    """Channel weights (B, C, K) where they need no gradient, else None."""
    linear = model.class_weights
    if method == "cam":
        if linear is None:
            raise ParamsError("method cam, head not linear", expected="a linear head", cure="set cam.method: gradcam")
        return linear.float().expand(len(features), -1, -1)
    if linear is None or not model.is_linear_pooling:
        return None
    cells = features.shape[2] * features.shape[3]
    weights = linear.float().expand(len(features), -1, -1)
    if method == "gradcam":
        return weights / cells
    # the gradient is w / N everywhere, so the sums over cells of the general formula close
    mean = features.mean((2, 3))[:, None]
    return torch.where(weights > 0, weights / (2 + weights * mean), 0.0)


def _gradient_maps(model: LocalisingNet, features: Tensor, method: CamMethod) -> Tensor:
    """Maps (B, C, h, w) from the gradient of each logit in the features: one forward and C backwards of the head."""
    maps = []
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        logits = list(model.head(leaf).sum(0))  # images do not mix in the head, so their gradients stay apart
    for logit in logits:
        (gradient,) = torch.autograd.grad(logit, leaf, retain_graph=True)
        weights = gradient.mean((2, 3)) if method == "gradcam" else gradcampp_weights(features, gradient)
        maps.append(torch.einsum("bk,bkhw->bhw", weights, features))
    return torch.stack(maps, 1)


def gradcampp_weights(features: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++ channel weights (B, K) from features and the gradient of one logit in them, both (B, K, h, w).

    ``a(p) = g(p)^2 / (2 g(p)^2 + sum_q A(q) g(q)^3)``, 0 where the denominator vanishes; the weight of a channel is
    ``sum_p a(p) relu(g(p))``. Gradients are divided by their largest first, so squares and cubes neither vanish nor
    overflow in float32.
    """
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    unit = gradient / torch.where(largest > 0, largest, 1.0)
    square = unit.square()
    denominator = 2 * square + largest * (features * unit * square).sum((2, 3), keepdim=True)
    usable = denominator.abs() > 1e-12
    share = torch.where(usable, square / torch.where(usable, denominator, 1.0), 0.0)
    return largest[:, :, 0, 0] * (share * unit.relu()).sum((2, 3))


def normalise_maps(maps: Tensor, rule: CamNormalise) -> Tensor:
    """Non-negative maps (B, C, H, W) -> the same in [0, 1] under the rule; a map that is all zero stays zero."""
    peak = maps.amax((1, 2, 3) if rule == "global" else (2, 3), keepdim=True)
    return (maps / torch.where(peak > 0, peak, 1.0)).clamp(max=1.0)


@torch.no_grad()
def class_activation_maps(
    model: LocalisingNet,
    images: Tensor,
    params: CamParams,
    *,
    present: Tensor | None = None,
    classes: Tensor | None = None,
) -> Tensor:
    """Merged maps of all views: normalised images (B, 3, H, W) -> float32 (B, C, H, W) in [0, 1].

    Each view is normalised, its negative part cut off, before it is added: Grad-CAM, whose size falls with the number
    of cells, would hardly see the larger scales. With ``lid_compat`` views are added as they come, and cut off last.
    Views of one scale and shape run as one batch, so memory grows with B times the number of flips and turns.

    Args:
        present: bool (B, C); classes that are False give zero maps and do not count in a ``global`` maximum.
        classes: int64 (B, P), of which classes to give maps, (B, P, H, W), in the order named; ``present`` is then of
            these, bool (B, P). None: all. So hundreds of classes cost no memory where an image holds three.
    """
    height, width = images.shape[2:]

    def at(scale: float) -> Tensor:
        sides = [max(1, round(side * scale / model.stride)) * model.stride for side in (height, width)]
        return _resize(_merge_turns(model, _resize(images, *sides), params, present, classes), height, width)

    return normalise_maps(reduce(torch.add, map(at, params.scales)).relu(), params.normalise)


def _merge_turns(
    model: LocalisingNet, images: Tensor, params: CamParams, present: Tensor | None, classes: Tensor | None
) -> Tensor:
    """Sum of the maps of all flips and turns of images at one scale, turned back, on the feature grid."""
    turns = range(4) if params.quarter_turns else (0,)
    views = [(flip, turn) for turn in turns for flip in ((False, True) if params.flips else (False,))]
    square = images.shape[2] == images.shape[3]
    shapes = [views] if square else [[view for view in views if view[1] % 2 == odd] for odd in (0, 1)]

    def maps() -> Iterator[Tensor]:
        for group in filter(None, shapes):
            found = view_maps(model, torch.cat([_turn(images, *view) for view in group]), params.method)
            for view, part in zip(group, found.chunk(len(group)), strict=True):
                own = part if classes is None else _pick(part, classes)
                yield _prepare(_turn_back(own, *view), params, present)

    return reduce(torch.add, maps())


def _pick(maps: Tensor, classes: Tensor) -> Tensor:
    """Of maps (B, C, h, w) those of the classes (B, P) named: (B, P, h, w)."""
    return maps.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:]))


def _prepare(maps: Tensor, params: CamParams, present: Tensor | None) -> Tensor:
    if present is not None:
        maps = maps * present[:, :, None, None]
    return normalise_maps(maps.relu(), params.normalise) if not params.lid_compat else maps


def _turn(images: Tensor, flip: bool, turns: int) -> Tensor:
    return torch.rot90(images.flip(3) if flip else images, turns, (2, 3))


def _turn_back(maps: Tensor, flip: bool, turns: int) -> Tensor:
    back = torch.rot90(maps, -turns, (2, 3))
    return back.flip(3) if flip else back


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", align_corners=False)


def resolve_labels(
    given: Flags,
    probabilities: Floats,
    thresholds: Floats,
    source: LabelSource,
    *,
    known: Flags | None = None,
    tagged: Flags | None = None,
) -> Flags:
    """The classes to map in each crop, at least one per crop (none in a crop whose tag says that there is no object).

    Args:
        given: bool (N, C) tags; a row without any is a crop without tags. known: bool (N, C), False where the tag says
            nothing about a class. probabilities: (N, C) predicted. thresholds: (C,), NaN for a class that no crop has:
            it is never predicted.
        source: ``given`` takes the tags; ``given_or_predicted`` the tags (classes not known: as predicted) and, for
            crops without tags, the classes above their threshold, or else the likeliest one.
        tagged: bool (N,), crops with a tag; None: those with a class. See :func:`weakseg.labels.tags.says_something`.

    Raises:
        DataError: crops without tags under ``given``; NaN probabilities; no class has a threshold.
    """
    if not np.isfinite(probabilities).all():
        raise DataError("NaN among the probabilities", expected="0..1", cure="train the classifier again")
    tagged = np.asarray(given.any(1)) if tagged is None else tagged
    if source == "given":
        if not tagged.all():
            raise DataError(
                f"{int((~tagged).sum())} of {len(given)} crops have no tags, first number {int(np.argmin(tagged))}",
                expected="a tag each under label_source given",
                cure="set cam.label_source: given_or_predicted, or leave those crops out",
            )
        return given.copy()
    predicted = _predicted(probabilities, thresholds)
    unknown = np.zeros_like(given) if known is None else ~known
    return np.where(tagged[:, None], given | (unknown & predicted), predicted)


def _predicted(probabilities: Floats, thresholds: Floats) -> Flags:
    usable = np.isfinite(thresholds)
    if not usable.any():
        raise DataError(
            "no class has a threshold", expected="one at least", cure="tag crops and retrain the classifier"
        )
    predicted: Flags = np.asarray(probabilities >= thresholds)
    likeliest = np.where(usable, probabilities, -1.0).argmax(1)
    missing = ~predicted.any(1)
    predicted[missing, likeliest[missing]] = True
    return predicted


def cut_windows(image: npt.NDArray[Any], windows: Windows, height: int, width: int) -> npt.NDArray[Any]:
    """Rectangles (N, height, width, K) centred on windows (row, column, height, width), mirrored at the rim."""
    crops = np.empty((len(windows), height, width, image.shape[2]), image.dtype)
    for crop, (row, column, high, wide) in zip(crops, windows, strict=True):
        rows = _mirror(int(row) + int(high) // 2 - height // 2, height, image.shape[0])
        columns = _mirror(int(column) + int(wide) // 2 - width // 2, width, image.shape[1])
        crop[:] = image[rows[:, None], columns[None, :]]
    return crops


def _mirror(start: int, count: int, length: int) -> npt.NDArray[np.int64]:
    # indices start..start+count-1 reflected into 0..length-1 without repeating the edge, as often as needed
    if length == 1:
        return np.zeros(count, np.int64)
    phase = np.arange(start, start + count) % (2 * length - 2)
    return np.minimum(phase, 2 * length - 2 - phase)


def area_cam(
    model: torch.nn.Module,
    image: npt.NDArray[Any],
    windows: Windows,
    tags: Flags,
    params: CamParams,
    *,
    context: float,
    batch_size: int,
    valid: Flags | None = None,
) -> ScoreMaps:
    """Maps of a whole area from its tag windows.

    Each window is seen with ``context`` (share of its side, on each side; mirrored at the rim of the area), its centre
    is cut out of the map, and the classes that the window holds are normalised there, so each reaches 1 somewhere in
    the window unless the network finds nothing of it. Where windows overlap the larger score stands; pixels without a
    window stay 0. Memory: the output and one batch, however many windows there are.

    Args:
        model: a :class:`~weakseg.methods.classifier.Classifier`; put into evaluation mode.
        image: (H, W, K). windows: int (N, 4), row, column, height, width in px. tags: bool (N, C), one at least
            per window: see :func:`resolve_labels`.
        batch_size: windows per forward; times the number of flips and turns they are the images per batch.
        valid: bool (H, W); pixels where it is False stay 0 and set no maximum. None: all are True.

    Raises:
        DataError: windows outside the area, without tags, or a network with NaN weights.
    """
    net = _check_area(model, image, windows)
    _check_tags(tags, windows)
    high, wide = (_expanded(int(side), context, net.stride) for side in windows[:, 2:].max(0))
    held = np.asarray(tags.any(0))
    place = np.cumsum(held) - 1  # of a class among the maps
    scores = np.zeros((int(held.sum()), *image.shape[:2]), np.float32)
    for part in np.array_split(np.arange(len(windows)), -(-len(windows) // batch_size)):
        classes = own_classes(tags[part])
        present = np.take_along_axis(tags[part], classes, 1) & (
            np.arange(classes.shape[1]) < tags[part].sum(1)[:, None]
        )
        crops = cut_windows(image, windows[part], high, wide)
        maps = class_activation_maps(
            net,
            _to_images(crops, net, _device(model)),
            params,
            present=torch.from_numpy(present).to(_device(model)),
            classes=torch.from_numpy(classes).to(_device(model)),
        )
        for index, full in zip(part, maps, strict=True):
            row, column, height, width = (int(value) for value in windows[index])
            top, left = high // 2 - height // 2, wide // 2 - width // 2
            centre = full[None, :, top : top + height, left : left + width]
            if valid is not None:
                seen = valid[row : row + height, column : column + width]
                centre = centre * torch.from_numpy(np.ascontiguousarray(seen)).to(centre.device)
            values = normalise_maps(centre, params.normalise)[0].cpu().numpy()
            for plane, value in zip(place[tags[index]], values, strict=False):  # its own classes come first
                target = scores[plane, row : row + height, column : column + width]
                np.maximum(target, value, out=target)
    return ScoreMaps(scores, held)


def own_classes(tags: Flags) -> npt.NDArray[np.int64]:
    """The classes of each window, rising, from tags bool (N, C): int64 (N, P), filled up with absent ones."""
    return np.argsort(~tags, axis=1, kind="stable")[:, : max(1, int(tags.sum(1).max()))]


def _expanded(side: int, context: float, stride: int) -> int:
    return -(-(side + 2 * int(np.ceil(context * side))) // stride) * stride


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _to_images(crops: npt.NDArray[Any], model: LocalisingNet, device: torch.device) -> Tensor:
    return normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).to(device), model.preprocessing)


def _check_area(model: torch.nn.Module, image: npt.NDArray[Any], windows: Windows) -> LocalisingNet:
    net: LocalisingNet = model  # type: ignore[assignment]
    bands = net.preprocessing.bands
    if image.ndim != 3 or image.dtype != bands.dtype or image.shape[2] != len(bands):
        raise DataError(
            f"image {image.dtype} {image.shape}",
            expected=f"(H, W, {len(bands)}) of {bands.dtype}",
            cure="import the area again",
        )
    if windows.ndim != 2 or windows.shape[1] != 4 or not len(windows):
        raise DataError(f"windows of shape {windows.shape}", expected="(N, 4), N > 0", cure="rerun the tiles stage")
    ends = windows[:, :2] + windows[:, 2:]
    outside = (windows[:, :2] < 0).any(1) | (windows[:, 2:] < 1).any(1) | (ends > image.shape[:2]).any(1)
    if outside.any():
        raise DataError(
            f"window {windows[outside][0].tolist()} in an area of {image.shape[0]}x{image.shape[1]} px",
            expected="row, column, height, width inside it",
            cure="rerun the tiles stage",
        )
    model.eval()
    return net


def _check_tags(tags: Flags, windows: Windows) -> None:
    if tags.ndim != 2 or len(tags) != len(windows):
        raise DataError(
            f"tags {tags.shape} for {len(windows)} windows", expected="one row each", cure="pass both whole"
        )
    untagged = np.flatnonzero(~tags.any(1))
    if len(untagged):
        raise DataError(
            f"{len(untagged)} of {len(tags)} windows have no class, first {windows[untagged[0]].tolist()}",
            expected="one class at least in each",
            cure="set cam.label_source: given_or_predicted, or leave those windows out",
        )
