from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from weakseg.core.errors import DataError, ParamsError, WeightsError
from weakseg.data.crops.augment import IMAGENET
from weakseg.methods.classifier import (
    Classifier,
    apply_missing_label_policy,
    average_precision,
    balanced_crop_weights,
    build_classifier,
    f1_thresholds,
    pool_features,
    positive_weights,
    tag_metrics,
    vgg16_bn_trunk,
)
from weakseg.networks.build import LITE0_PREPROCESSING
from weakseg.pipeline.presets import load_preset

VGG = load_preset("base").classifier.replaced(arch="vgg16_bn", weights="none", width=32)
ENCODER = VGG.replaced(arch="encoder", encoder="tf_efficientnet_lite0", width=1)


def build_vgg(*, classes: int = 5, **changes: object) -> Classifier:
    return build_classifier(VGG.replaced(**changes), classes)


def test_vgg_has_the_published_size_and_torchvision_indices() -> None:
    model = build_vgg(width=1, classes=200)
    trunk, extra, linear = 14_714_688 + 2 * 4224, 3 * (9 * 512 * 512 + 512), 512 * 200 + 200
    assert sum(p.numel() for p in model.parameters()) == trunk + extra + linear  # 21.9 M
    convolutions = [i for i, layer in enumerate(model.trunk) if isinstance(layer, nn.Conv2d)]
    assert convolutions == [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    assert [model.trunk[i].dilation[0] for i in convolutions] == [1] * 10 + [2] * 3


def test_vgg_has_stride_8_and_features_that_are_not_negative() -> None:
    torch.manual_seed(0)
    model = build_vgg().eval()
    with torch.no_grad():
        features = model.features(torch.randn(2, 3, 64, 48))
        assert features.shape == (2, 16, 8, 6)
        assert features.min() == 0
        assert model(torch.randn(2, 3, 64, 48)).shape == (2, 5)
    assert (model.stride, model.preprocessing, model.is_linear_pooling) == (8, IMAGENET, True)
    assert not any(layer.inplace for layer in model.neck if isinstance(layer, nn.ReLU))


def test_encoder_classifier_keeps_the_encoders_stride_and_statistics() -> None:
    model = build_classifier(ENCODER.replaced(weights="package", output_stride=16, pooling="gem"), 4).eval()
    with torch.no_grad():
        assert model.features(torch.randn(1, 3, 64, 64)).shape == (1, 256, 4, 4)
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 4)
    assert (model.stride, model.preprocessing, model.is_linear_pooling) == (16, LITE0_PREPROCESSING, False)


def test_an_encoder_gives_its_own_feature_of_that_stride() -> None:
    model = build_classifier(ENCODER, 4)
    assert (model.neck[0].in_channels, model.stride) == (40, 8)
    with torch.no_grad():
        assert model.eval().features(torch.randn(1, 3, 64, 64)).shape == (1, 256, 8, 8)


def test_build_refuses_other_strides_pools_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"stride 16.*classifier\.output_stride"):
        build_vgg(output_stride=16)
    with pytest.raises(ValidationError, match=r"pooling\n.*'gap' or 'gem'"):
        build_vgg(pooling="max")
    with pytest.raises(ValidationError, match=r"missing_labels\n.*'drop_class'"):
        build_vgg(missing_labels="guess")
    with pytest.raises(WeightsError, match="width"):
        build_vgg(weights=str(tmp_path / "vgg.pth"))


def test_pooling_by_hand() -> None:
    features = torch.tensor([0.0, 1.0, 2.0, 5.0]).view(1, 1, 2, 2)
    assert pool_features(features, "gap").item() == pytest.approx(2.0)
    assert pool_features(features, "gem").item() == pytest.approx(((0 + 1 + 8 + 125) / 4) ** (1 / 3), rel=1e-5)


def test_generalised_mean_of_zeros_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool_features(features, "gem").sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_mean_of_the_cam_plus_bias_is_the_logit() -> None:
    torch.manual_seed(1)
    model = build_vgg().eval()
    nn.init.constant_(model.linear.bias, 0.5)
    with torch.no_grad():
        features = model.features(torch.randn(2, 3, 32, 32))
        maps = torch.einsum("ck,bkhw->bchw", model.class_weights, features)
        torch.testing.assert_close(maps.mean((2, 3)) + 0.5, model.head(features))


def test_positive_weights_by_hand() -> None:
    tags = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]], bool)
    np.testing.assert_allclose(positive_weights(tags), [1, 3, 1, 1])
    known = np.ones_like(tags)
    known[3, 1] = known[0, 3] = False
    np.testing.assert_allclose(positive_weights(tags, known), [1, 2, 1, 2])
    np.testing.assert_allclose(positive_weights(tags, limit=2.0), [1, 2, 1, 1])


def test_crop_weights_favour_the_rare_absence_as_much_as_the_rare_presence() -> None:
    # class 0 (ground) misses in crop 0 only, class 1 (car) is in crop 3 only, class 2 is nowhere
    tags = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]], bool)
    raw = np.array([1 + 1 / 3, 1 / 3 + 1 / 3, 1 / 3 + 1 / 3, 1 / 3 + 1])
    np.testing.assert_allclose(balanced_crop_weights(tags), raw / raw.sum())


def test_crop_weights_without_information_are_even_and_without_crops_refused() -> None:
    np.testing.assert_allclose(balanced_crop_weights(np.array([[1, 0]] * 4, bool)), [0.25] * 4)
    with pytest.raises(DataError, match="tiles"):
        balanced_crop_weights(np.zeros((0, 3), bool))


TAGS = np.array([[1, 0, 1], [0, 1, 0]], bool)
KNOWN = np.array([[1, 1, 1], [1, 1, 0]], bool)
PROBABILITIES = np.array([[0.9, 0.5, 0.79], [0.4, 0.95, 0.1]])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep", [[1, 1, 1], [1, 1, 0]]),
        ("drop_class", [[1, 0, 1], [1, 0, 0]]),
        ("confident_only", [[0, 0, 0], [1, 1, 0]]),  # the tag at .79 is not confirmed
        ("ignore_uncertain", [[1, 0, 1], [0, 1, 0]]),
    ],
)
def test_missing_label_policies_by_hand(policy: str, expected: list[list[int]]) -> None:
    kept = apply_missing_label_policy(
        TAGS,
        KNOWN,
        PROBABILITIES,
        policy=policy,  # type: ignore[arg-type]
        drop_classes=(1,),
        confidence=0.8,
        uncertain=(0.3, 0.7),
    )
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, np.array(expected, bool))
    assert KNOWN.sum() == 5  # the input is left alone


def test_missing_label_policies_refuse() -> None:
    with pytest.raises(DataError, match=r"forgets every tag.*loosen"):
        apply_missing_label_policy(TAGS, KNOWN, PROBABILITIES * 0, policy="confident_only")
    with pytest.raises(DataError, match=r"NaN.*train the classifier again"):
        apply_missing_label_policy(TAGS, KNOWN, PROBABILITIES * np.nan, policy="keep")
    with pytest.raises(DataError, match="one row per crop"):
        apply_missing_label_policy(TAGS, KNOWN[:1], PROBABILITIES, policy="keep")


def test_average_precision_is_the_area_under_the_steps_even_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        present = rng.random(40) < 0.3
        present[0] = True
        probabilities = rng.integers(0, 12, 40) / 12
        expected, recall_before = 0.0, 0.0
        for threshold in sorted(set(probabilities), reverse=True):
            predicted = probabilities >= threshold
            recall = (present & predicted).sum() / present.sum()
            expected += (recall - recall_before) * (present & predicted).sum() / predicted.sum()
            recall_before = recall
        assert average_precision(present, probabilities) == pytest.approx(expected, abs=1e-12)
    assert average_precision(np.array([1, 0, 1], bool), np.array([0.9, 0.5, 0.1])) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(average_precision(np.zeros(3, bool), np.array([0.1, 0.2, 0.3])))


def f1_of(present: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * (present & predicted).sum() / max(1, present.sum() + predicted.sum())


def test_thresholds_reach_the_best_f1_of_all() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        tags = rng.random((30, 1)) < 0.4
        tags[0] = True
        probabilities = rng.integers(1, 10, (30, 1)) / 10
        threshold = f1_thresholds(tags, probabilities)[0]
        best = max(f1_of(tags, probabilities >= t) for t in np.linspace(0, 1.1, 200))
        assert f1_of(tags, probabilities >= threshold) == pytest.approx(best)


def test_thresholds_lie_midway_and_are_nan_for_a_class_no_crop_has() -> None:
    tags = np.array([[1, 0], [1, 0], [0, 0]], bool)
    thresholds = f1_thresholds(tags, np.array([[0.9, 0.9], [0.6, 0.9], [0.2, 0.9]]))
    assert thresholds[0] == pytest.approx(0.4)
    assert np.isnan(thresholds[1])


def test_tag_metrics_by_hand() -> None:
    tags = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    probabilities = np.array([[0.9, 0.2, 0.9], [0.7, 0.8, 0.1], [0.4, 0.1, 0.1]])
    result = tag_metrics(tags, probabilities, np.array([0.5, 0.5, np.nan]))
    # class 0: predicted 1 1 0 of 1 0 1; class 1: predicted 0 1 0 of 1 1 0; class 2 never predicted, never there
    np.testing.assert_allclose(result.f1, [0.5, 2 / 3, np.nan])
    np.testing.assert_allclose(result.average_precision, [(1 + 2 / 3) / 2, 1.0, np.nan])
    assert result.exact_match == 0.0
    assert tag_metrics(tags, tags.astype(float), np.full(3, 0.5)).exact_match == 1.0


def test_trunk_width_divides_the_channels() -> None:
    trunk = vgg16_bn_trunk(width=4)
    assert [trunk[0].out_channels, trunk[40].out_channels] == [16, 128]
