from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.core.methods import CamParams
from weakseg.data.crops.augment import Preprocessing
from weakseg.methods.cam import (
    area_cam,
    class_activation_maps,
    cut_windows,
    gradcampp_weights,
    in_force,
    normalise_maps,
    resolve_labels,
    view_maps,
)
from weakseg.methods.classifier import Classifier, build_classifier
from weakseg.pipeline.presets import load_preset

PLAIN = CamParams(
    method="cam",
    scales=(1.0,),
    flips=False,
    quarter_turns=False,
    label_source="given",
    normalise="per_class",
    lid_compat=False,
)
MANY = PLAIN.replaced(scales=(0.75, 1.0, 1.5), flips=True, quarter_turns=True)
LID_COMPAT = in_force(PLAIN.replaced(lid_compat=True))


class Generic(nn.Module):
    """The same head as ``net``, without saying that it is linear, so that maps need gradients."""

    is_linear_pooling = False
    class_weights = None

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.net, self.stride, self.preprocessing = net, net.stride, net.preprocessing

    def features(self, images: Tensor) -> Tensor:
        return self.net.features(images)

    def head(self, features: Tensor) -> Tensor:
        return self.net.head(features)


class Hidden(Generic):
    """A head with a hidden layer: linear in nothing."""

    def head(self, features: Tensor) -> Tensor:
        return self.net.linear(torch.tanh(features).square().mean((2, 3)))


class CountedPool(nn.AvgPool2d):
    """Feature = mean colour of a 4x4 block; remembers the batches it saw."""

    def __init__(self) -> None:
        super().__init__(4)
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return super().forward(images)


def colour_net(weights: list[list[float]], pooling: str = "gap") -> Classifier:
    """Class c sees ``weights[c]`` . (R, G, B) in 0..1 of each 4x4 block, so every map is known."""
    unit = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    net = Classifier(
        CountedPool(),
        nn.ReLU(),
        channels=3,
        classes=len(weights),
        stride=4,
        pooling=pooling,  # type: ignore[arg-type]
        preprocessing=unit,
    )
    with torch.no_grad():
        net.linear.weight.copy_(torch.tensor(weights))
    return net.eval()


def vgg(seed: int = 0, pooling: str = "gap") -> Classifier:
    torch.manual_seed(seed)
    params = load_preset("base").classifier
    return build_classifier(params.replaced(arch="vgg16_bn", weights="none", width=32, pooling=pooling), 5).eval()


def blocks(*rows: list[float]) -> Tensor:
    """A one-channel image of 4x4 blocks, put into the red channel: (1, 3, 4 * rows, 4 * columns)."""
    red = torch.tensor(rows)
    image = torch.zeros(1, 3, *red.shape)
    image[0, 0] = red
    return image.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_cam_by_hand() -> None:
    net = colour_net([[2.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    nn.init.constant_(net.linear.bias, 7.0)  # ignored
    maps = view_maps(net, blocks([0.0, 1.0], [0.5, 0.25]), "cam")
    torch.testing.assert_close(maps[0], torch.tensor([[[0.0, 2.0], [1.0, 0.5]], [[0.0, -1.0], [-0.5, -0.25]]]))
    merged = class_activation_maps(net, blocks([0.0, 1.0], [0.5, 0.25]), PLAIN)
    assert merged.shape == (1, 2, 8, 8)
    assert merged[0, 0, 0, 7] == 1
    assert merged[0, 0, 7, 0] == pytest.approx(0.5)
    assert not merged[0, 1].any()  # only negative evidence: stays zero, no NaN


def test_gradcam_is_cam_over_the_number_of_cells() -> None:
    net, images = vgg(), torch.randn(2, 3, 64, 48)
    cam = view_maps(net, images, "cam")
    assert cam.abs().max() > 1e-6
    # through autograd, not the closed form
    gradcam = view_maps(Generic(net), images, "gradcam")
    torch.testing.assert_close(gradcam * (8 * 6), cam, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(view_maps(net, images, "gradcam"), gradcam, rtol=1e-4, atol=1e-8)


def test_closed_gradcampp_equals_the_gradient_one() -> None:
    net, images = vgg(3), torch.randn(2, 3, 64, 64)
    closed, general = view_maps(net, images, "gradcampp"), view_maps(Generic(net), images, "gradcampp")
    assert closed.max() > 1e-6
    torch.testing.assert_close(closed, general, rtol=1e-4, atol=1e-8)


def test_gradcampp_weights_follow_the_formula_in_float64() -> None:
    torch.manual_seed(0)
    features, gradient = torch.rand(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    expected = np.zeros((2, 4))
    for b in range(2):
        for k in range(4):
            a, g = features[b, k].double().numpy(), gradient[b, k].double().numpy()
            share = g**2 / (2 * g**2 + (a * g**3).sum())
            expected[b, k] = (share * np.maximum(g, 0)).sum()
    np.testing.assert_allclose(gradcampp_weights(features, gradient).numpy(), expected, rtol=1e-3)
    # scale-free down to gradients whose cube is below the least float32
    tiny = gradcampp_weights(features, gradient.abs() * 1e-20) / 1e-20
    plain = (gradient.abs() / 2).sum((2, 3))  # the cubic term vanishes against the square
    torch.testing.assert_close(tiny, plain, rtol=1e-4, atol=0)


@pytest.mark.parametrize("net_class", [Classifier, Generic, Hidden])
@pytest.mark.parametrize("scale", [100.0, -100.0])
def test_gradcampp_is_finite_for_logits_of_100(net_class: type, scale: float) -> None:
    net, images = vgg(5), torch.randn(2, 3, 32, 32)
    model = net if net_class is Classifier else net_class(net)
    with torch.no_grad():
        factor = scale / model.head(model.features(images)).abs().max()
        net.linear.weight.mul_(factor)
        assert model.head(model.features(images)).abs().max() == pytest.approx(100, rel=1e-3)
    maps = class_activation_maps(model, images, PLAIN.replaced(method="gradcampp"))
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.max() == 1


def test_a_head_that_ignores_the_features_gives_zero_maps() -> None:
    net = vgg()
    nn.init.zeros_(net.linear.weight)
    for method in ("cam", "gradcam", "gradcampp"):
        for model in (net,) if method == "cam" else (net, Generic(net)):
            maps = class_activation_maps(model, torch.randn(1, 3, 32, 32), PLAIN.replaced(method=method))
            assert not maps.any()


def test_cam_needs_a_linear_head() -> None:
    with pytest.raises(ParamsError, match=r"set cam\.method: gradcam"):
        view_maps(Hidden(vgg()), torch.randn(1, 3, 32, 32), "cam")


@pytest.mark.parametrize("method", ["cam", "gradcam", "gradcampp"])
def test_nan_weights_are_named(method: str) -> None:
    net = vgg()
    with torch.no_grad():
        net.trunk[0].weight[0] = float("nan")
    with pytest.raises(DataError, match=r"NaN.*checkpoint and train it again"):
        class_activation_maps(net, torch.randn(1, 3, 32, 32), PLAIN.replaced(method=method))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [MANY, LID_COMPAT, MANY.replaced(method="gradcampp", scales=(0.5,))])
def test_a_flipped_image_gives_the_flipped_map(options: CamParams) -> None:
    net, images = vgg(2), torch.randn(2, 3, 32, 32)
    straight = class_activation_maps(net, images, options)
    flipped = class_activation_maps(net, images.flip(3), options)
    assert (straight - straight.flip(3)).abs().max() > 0.05  # the map itself is not symmetric
    torch.testing.assert_close(flipped, straight.flip(3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (32, 24)])
def test_a_turned_image_gives_the_turned_map(size: tuple[int, int]) -> None:
    net, images = vgg(2), torch.randn(1, 3, *size)
    straight = class_activation_maps(net, images, MANY)
    turned = class_activation_maps(net, torch.rot90(images, 1, (2, 3)), MANY)
    torch.testing.assert_close(turned, torch.rot90(straight, 1, (2, 3)), rtol=0, atol=1e-4)


def test_equal_maps_at_every_scale_merge_to_themselves() -> None:
    net = colour_net([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    image = torch.full((1, 3, 16, 16), 0.7)
    merged = class_activation_maps(net, image, MANY.replaced(scales=(0.5, 1.0, 2.0)))
    torch.testing.assert_close(merged, torch.ones(1, 2, 16, 16))


def test_every_view_weighs_the_same_whatever_its_number_of_cells() -> None:
    net, images = vgg(4), torch.randn(1, 3, 64, 64)
    parts = [class_activation_maps(net, images, PLAIN.replaced(method="gradcam", scales=(s,))) for s in (1.0, 2.0)]
    peaks = [part.amax((2, 3), keepdim=True) for part in parts]
    both = class_activation_maps(net, images, PLAIN.replaced(method="gradcam", scales=(1.0, 2.0)))
    total = sum(part / peak.clamp(min=1e-9) for part, peak in zip(parts, peaks, strict=True))
    # interpolation moves single peaks a little, so views are equal up to the peaks' factor
    corr = np.corrcoef(both.flatten().numpy(), (total / total.amax((2, 3), keepdim=True)).flatten().numpy())[0, 1]
    lid = class_activation_maps(net, images, LID_COMPAT.replaced(flips=False, scales=(1.0, 2.0), normalise="per_class"))
    corr_lid = np.corrcoef(lid.flatten().numpy(), parts[0].flatten().numpy())[0, 1]
    assert corr > 0.99
    assert corr_lid > np.corrcoef(both.flatten().numpy(), parts[0].flatten().numpy())[0, 1]  # scale 2 is nearly lost


def test_normalisation_rules_by_hand() -> None:
    maps = torch.zeros(1, 3, 10, 20)
    maps[0, 0] = torch.arange(1, 201).view(10, 20).float()
    maps[0, 1, 0, 0] = 4.0
    per_class = normalise_maps(maps, "per_class")
    assert per_class[0].amax((1, 2)).tolist() == [1, 1, 0]
    assert per_class[0, 0, 0, 0] == pytest.approx(1 / 200)
    assert normalise_maps(maps, "global")[0].amax((1, 2)).tolist() == pytest.approx([1, 0.02, 0])


def test_absent_classes_are_zero_and_do_not_set_the_global_maximum() -> None:
    net = colour_net([[1.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    options = PLAIN.replaced(normalise="global")
    maps = class_activation_maps(net, blocks([1.0, 0.5]), options, present=torch.tensor([[True, False]]))
    assert not maps[0, 1].any()
    assert maps[0, 0].max() == 1


def test_options_refuse() -> None:
    with pytest.raises(ValidationError, match=r"method\n.*'cam', 'gradcam' or 'gradcampp'"):
        PLAIN.replaced(method="scorecam")
    for scales in ((), (1.0, 0.0)):
        with pytest.raises(ValidationError, match="scales"):
            PLAIN.replaced(scales=scales)


GIVEN = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
PREDICTED = np.array([[0.9, 0.2, 0.8], [0.9, 0.3, 0.1], [0.1, 0.2, 0.4]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.zeros_like(GIVEN), [[1, 0, 1], [1, 0, 0], [0, 0, 1]]),  # the last row: none above .5, so its likeliest
        (GIVEN, [[1, 1, 0], [0, 1, 1], [0, 0, 1]]),
    ],
)
def test_label_sources_by_hand(given: np.ndarray, expected: list[list[int]]) -> None:
    labels = resolve_labels(given, PREDICTED, np.full(3, 0.5), "given_or_predicted")
    np.testing.assert_array_equal(labels, np.array(expected, bool))


def test_given_labels_stand_and_crops_without_tags_are_named() -> None:
    np.testing.assert_array_equal(resolve_labels(GIVEN[:2], PREDICTED[:2], np.full(3, 0.5), "given"), GIVEN[:2])
    with pytest.raises(DataError, match=r"1 of 3 crops have no tags, first number 2.*given_or_predicted"):
        resolve_labels(GIVEN, PREDICTED, np.full(3, 0.5), "given")


def test_classes_not_known_are_predicted_and_classes_without_threshold_never() -> None:
    known = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    labels = resolve_labels(GIVEN, PREDICTED, np.full(3, 0.5), "given_or_predicted", known=known)
    np.testing.assert_array_equal(labels, np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], bool))
    none = np.zeros_like(GIVEN)
    labels = resolve_labels(none, PREDICTED, np.array([0.5, 0.5, np.nan]), "given_or_predicted")
    np.testing.assert_array_equal(labels, np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], bool))


def test_label_sources_refuse() -> None:
    with pytest.raises(DataError, match="no class has a threshold"):
        resolve_labels(GIVEN, PREDICTED, np.full(3, np.nan), "given_or_predicted")
    with pytest.raises(DataError, match="train the classifier again"):
        resolve_labels(GIVEN, PREDICTED * np.nan, np.full(3, 0.5), "given_or_predicted")
    with pytest.raises(ValidationError, match=r"label_source\n.*'given' or 'given_or_predicted'"):
        PLAIN.replaced(label_source="oracle")


def test_cut_windows_mirrors_at_the_rim_without_repeating_the_edge() -> None:
    image = np.zeros((2, 5, 3), np.uint8)
    image[:, :, 0] = np.arange(5)
    crops = cut_windows(image, np.array([[0, 0, 2, 2], [0, 3, 2, 2]]), 2, 6)
    assert crops.shape == (2, 2, 6, 3)
    assert crops[0, 0, :, 0].tolist() == [2, 1, 0, 1, 2, 3]
    assert crops[1, 0, :, 0].tolist() == [1, 2, 3, 4, 3, 2]
    assert cut_windows(image[:1], np.array([[0, 0, 1, 1]]), 3, 1)[0, :, 0, 0].tolist() == [0, 0, 0]


def area() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """16x24 px, red falls and green grows to the right; two windows side by side, the lower rows have none."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, :, 0] = 240 - 10 * np.arange(24)
    image[:, :, 1] = 10 * np.arange(24)
    windows = np.array([[0, 0, 12, 12], [0, 12, 12, 12]])
    tags = np.array([[1, 0, 0], [1, 1, 0]], bool)
    return image, windows, tags


def test_area_maps_are_normalised_per_window_over_its_classes() -> None:
    image, windows, tags = area()
    net = colour_net([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    maps = area_cam(net, image, windows, tags, PLAIN, context=0.25, batch_size=2)
    assert maps.scores.dtype == np.float32
    assert maps.present.tolist() == [True, True, False]
    assert maps.scores[0, :12, :12].max() == maps.scores[0, :12, 12:].max() == maps.scores[1, :12, 12:].max() == 1
    assert not maps.scores[1, :12, :12].any()  # not tagged there
    assert len(maps.scores) == 2  # none of a class that no crop has
    assert not maps.scores[:, 12:].any()  # no window
    # red is strongest at the left rim of each window, green at the right (mirrored context flattens the outermost px)
    assert maps.scores[0, :12, :12].max(0).argmax() <= 1
    assert maps.scores[0, :12, 12:].max(0).argmax() == 0
    assert maps.scores[1, :12, 12:].max(0).argmax() >= 10


def test_pixels_without_data_set_no_maximum() -> None:
    """Red is strongest at the left rim, which has no data: the best of the rest reaches 1 instead."""
    image, windows, tags = area()
    net = colour_net([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    valid = np.ones(image.shape[:2], bool)
    valid[:, :4] = False
    plain = area_cam(net, image, windows, tags, PLAIN, context=0.25, batch_size=2)
    maps = area_cam(net, image, windows, tags, PLAIN, context=0.25, batch_size=2, valid=valid)
    assert not maps.scores[:, :, :4].any()
    assert plain.scores[0, :12, 4:12].max() < 1 == maps.scores[0, :12, 4:12].max()
    np.testing.assert_array_equal(maps.scores[:, :, 12:], plain.scores[:, :, 12:])
    everywhere = area_cam(net, image, windows, tags, PLAIN, context=0.25, batch_size=2, valid=valid | True)
    np.testing.assert_array_equal(everywhere.scores, plain.scores)


def test_area_maps_do_not_depend_on_the_batch_size() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 56, 3), np.uint8)
    windows = np.array([[r, c, min(16, 40 - r), min(16, 56 - c)] for r in range(0, 40, 16) for c in range(0, 56, 16)])
    tags = rng.random((len(windows), 5)) < 0.6
    tags[:, 0] = True
    options = PLAIN.replaced(flips=True)
    one, many = (area_cam(vgg(1), image, windows, tags, options, context=0.5, batch_size=b) for b in (1, 5))
    np.testing.assert_allclose(one.scores, many.scores, atol=1e-4)
    assert (one.scores[0] > 0).mean() > 0.1


def test_one_forward_per_scale_serves_all_classes_and_turns() -> None:
    image, windows, tags = area()
    net = colour_net([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    options = MANY.replaced(method="gradcampp", scales=(0.5, 1.0))
    area_cam(net, image, windows.repeat(3, 0), tags.repeat(3, 0), options, context=0.0, batch_size=4)
    assert net.trunk.batches == [24, 24, 24, 24]  # 2 batches of 3 windows x 8 views, at 2 scales


def test_area_refuses_windows_outside_and_without_tags() -> None:
    image, windows, tags = area()
    net = colour_net([[1.0, 0.0, 0.0]] * 3)
    with pytest.raises(DataError, match=r"window \[0, 13, 12, 12\] in an area of 16x24"):
        area_cam(net, image, windows + np.array([[0, 0, 0, 0], [0, 1, 0, 0]]), tags, PLAIN, context=0, batch_size=2)
    with pytest.raises(DataError, match=r"1 of 2 windows have no class.*leave those windows out"):
        area_cam(net, image, windows, tags & [[True], [False]], PLAIN, context=0, batch_size=2)
    with pytest.raises(DataError, match="rerun the tiles stage"):
        area_cam(net, image, windows[:0], tags[:0], PLAIN, context=0, batch_size=2)
    with pytest.raises(DataError, match="import the area again"):
        area_cam(net, image.astype(np.float32), windows, tags, PLAIN, context=0, batch_size=2)


def test_a_crop_whose_tag_says_no_object_maps_none() -> None:
    given, known = np.array([[False, False], [True, False], [False, False]]), np.array([[1, 1], [1, 1], [0, 0]], bool)
    probabilities = np.array([[0.9, 0.9], [0.1, 0.9], [0.2, 0.8]], np.float32)
    labels = resolve_labels(
        given, probabilities, np.full(2, 0.5), "given_or_predicted", known=known, tagged=known.any(1)
    )
    assert labels.tolist() == [[False, False], [True, False], [False, True]]
