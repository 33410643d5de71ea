from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.networks.encdec_unpool import (
    Crop,
    EncDecUnpool,
    VggEncoder,
    crop_back,
    max_unpool,
    pad_to_multiple,
)


def network(*, width: int = 16, dropout: float = 0.5, classes: int = 5, seed: int = 0) -> EncDecUnpool:
    torch.manual_seed(seed)
    return EncDecUnpool(classes, width=width, dropout=dropout)


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_padding_repeats_the_border_half_on_each_side() -> None:
    padded, crop = pad_to_multiple(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0].tolist() == [[1.0, 2.0, 3.0, 3.0]] * 4
    assert crop == Crop(top=1, left=0, height=1, width=3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (32, 64), (5, 100)])
def test_crop_undoes_padding(height: int, width: int) -> None:
    x = images(2, 3, height, width)
    padded, crop = pad_to_multiple(x, 32)
    assert padded.shape[2] % 32 == padded.shape[3] % 32 == 0
    assert padded.shape[2] - height < 32
    assert padded.shape[3] - width < 32
    assert torch.equal(crop_back(padded, crop), x)


def test_image_of_a_fitting_size_is_not_copied() -> None:
    x = images(1, 3, 32, 64)
    assert pad_to_multiple(x, 32)[0] is x


def test_unpool_puts_each_maximum_back_in_its_place() -> None:
    x = torch.tensor([[[[1.0, 5.0, 0.0, 0.0], [2.0, 3.0, 0.0, 7.0], [9.0, 1.0, 1.0, 1.0], [1.0, 1.0, 8.0, 1.0]]]])
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    expected = [[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0], [9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0]]
    assert max_unpool(pooled, indices)[0, 0].tolist() == expected


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unpool_equals_pytorchs(layout: torch.memory_format) -> None:
    x = images(2, 5, 12, 8).to(memory_format=layout).requires_grad_()
    grads = []
    for unpool in (lambda values, at: F.max_unpool2d(values, at, 2), max_unpool):
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        out = unpool(pooled * 3, indices)
        (grad,) = torch.autograd.grad((out * images(2, 5, 12, 8, seed=3)).sum(), x)
        grads.append((out, grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])


def test_network_trains_under_deterministic_algorithms() -> None:
    net, x = network(width=32), images(1, 3, 64, 64)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        net(x).square().mean().backward()
    finally:
        torch.use_deterministic_algorithms(before)
    assert net.encoder.stages[0][0].weight.grad is not None


def test_encoder_has_vgg16s_convolutions_and_the_decoder_mirrors_them() -> None:
    net = EncDecUnpool(5, dropout=0.0)
    encoder = [(m.in_channels, m.out_channels) for m in net.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [out for _, out in encoder] == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    blocks = [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in net.decoder]
    decoder = [(m.in_channels, m.out_channels) for block in reversed(blocks) for m in block]
    # Mirrored: the same pairs the other way round, but for the image side, where 64 channels go on to the classes.
    assert [(b, a) for a, b in reversed(decoder)][1:] == encoder[1:]
    assert decoder[-1] == (64, 64)
    assert [m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)] == [(3, 3)] * 27
    assert (net.head.in_channels, net.head.out_channels) == (64, 5)
    assert sum(isinstance(m, nn.Dropout2d) for block in net.decoder for m in block) == 5


@pytest.mark.parametrize("width", [1, 2, 8, 64])
def test_width_divides_every_channel_count(width: int) -> None:
    assert VggEncoder(width=width).channels == tuple(c // width for c in (64, 128, 256, 512, 512))


def test_pool_positions_are_those_of_the_encoders_own_maxima() -> None:
    net, x = network().eval(), images(1, 3, 64, 64)
    seen: list[torch.Tensor] = []
    for stage in net.encoder.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        encoded = net.encode(x)
    for before, positions in zip(seen, encoded.indices, strict=True):
        values = before.flatten(2).gather(2, positions.flatten(2)).view(positions.shape)
        assert torch.equal(values, F.max_pool2d(before, 2))


def test_each_decoder_block_gets_the_positions_of_its_own_level() -> None:
    net, x = network(dropout=0.0).eval(), images(1, 3, 64, 64)
    inputs: list[torch.Tensor] = []
    for block in net.decoder:
        block.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    with torch.no_grad():
        encoded = net.encode(x)
        net.decode(encoded)
    for unpooled, positions in zip(inputs, reversed(encoded.indices), strict=True):
        allowed = torch.zeros(unpooled.shape[0], unpooled.shape[1], unpooled[0, 0].numel(), dtype=torch.bool)
        allowed.scatter_(2, positions.flatten(2), True)
        assert torch.all(unpooled.flatten(2)[~allowed] == 0)
        assert int(allowed.sum()) == unpooled.numel() // 4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 45), (32, 32), (33, 31), (100, 64)])
def test_any_size_gives_logits_of_that_size(height: int, width: int) -> None:
    net = network().eval()
    with torch.no_grad():
        logits, tags = net.forward_with_tags(images(2, 3, height, width))
    assert logits.shape == (2, 5, height, width)
    assert tags.shape == (2, 5)
    assert torch.isfinite(logits).all()


def test_odd_size_equals_the_padded_image_cropped() -> None:
    net, x = network().eval(), images(1, 3, 40, 50)
    padded = F.pad(x, (7, 7, 12, 12), mode="replicate")
    with torch.no_grad():
        assert torch.equal(net(x), net(padded)[:, :, 12:52, 7:57])


def test_eval_is_deterministic_and_dropout_acts_in_training_only() -> None:
    net, x = network(dropout=0.5), images(2, 3, 64, 64)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.0  # so that training passes leave the running statistics alone
    net.train()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    still = network(dropout=0.0).train()
    assert torch.equal(still(x), still(x))


def test_both_heads_send_gradients_to_every_parameter_they_use() -> None:
    net = network(dropout=0.0)
    logits, tags = net.forward_with_tags(images(2, 3, 64, 64))
    (logits.square().mean() + tags.square().mean()).backward()
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert not [name for name, grad in grads.items() if grad is None]
    # A bias before batch norm has no effect, so its gradient is rounding noise; weights must all move.
    assert not [name for name, grad in grads.items() if grad is not None and name.endswith("weight") and not grad.any()]


def test_tags_come_from_the_mean_of_the_bottleneck() -> None:
    net, x = network().eval(), images(1, 3, 64, 96)
    with torch.no_grad():
        bottleneck, _ = net.encoder(x)
        expected = F.linear(bottleneck.mean((2, 3)), net.tag_head.weight, net.tag_head.bias)
        _, tags = net.forward_with_tags(x)
    assert bottleneck.shape == (1, 32, 2, 3)
    assert torch.allclose(tags, expected)


def test_a_narrow_network_learns_a_simple_image() -> None:
    net = network(width=8, dropout=0.0, classes=2)
    x = images(4, 3, 64, 64) * 0.3
    truth = torch.zeros(4, 64, 64, dtype=torch.long)
    for image, (row, column) in enumerate(itertools.product((0, 32), (0, 32))):
        truth[image, row : row + 32, column : column + 32] = 1
        x[image, :, row : row + 32, column : column + 32] += 1.0
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(net(x), truth).backward()
        optimiser.step()
    assert (net(x).argmax(1) == truth).float().mean() > 0.95


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"classes": 5, "width": 3, "dropout": 0.1}, "set one of them"),
        ({"classes": 5, "width": 0, "dropout": 0.1}, "set one of them"),
        ({"classes": 0, "width": 1, "dropout": 0.1}, "class scheme"),
        ({"classes": 5, "width": 8, "dropout": 1.0}, "0.2"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, float], cure: str) -> None:
    with pytest.raises(ParamsError, match=cure):
        EncDecUnpool(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 4, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 3, 0, 8),
    ],
)
def test_wrong_input_is_refused_by_name(x: torch.Tensor) -> None:
    with pytest.raises(DataError, match="normalise"):
        network(width=32)(x)
