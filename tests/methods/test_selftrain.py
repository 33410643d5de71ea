"""Targets from a teacher held to the tags, by hand values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.bit_sets import batch_of

from weakseg.core.tag_errors import TagErrors
from weakseg.methods.selftrain import (
    Targets,
    align,
    constrain,
    cut_mix,
    expected_shares,
    make_targets,
    share_loss,
)
from weakseg.networks.class_sets import AllowedBatch
from weakseg.networks.losses import consistency_loss, tag_loss


def pixels(*columns: tuple[float, ...]) -> torch.Tensor:
    """Probabilities (1, C, 1, W) from one tuple per pixel."""
    return torch.tensor(columns).T[None, :, None, :]


def bits(*values: int, classes: int = 3) -> AllowedBatch:
    return batch_of(torch.tensor(values).view(1, 1, -1), classes)


def numbers(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_numbers_to_channels() -> None:
    found = bits(0, 1, 6, 7).channels()
    assert found[0, :, 0].T.tolist() == [
        [False, False, False],
        [True, False, False],
        [False, True, True],
        [True, True, True],
    ]
    assert bits(0, 1, 6, 7).some.tolist() == [[[False, True, True, True]]]
    assert bits(1 << 30, classes=31).channels()[0, 30, 0, 0]


def test_constrain_by_hand() -> None:
    found = constrain(pixels((0.5, 0.3, 0.2), (0.5, 0.3, 0.2), (1.0, 0.0, 0.0)), bits(7, 6, 6))[0, :, 0].T
    assert found[0].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)
    assert found[1].tolist() == pytest.approx([0.0, 0.6, 0.4], abs=1e-5)
    assert found[1, 0] == 0.0  # not merely small
    assert found[2].tolist() == pytest.approx([0.0, 0.5, 0.5])  # the network gave both nothing: still a question
    assert torch.allclose(found.sum(1), torch.ones(3))


def test_tags_that_may_be_missing_weigh_classes() -> None:
    """Named, .7 / q: 1.75, 1 and 7; not named, .3 / (1 - q): .5, 1 and a third; a contradiction is no constraint."""
    errors = TagErrors(0.3, 0.1, np.array([0.4, 0.7, 0.1]), np.ones(3))
    allowed = replace(bits(0b011, 0b001, 0b110, 0b000, 0b111), errors=errors)
    found = constrain(pixels(*[(0.5, 0.3, 0.2)] * 5), allowed)[0, :, 0].T
    for number, parts in enumerate([(0.875, 0.3, 0.2 / 3), (0.875, 0.3, 0.2 / 3), (0.25, 0.3, 1.4)]):
        assert found[number].tolist() == pytest.approx([part / sum(parts) for part in parts], abs=1e-4)
    assert found[3].tolist() == found[4].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)
    given = pixels(*[(0.5, 0.3, 0.2)] * 5)
    targets = make_targets(given, allowed, numbers(0, 0, 0, 0, 0), confidence=0.7, adaptive=False)
    assert targets.label.tolist() == [[[0, 0, 2, 255, 0]]]
    assert targets.weight.tolist() == [[[1.0, 1.0, 1.0, 0.0, 0.0]]]  # .705, .705, .718; without errors .625, 1, .6


def test_shares_of_tags_that_may_be_wrong_by_hand() -> None:
    """Class 0: named .4 of the crops, in .5 of them; in .875 of those that name it, in .25 of the others."""
    errors = TagErrors(0.3, 0.1, np.array([0.4, 0.4, 0.1]), np.ones(3))
    typical = torch.tensor([0.6, 0.3, 0.5])
    named = expected_shares(replace(bits(0b001), errors=errors), typical)[0]
    assert named.tolist() == pytest.approx([0.525 / 0.6, 0.075 / 0.6, 0.0], abs=1e-6)  # class 2: in none
    unknown = expected_shares(replace(bits(0b111), errors=errors), typical)[0]
    assert unknown.tolist() == pytest.approx([0.6 / 1.4, 0.3 / 1.4, 0.5 / 1.4], abs=1e-6)


def test_constrain_leaves_contradictions_alone() -> None:
    given = (0.5, 0.3, 0.2)
    assert constrain(pixels(given), bits(0))[0, :, 0, 0].tolist() == pytest.approx(given, abs=1e-5)


def test_one_allowed_class_is_certain() -> None:
    assert constrain(pixels((0.98, 0.01, 0.01)), bits(4))[0, :, 0, 0].tolist() == [0.0, 0.0, 1.0]


def test_targets_by_hand() -> None:
    """Confident, unconfident, certain by its only tag, tipped over by the tags, and contradictory tags."""
    given = pixels((0.9, 0.1, 0.0), (0.6, 0.4, 0.0), (0.9, 0.1, 0.0), (0.5, 0.4, 0.1), (1.0, 0.0, 0.0))
    targets = make_targets(given, bits(7, 7, 2, 6, 0), numbers(0, 0, 1, 1, -1), confidence=0.75, adaptive=False)
    assert targets.label.tolist() == [[[0, 0, 1, 1, 255]]]
    assert targets.weight.tolist() == [[[1.0, 0.0, 1.0, 1.0, 0.0]]]
    assert torch.equal(targets.allowed.channels(), bits(7, 7, 2, 6, 0).channels())
    assert targets.windows.tolist() == [[[0, 0, 1, 1, -1]]]


def test_adaptive_thresholds_by_hand() -> None:
    """Class 0 wins with 1.0 on average, class 1 with 0.7: its threshold is 0.81 * 0.7 = 0.57; class 2 wins nowhere."""
    given = pixels((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.2, 0.8, 0.0), (0.4, 0.6, 0.0))
    fixed = make_targets(given, bits(7, 7, 7, 7), numbers(0, 0, 0, 0), confidence=0.81, adaptive=False)
    assert fixed.weight.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]
    adaptive = make_targets(given, bits(7, 7, 7, 7), numbers(0, 0, 0, 0), confidence=0.81, adaptive=True)
    assert adaptive.weight.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]
    stricter = make_targets(given, bits(7, 7, 7, 7), numbers(0, 0, 0, 0), confidence=0.9, adaptive=True)
    assert stricter.weight.flatten().tolist() == [1.0, 1.0, 1.0, 0.0]  # 0.63


def test_adaptive_threshold_never_falls_below_half() -> None:
    """Class 1's mean of 0.3 would give a threshold of 0.27; half of 0.9 is 0.45."""
    wide = torch.full((1, 5, 1, 1), 0.175)
    wide[0, 1] = 0.3
    sure = torch.zeros(1, 5, 1, 1)
    sure[0, 0] = 1.0
    targets = make_targets(
        torch.cat([wide, sure], 3), bits(31, 31, classes=5), numbers(0, 0), confidence=0.9, adaptive=True
    )
    assert targets.weight.flatten().tolist() == [0.0, 1.0]


def numbered(count: int = 3, side: int = 12) -> tuple[torch.Tensor, Targets]:
    """Sample i is i everywhere; windows are its four quarters."""
    number = torch.arange(count).view(-1, 1, 1).expand(-1, side, side)
    half = torch.arange(side) // (side // 2)
    windows = 4 * number + 2 * half[:, None] + half[None, :]
    images = number[:, None].repeat(1, 3, 1, 1).float()
    return images, Targets(number.clone(), number.float(), batch_of(1 << number, count), windows.clone())


def test_cut_mix_pastes_one_rectangle_of_the_neighbour() -> None:
    images, targets = numbered()
    mixed, taught = cut_mix(images, targets, 1.0, torch.Generator().manual_seed(1))
    for sample in range(3):
        foreign = mixed[sample, 0] != sample
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        assert foreign.sum() == len(rows) * len(columns) > 0  # one filled rectangle
        assert (rows.diff() == 1).all()
        assert (columns.diff() == 1).all()
        assert (mixed[sample, 0][foreign] == (sample - 1) % 3).all()
    assert torch.equal(taught.label, mixed[:, 0].long())
    assert torch.equal(taught.weight, mixed[:, 0])
    assert torch.equal(taught.allowed.channels(), batch_of(1 << mixed[:, 0].long(), 3).channels())


def test_cut_mix_drops_every_touched_window_and_no_other() -> None:
    images, targets = numbered()
    for seed in range(20):
        mixed, taught = cut_mix(images, targets, 1.0, torch.Generator().manual_seed(seed))
        for sample in range(3):
            for window in range(4 * sample, 4 * sample + 4):
                place = targets.windows[sample] == window
                touched = bool((mixed[sample, 0][place] != sample).any())
                kept = taught.windows[sample][place]
                assert (kept == (-1 if touched else window)).all()


def test_cut_mix_leaves_what_it_was_given() -> None:
    images, targets = numbered()
    before = images.clone(), targets.windows.clone()
    cut_mix(images, targets, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(images, before[0])
    assert torch.equal(targets.windows, before[1])


def test_cut_mix_off() -> None:
    images, targets = numbered()
    assert cut_mix(images, targets, 0.0, torch.Generator())[1] is targets
    one = numbered(count=1)
    assert cut_mix(*one, 1.0, torch.Generator())[0] is one[0]  # nothing to mix with


def test_cut_mix_share_and_seed() -> None:
    images, targets = numbered(count=300, side=4)
    mixed, _ = cut_mix(images, targets, 0.3, torch.Generator().manual_seed(0))
    share = (mixed != images).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.08)
    assert torch.equal(mixed, cut_mix(images, targets, 0.3, torch.Generator().manual_seed(0))[0])


def test_expected_shares_by_hand() -> None:
    """Typical shares .6, .3, .1; pixels that allow {0, 1}, {2} and everything; a contradiction allows all."""
    typical = torch.tensor([0.6, 0.3, 0.1])
    found = expected_shares(batch_of(torch.tensor([[[3, 4]], [[7, 0]]]), 3), typical)
    assert found[0].tolist() == pytest.approx([(0.6 / 0.9) / 2, (0.3 / 0.9) / 2, 0.5])
    assert found[1].tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_pixels_without_an_allowed_class_change_no_mean_and_no_target() -> None:
    """Targets, shares and the loss of the others are as if these pixels, or a whole crop of them, were not there."""
    given = [(0.8, 0.15, 0.05), (0.3, 0.6, 0.1)]
    strange = [(0.0, 0.0, 1.0), (0.1, 0.0, 0.9)]
    typical, options = torch.tensor([0.6, 0.3, 0.1]), {"confidence": 0.7, "adaptive": True}
    some, mixed = bits(7, 3), batch_of(torch.tensor([[[7, 3, 0, 0]], [[0, 0, 0, 0]]]), 3)
    values = torch.cat([pixels(*given, *strange), pixels(*strange, *strange)])
    windows = torch.zeros(2, 1, 4, dtype=torch.int64)
    alone = make_targets(pixels(*given), some, windows[:1, :, :2], shares=expected_shares(some, typical), **options)
    found = make_targets(values, mixed, windows, shares=expected_shares(mixed, typical), **options)
    assert torch.equal(found.label[0, 0, :2], alone.label[0, 0])
    assert torch.equal(found.weight[0, 0, :2], alone.weight[0, 0])
    assert (found.label[~mixed.some] == 255).all()
    assert not found.weight[~mixed.some].any()
    assert expected_shares(mixed, typical)[0].tolist() == pytest.approx(expected_shares(some, typical)[0].tolist())
    assert expected_shares(mixed, typical)[1].tolist() == [0.0, 0.0, 0.0]
    logits = values.clamp(min=1e-3).log().requires_grad_()
    loss = share_loss(logits, mixed, expected_shares(mixed, typical))
    wanted = share_loss(pixels(*given).clamp(min=1e-3).log(), some, expected_shares(some, typical))
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.movedim(1, -1)[~mixed.some].any()


def test_a_batch_without_any_allowed_class_teaches_nothing() -> None:
    logits, allowed = torch.zeros(1, 3, 1, 2, requires_grad=True), bits(0, 0)
    typical = torch.tensor([0.6, 0.3, 0.1])
    targets = make_targets(
        logits.softmax(1).detach(), allowed, numbers(-1, -1), confidence=0.5, adaptive=True,
        shares=expected_shares(allowed, typical),
    )  # fmt: skip
    loss = share_loss(logits, allowed, expected_shares(allowed, typical))
    loss = loss + consistency_loss(logits, targets.label, targets.weight) + tag_loss(logits, allowed)
    assert loss.item() == 0.0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_align_raises_what_falls_short_and_lowers_nothing_directly() -> None:
    given = pixels((0.8, 0.15, 0.05), (0.8, 0.15, 0.05))
    raised = align(given, torch.tensor([[0.5, 0.48, 0.02]]), bits(7, 7))[0, :, 0, 0]
    odds = 0.48 / 0.15
    total = 0.8 + 0.15 * odds + 0.05
    assert raised.tolist() == pytest.approx([0.8 / total, 0.15 * odds / total, 0.05 / total], rel=1e-5)
    assert align(given, torch.tensor([[0.5, 0.48, 0.02]]), bits(7, 7), limit=1.0)[0, :, 0, 0].tolist() == pytest.approx(
        [0.8, 0.15, 0.05]
    )


def test_share_loss_is_the_divergence_of_mean_shares_and_moves_them() -> None:
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    every = batch_of(torch.full((1, 4, 4), 3), 2)
    assert float(share_loss(logits, every, torch.tensor([[0.5, 0.5]]))) == pytest.approx(0.0, abs=1e-6)
    loss = share_loss(logits, every, torch.tensor([[0.75, 0.25]]))
    assert float(loss) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), abs=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] < 0).all()  # downhill: more of class 0
