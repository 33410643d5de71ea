"""Values by hand, torch as oracle, finite differences, properties, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.bit_sets import batch_of
from torch import Tensor

from weakseg.core.errors import DataError
from weakseg.core.tag_errors import TagErrors
from weakseg.networks import losses
from weakseg.networks.class_sets import AllowedBatch


def random_case(seed: int, classes: int = 4, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 6, generator=draw)
    masks = torch.randint(0, classes, (2, 5, 6), generator=draw)
    masks[torch.rand(2, 5, 6, generator=draw) < ignored] = 255
    return logits, masks.to(torch.uint8)


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """Logits (1, C, 1, P) whose softmax is the given rows, one row of C probabilities per pixel."""
    return torch.tensor(probabilities).log().T.reshape(1, -1, 1, len(probabilities))


def gradient_agrees(loss: Callable[[Tensor], Tensor], logits: Tensor) -> None:
    """Autograd against central differences; the losses reduce in float32, hence the tolerance."""
    point = logits.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(loss(point), point)
    step = 1e-2
    for index in range(0, logits.numel(), 7):
        shift = torch.zeros(logits.numel())
        shift[index] = step
        shift = shift.reshape(logits.shape)
        slope = (loss(logits + shift) - loss(logits - shift)) / (2 * step)
        assert float(grad.reshape(-1)[index]) == pytest.approx(float(slope), abs=2e-4)


def test_cross_entropy_by_hand() -> None:
    logits = logits_of([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    masks = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    first, second = -math.log(0.5), -math.log(0.8)
    assert float(losses.cross_entropy(logits, masks)) == pytest.approx((first + second) / 2)
    weighted = losses.cross_entropy(logits, masks, torch.tensor([1.0, 3.0]))
    assert float(weighted) == pytest.approx((first + 3 * second) / 4)
    pixels = torch.tensor([[[1.0, 0.5, 9.0]]])
    assert float(losses.cross_entropy(logits, masks, pixel_weights=pixels)) == pytest.approx((first + second / 2) / 2)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 5.0])])
def test_cross_entropy_is_torchs(weights: Tensor | None) -> None:
    logits, masks = random_case(0)
    expected = F.cross_entropy(logits, masks.long(), weight=weights, ignore_index=255)
    assert float(losses.cross_entropy(logits, masks, weights)) == pytest.approx(float(expected), rel=1e-5)
    half = losses.cross_entropy(logits, masks, weights, pixel_weights=torch.full(masks.shape, 0.5))
    assert float(half) == pytest.approx(float(expected) / 2, rel=1e-5)


def test_nothing_labelled_is_zero_with_a_graph() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = losses.cross_entropy(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8))
    value.backward()
    assert float(value.detach()) == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_mask_losses_ignore_255_and_agree_with_differences() -> None:
    logits, masks = random_case(1)
    changed = torch.where((masks == 255).unsqueeze(1), torch.full_like(logits, 7.0), logits)
    changed[:, 0] += 3 * (masks == 255)
    assert float(losses.cross_entropy(changed, masks)) == pytest.approx(
        float(losses.cross_entropy(logits, masks)), rel=1e-6
    )
    gradient_agrees(lambda values: losses.cross_entropy(values, masks), logits)


def test_mask_losses_in_bf16_stay_float32_and_refuse_other_shapes() -> None:
    logits, masks = random_case(2)
    low = losses.cross_entropy(logits.bfloat16(), masks)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(losses.cross_entropy(logits, masks)), abs=0.02)
    with pytest.raises(DataError, match="crop and resize both alike"):
        losses.cross_entropy(logits, masks[:, :-1])


def test_multi_label_bce_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    tags = torch.tensor([[True, False], [True, True]])
    known = torch.tensor([[True, True], [True, False]])
    terms = [math.log(2), math.log1p(math.exp(2)), math.log1p(math.exp(1))]
    assert float(losses.multi_label_bce(logits, tags, known)) == pytest.approx(sum(terms) / 3, rel=1e-6)
    weighted = losses.multi_label_bce(logits, tags, known, pos_weight=torch.tensor([3.0, 1.0]))
    assert float(weighted) == pytest.approx((3 * terms[0] + terms[1] + 3 * terms[2]) / 3, rel=1e-6)
    everything = F.binary_cross_entropy_with_logits(logits, tags.float())
    assert float(losses.multi_label_bce(logits, tags)) == pytest.approx(float(everything))
    assert float(losses.multi_label_bce(logits, tags, torch.zeros_like(tags))) == 0
    with pytest.raises(DataError, match=r"\(B, C\) each"):
        losses.multi_label_bce(logits, tags[:1])


def test_tag_loss_by_hand() -> None:
    logits = logits_of([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    allowed = torch.tensor([[[0b011, 0b111, 0b001, 0b000]]], dtype=torch.int32)
    expected = (-math.log(0.8) - math.log(0.1)) / 4
    assert float(losses.tag_loss(logits, batch_of(allowed, logits.shape[1]))) == pytest.approx(expected, rel=1e-5)


def test_tag_loss_of_single_tags_is_cross_entropy() -> None:
    logits, masks = random_case(3, ignored=0.0)
    single = torch.ones_like(masks, dtype=torch.int32) << masks.int()
    expected = losses.cross_entropy(logits, masks)
    assert float(losses.tag_loss(logits, batch_of(single, logits.shape[1]))) == pytest.approx(float(expected), rel=1e-5)


def doubting(allowed: AllowedBatch) -> AllowedBatch:
    """Three tenths of the tags are missing, a tenth of the others wrong; named in .4, .7 and .1 of the crops."""
    return replace(allowed, errors=TagErrors(0.3, 0.1, np.array([0.4, 0.7, 0.1]), np.ones(3)))


def test_tag_loss_of_tags_that_may_be_missing_by_hand() -> None:
    """Classes that are not named count .3 / (1 - q): .5, 1 and a third."""
    logits = logits_of([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    allowed = doubting(batch_of(torch.tensor([[[0b011, 0b111, 0b001, 0b000]]], dtype=torch.int32), 3))
    expected = (-math.log(0.5 + 0.3 + 0.2 / 3) - math.log(0.1 + 0.6 + 0.3 / 3)) / 4
    assert float(losses.tag_loss(logits, allowed)) == pytest.approx(expected, rel=1e-5)
    sure = torch.tensor([-1000.0, -1000.0, 1000.0]).reshape(1, 3, 1, 1).requires_grad_(True)
    worst = losses.tag_loss(sure, doubting(batch_of(torch.tensor([[[0b011]]]), 3)))
    worst.backward()
    assert float(worst.detach()) == pytest.approx(math.log(3), rel=1e-4)  # bounded where hard tags have 2000
    assert sure.grad is not None
    assert sure.grad.abs().max() == 0  # a network that is sure is left alone


def test_tag_loss_gradient() -> None:
    logits, _ = random_case(4)
    allowed = torch.randint(0, 16, (2, 5, 6), generator=torch.Generator().manual_seed(4), dtype=torch.int32)
    gradient_agrees(lambda values: losses.tag_loss(values, batch_of(allowed, 4)), logits)
    point = logits.clone().requires_grad_(True)
    losses.tag_loss(point, batch_of(allowed, 4)).backward()
    assert point.grad is not None
    silent = (allowed == 0) | (allowed == 15)
    assert silent.any()
    assert (point.grad.movedim(1, -1)[silent] == 0).all()
    wrong = (allowed & 1) == 0  # class 0 forbidden: its logit is pushed down
    assert (point.grad[:, 0][wrong & ~silent] > 0).all()


def test_tag_loss_is_stable_at_extreme_logits() -> None:
    logits = torch.tensor([1000.0, -1000.0]).reshape(1, 2, 1, 1).requires_grad_(True)
    value = losses.tag_loss(logits, batch_of(torch.tensor([[[0b10]]]), logits.shape[1]))
    value.backward()
    assert float(value.detach()) == pytest.approx(2000)
    assert logits.grad is not None
    assert logits.grad.reshape(-1).tolist() == pytest.approx([1.0, -1.0])
    with pytest.raises(DataError, match="allowed"):
        losses.tag_loss(logits, batch_of(torch.zeros(1, 2, 2, dtype=torch.int32), 2))


def test_tag_loss_of_thirty_one_classes() -> None:
    logits = torch.zeros(1, 31, 1, 1)
    top = torch.tensor([[[1 << 30]]], dtype=torch.int32)
    assert float(losses.tag_loss(logits, batch_of(top, 31))) == pytest.approx(math.log(31), rel=1e-6)


def test_presence_loss_by_hand() -> None:
    """Window 0: pixels 0, 1; window 1: pixel 2; pixel 3 in none; window 2 is not in the batch."""
    logits = logits_of([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.01, 0.99]])
    ids = torch.tensor([[[0, 0, 1, -1]]])
    tags = torch.tensor([[True, True], [False, True], [True, True]])
    expected = (-math.log(0.7) - math.log(0.6) - math.log(0.1)) / 3
    assert float(losses.presence_loss(logits, ids, tags)) == pytest.approx(expected, rel=1e-5)


def test_presence_loss_of_tags_that_may_be_wrong_by_hand() -> None:
    """-log(pi + (1 - pi) / 5): a class that is nowhere costs log 5 at most and pulls no more."""
    logits = logits_of([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])
    ids = torch.tensor([[[0, 0, 1]]])
    tags = torch.tensor([[True, True], [False, True]])
    expected = -(math.log(0.7 + 0.3 / 5) + math.log(0.6 + 0.4 / 5) + math.log(0.1 + 0.9 / 5)) / 3
    assert float(losses.presence_loss(logits, ids, tags, chance=0.2)) == pytest.approx(expected, rel=1e-5)
    gradient_agrees(lambda values: losses.presence_loss(values, ids, tags, chance=0.2), logits)
    gone = torch.tensor([100.0, -100.0]).reshape(1, 2, 1, 1).requires_grad_(True)
    value = losses.presence_loss(gone, torch.zeros(1, 1, 1, dtype=torch.int64), tags[1:], chance=0.2)
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(5), rel=1e-5)
    assert gone.grad is not None
    assert gone.grad.abs().max() < 1e-6


def test_presence_loss_pulls_only_the_best_pixel() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]).reshape(1, 2, 1, 3).requires_grad_(True)
    losses.presence_loss(logits, torch.zeros(1, 1, 3, dtype=torch.int64), torch.tensor([[False, True]])).backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, 0, 1] != 0).all()
    assert logits.grad[0, 1, 0, 1] < 0
    assert (logits.grad[0, :, 0, [0, 2]] == 0).all()


def test_presence_loss_equals_a_loop_and_its_gradient() -> None:
    logits, _ = random_case(5)
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(-1, 6, (2, 5, 6), generator=draw)
    tags = torch.rand(6, 4, generator=draw) < 0.5
    terms = [
        -logits.softmax(1).movedim(1, -1)[ids == window][:, index].max().log()
        for window, index in tags.nonzero().tolist()
    ]
    value = losses.presence_loss(logits, ids, tags)
    assert float(value) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)
    gradient_agrees(lambda values: losses.presence_loss(values, ids, tags), logits)


def test_presence_loss_without_windows_or_tags_is_zero() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    outside = torch.full((1, 4, 4), -1)
    cases = [(outside, torch.ones(2, 3)), (outside, torch.ones(0, 3)), (torch.zeros_like(outside), torch.zeros(2, 3))]
    for ids, tags in cases:
        logits.grad = None
        value = losses.presence_loss(logits, ids, tags.bool())
        value.backward()
        assert float(value.detach()) == 0
        assert logits.grad is not None
        assert (logits.grad == 0).all()
    with pytest.raises(DataError, match="over the whole batch"):
        losses.presence_loss(logits, torch.full((1, 4, 4), 2), torch.ones(2, 3, dtype=torch.bool))


def test_consistency_counts_unconfident_pixels_in_the_mean() -> None:
    logits = logits_of([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])
    hard = torch.tensor([[[0, 1, 255, 1]]])
    weights = torch.tensor([[[1.0, 0.5, 1.0, 0.0]]])
    expected = (-math.log(0.5) - 0.5 * math.log(0.8)) / 3
    assert float(losses.consistency_loss(logits, hard, weights)) == pytest.approx(expected, rel=1e-5)
    soft = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]).T.reshape(1, 2, 1, 4)
    sums = -math.log(0.5) - 0.5 * (0.5 * math.log(0.2) + 0.5 * math.log(0.8)) - math.log(0.1)
    assert float(losses.consistency_loss(logits, soft, weights)) == pytest.approx(sums / 4, rel=1e-5)


def test_consistency_gives_the_teacher_no_gradient() -> None:
    student, _ = random_case(6)
    teacher = student.clone().requires_grad_(True)
    student = student.requires_grad_(True)
    targets = teacher.softmax(1)
    losses.consistency_loss(student, targets, targets.amax(1)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    with pytest.raises(DataError, match="the teacher's probabilities"):
        losses.consistency_loss(student, targets[:, :2], targets.amax(1))
