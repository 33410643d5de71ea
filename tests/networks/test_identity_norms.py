from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from weakseg.data.crops.augment import Preprocessing
from weakseg.networks.identity_norms import CROPS, is_waiting, set_identity, settle_norms

UNIT = Preprocessing((0.0, 0.0, 0.0), (1 / 255,) * 3)  # leaves 0..255 as it is


def network() -> nn.Sequential:
    """A trunk whose norm sees the bands themselves, and a norm outside the trunk."""
    trunk = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    set_identity(trunk, [trunk[0]], UNIT)
    return nn.Sequential(trunk, nn.BatchNorm2d(3))


def test_the_statistics_of_two_batches_by_hand() -> None:
    net = network()
    first, second = torch.full((1, 3, 32, 32), 2.0), torch.full((3, 3, 32, 32), 6.0)
    settle_norms(net.train(), [first, second])
    norm = net[0][0]
    assert norm.running_mean.tolist() == pytest.approx([5.0] * 3)  # (2 + 3 * 6) / 4
    assert norm.running_var.tolist() == pytest.approx([3.0] * 3)  # (9 + 3 * 1) / 4
    assert norm.weight.tolist() == pytest.approx([(3.0 + 1e-5) ** 0.5] * 3)
    assert norm.bias.tolist() == pytest.approx([5.0] * 3)
    assert net.training
    assert net[1].running_mean.tolist() == [0.0] * 3
    assert int(norm.num_batches_tracked) == 0


def test_it_is_the_identity_before_and_after_and_done_once() -> None:
    net, x = network().eval(), torch.randn(2, 3, 32, 32).abs()
    torch.testing.assert_close(net[0](x), x)
    assert is_waiting(copy.deepcopy(net))
    settle_norms(net, [torch.rand(2, 3, 40, 40) * 255])
    torch.testing.assert_close(net[0](x), x, rtol=1e-4, atol=1e-4)
    assert not is_waiting(net)
    settle_norms(net, iter(()))  # nothing waits: no batch is asked for


def test_no_more_crops_are_taken_than_needed_and_other_networks_take_none() -> None:
    taken: list[int] = []

    def batches():  # type: ignore[no-untyped-def]
        while True:
            taken.append(1)
            yield torch.zeros(CROPS // 4, 3, 8, 8)

    settle_norms(nn.Sequential(nn.BatchNorm2d(3)), batches())
    assert not taken
    settle_norms(network(), batches())
    assert len(taken) == 4
