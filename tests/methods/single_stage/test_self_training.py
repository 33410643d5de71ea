"""Pseudo labels and the self-supervised loss: published vectors (V3), hand-computed cases, the aerial setting."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import DataError
from weakseg.methods.single_stage.network import SingleStageOutput
from weakseg.methods.single_stage.self_training import (
    balanced_cross_entropy,
    pseudo_labels,
    refined_masks,
    self_training_loss,
    single_stage_loss,
)
from weakseg.networks.losses import multi_label_bce
from weakseg.pipeline.presets import load_preset

AERIAL = load_preset("base").single_stage.replaced(
    gate="strict", dilations=(1, 2, 4, 8), pamr_iterations=10, sigma_floor=0.0
)


def published_logits() -> Tensor:
    c, i, j = torch.meshgrid(*(torch.arange(n).double() for n in (3, 4, 5)), indexing="ij")
    return torch.cat([torch.ones(1, 4, 5).double(), 2 * torch.sin(1 + c + 0.5 * i + 0.25 * j)])[None]


def tags(*present: int) -> Tensor:
    return torch.tensor([present], dtype=torch.bool)


def counts(labels: Tensor, channels: int) -> list[int]:
    return [int((labels == c).sum()) for c in range(channels)]


X = 255
ONE_TAG = [[X, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
TWO_TAGS = [[2, X, X, 1, 1], [X, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("tag", "rows", "loss"),
    [((1, 0, 0), ONE_TAG, 0.1581984458508468), ((1, 1, 0), TWO_TAGS, 0.20653159310598448)],
)
def test_published_labels_and_loss(tag: tuple[int, ...], rows: list[list[int]], loss: float) -> None:
    logits = published_logits()
    labels = pseudo_labels(logits.softmax(1), tags(*tag))
    assert labels[0].tolist() == rows
    found, passed = balanced_cross_entropy(logits, labels, tags(*tag), gate="strict")
    assert found.item() == pytest.approx(loss, abs=1e-12)
    assert passed.tolist() == [True]


def test_published_gate_closes_where_a_tagged_class_owns_no_pixel() -> None:
    logits = published_logits()
    labels = pseudo_labels(logits.softmax(1), tags(1, 0, 1))
    assert counts(labels, 4)[3] == 0
    strict, passed = balanced_cross_entropy(logits, labels, tags(1, 0, 1), gate="strict")
    assert strict.item() == 0
    assert passed.tolist() == [False]
    free, passed = balanced_cross_entropy(logits, labels, tags(1, 0, 1), gate="none")
    assert free.item() == pytest.approx(0.1581984458508468, abs=1e-12)  # the labels of tag (1, 0, 0)
    assert passed.tolist() == [True]


def test_published_labels_and_loss_after_resizing() -> None:
    logits = published_logits()

    def grow(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(8, 10), mode="bilinear", align_corners=True)

    labels = pseudo_labels(grow(logits.softmax(1)), tags(1, 1, 0))
    assert counts(labels, 4) == [12, 55, 1, 0]
    assert int((labels == 255).sum()) == 12
    loss, _ = balanced_cross_entropy(grow(logits), labels, tags(1, 1, 0), gate="strict")
    assert loss.item() == pytest.approx(0.1446461603814938, abs=1e-12)
    plain = AERIAL.replaced(pamr_iterations=0)
    image = torch.rand(1, 3, 8, 10).double()
    whole = self_training_loss(logits, image, tags(1, 1, 0), plain)  # the same, composed
    assert whole.loss.item() == pytest.approx(0.1446461603814938, abs=1e-12)
    assert torch.equal(whole.labels, labels)


def test_without_background_every_threshold_is_the_classes_own() -> None:
    """Channel 0 peaks at 1: 0.65 passes 0.6 of it, as a class, but would not pass 0.7, as the background."""
    masks = torch.tensor([[1.0, 0.65, 0.55, 0.0], [0.0, 0.0, 0.19, 0.2], [0.0, 0.35, 0.26, 0.8]])[None, :, None]
    assert pseudo_labels(masks, tags(1, 1, 1))[0, 0].tolist() == [0, 0, 255, 2]
    assert pseudo_labels(masks, tags(1, 1))[0, 0].tolist() == [0, 255, 255, 2]


def test_untagged_classes_are_cleared_and_two_candidates_cancel() -> None:
    masks = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.1, 0.3], [0.0, 0.4, 0.6]])[None, :, None]
    assert pseudo_labels(masks, tags(1, 1, 1))[0, 0].tolist() == [255, 255, 2]
    assert pseudo_labels(masks, tags(1, 0, 0))[0, 0].tolist() == [0, 0, 255]
    assert pseudo_labels(masks, tags(0, 0, 0))[0, 0].tolist() == [255, 255, 255]


def test_the_floor_is_strict_and_a_constant_map_above_it_is_all_candidate() -> None:
    at_floor = torch.full((1, 2, 2, 2), 0.2, dtype=torch.float64)
    assert (pseudo_labels(at_floor, tags(1, 0)) == 255).all()
    assert (pseudo_labels(at_floor + 0.01, tags(1, 0)) == 0).all()


def test_balance_weights_by_hand() -> None:
    """Three pixels of class 0, one of class 1, one ignored: weights 1/5 and 3/5, mean over five pixels."""
    logits = torch.zeros(1, 2, 1, 5, dtype=torch.float64)
    labels = torch.tensor([[[0, 0, 0, 1, 255]]])
    loss, _ = balanced_cross_entropy(logits, labels, tags(1, 1), gate="strict")
    assert loss.item() == pytest.approx((3 * 1 / 5 + 1 * 3 / 5) * math.log(2) / 5)


def test_one_class_alone_has_no_loss_and_gated_images_count_in_the_mean() -> None:
    logits = torch.zeros(2, 2, 1, 2, dtype=torch.float64)
    labels = torch.tensor([[[0, 1]], [[0, 0]]])
    both = torch.ones(2, 2, dtype=torch.bool)
    loss, passed = balanced_cross_entropy(logits, labels, both, gate="strict")
    assert passed.tolist() == [True, False]
    assert loss.item() == pytest.approx(0.5 * (2 * math.log(2) / 3) / 2)
    alone, _ = balanced_cross_entropy(logits[1:], labels[1:], tags(1, 0), gate="none")
    assert alone.item() == 0


def test_nothing_labelled_gives_zero_with_a_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss, _ = balanced_cross_entropy(logits, torch.full((1, 4, 4), 255), tags(1, 1, 1), gate="none")
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def scene() -> tuple[Tensor, Tensor]:
    """A bright square on dark ground; logits at stride 4 know its centre and the far ground, else lean to class 0."""
    image = torch.full((1, 3, 64, 64), 0.1)
    image[:, :, 16:48, 16:48] = 0.9
    logits = torch.zeros(1, 2, 16, 16)
    logits[:, 0] = 0.1
    logits[:, 1, 6:10, 6:10] = 4
    logits[:, 0, :3] = logits[:, 0, -3:] = 4
    return image, logits


def test_refined_masks_follow_the_image() -> None:
    image, logits = scene()
    refined = refined_masks(logits.requires_grad_(), image, AERIAL)
    square = image[0, 0] > 0.5
    coarse = F.interpolate(logits.detach().softmax(1), size=(64, 64), mode="bilinear", align_corners=True)
    assert refined.shape == (1, 2, 64, 64)
    assert not refined.requires_grad
    inner = torch.zeros_like(square)
    inner[18:46, 18:46] = True
    assert (refined[0, 1] > 0.5)[inner].all()
    assert (coarse[0, 1] > 0.5)[inner].float().mean() < 0.6
    outer = torch.ones_like(square)
    outer[12:52, 12:52] = False
    assert (refined[0, 0] > 0.5)[outer].all()


def test_half_precision_logits_give_single_precision_labels() -> None:
    image, logits = scene()
    trained = self_training_loss(logits.bfloat16().requires_grad_(), image.bfloat16(), tags(1, 1), AERIAL)
    assert trained.loss.dtype == torch.float32
    assert torch.isfinite(trained.loss)
    assert trained.loss > 0


def test_no_data_is_ignored_and_unknown_classes_may_but_need_not_occur() -> None:
    image, logits = scene()
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :20] = False
    trained = self_training_loss(logits, image, tags(1, 1), AERIAL, valid=valid)
    assert (trained.labels[~valid] == 255).all()
    assert (trained.labels[valid] != 255).any()
    absent = self_training_loss(logits, image, tags(1, 0), AERIAL)
    unknown = self_training_loss(logits, image, tags(1, 0), AERIAL, known=tags(1, 0))
    assert not (absent.labels == 1).any()
    assert (unknown.labels == 1).any()
    nowhere = torch.zeros(1, 2, 16, 16)
    nowhere[:, 0] = 5
    passed = [self_training_loss(nowhere, image, t, AERIAL, known=k).passed for t, k in
              ((tags(1, 1), None), (tags(1, 0), tags(1, 0)))]  # fmt: skip
    assert [p.tolist() for p in passed] == [[False], [True]]


def test_self_training_enters_the_gradient_only_when_switched_on() -> None:
    image, logits = scene()
    gradients = {}
    for self_train in (False, True):
        leaf = logits.clone().requires_grad_()
        output = SingleStageOutput(leaf, leaf.mean((2, 3)))
        loss = single_stage_loss(output, image, tags(1, 0), AERIAL, self_train=self_train, known=tags(1, 0))
        loss.total.backward()
        gradients[self_train] = leaf.grad
        if loss.self_training is not None:
            assert loss.total.item() == pytest.approx(loss.tags.item() + loss.self_training.loss.item())
        assert (loss.self_training is not None) == self_train
    leaf = logits.clone().requires_grad_()
    multi_label_bce(leaf.mean((2, 3)), tags(1, 0), tags(1, 0)).backward()
    assert torch.equal(gradients[False], leaf.grad)
    assert not torch.allclose(gradients[True], leaf.grad)


def test_presences_can_weigh_less_than_absences_in_the_tag_part_alone() -> None:
    """Two classes, scores 0: each term is log 2, the presence counts a quarter of it."""
    output = SingleStageOutput(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2))
    image, weight = torch.rand(1, 3, 16, 16), torch.tensor([0.25, 9.0])
    plain, weighted = (
        single_stage_loss(output, image, tags(1, 0), AERIAL, self_train=True, pos_weight=w) for w in (None, weight)
    )
    assert plain.tags.item() == pytest.approx(math.log(2))
    assert weighted.tags.item() == pytest.approx(math.log(2) * 1.25 / 2)
    assert weighted.self_training is not None
    assert plain.self_training is not None
    assert weighted.self_training.loss == plain.self_training.loss


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_do_not_fit_the_tags_are_refused(channels: int) -> None:
    with pytest.raises(DataError, match="use the tags of these crops"):
        pseudo_labels(torch.rand(1, channels, 4, 4), tags(1, 1, 1))
    with pytest.raises(DataError, match="one more for the background"):
        balanced_cross_entropy(torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4).long(), tags(1, 1, 1), gate="none")
