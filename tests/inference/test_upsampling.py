"""Upsampling that goes into the convolution behind it: the same maps, and nothing where it would give others."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.generators.small_networks import save_network, unpool
from torch import Tensor, nn

from weakseg.export.model_files import open_network
from weakseg.inference.engine import network_bytes, open_openvino
from weakseg.inference.upsampling import doubled_kernel, fold_upsampling
from weakseg.networks.portable import quiet, write_onnx

openvino = pytest.importorskip("openvino")
SIDES = (1, 3, 48, 64)


def test_a_transposed_convolution_gives_what_the_convolution_gives_on_doubled_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, kernel = torch.randn(2, 3, 5, 7, generator=generator), torch.randn(4, 3, 3, 3, generator=generator)
    expected = F.conv2d(F.interpolate(maps, scale_factor=2.0, mode="nearest"), kernel, padding=1)
    found = F.conv_transpose2d(maps, torch.from_numpy(doubled_kernel(kernel.numpy())), stride=2, padding=1)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


class Doubled(nn.Module):
    """Maps, doubled or so, beside larger ones, through a convolution."""

    def __init__(self, grow: Callable[[Tensor], Tensor], kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.grow = grow
        self.first = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.last = nn.Conv2d(9, 4, kernel, padding=kernel // 2, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.cat([self.grow(self.first(images)), images], 1))


def known_sides(network: nn.Module) -> Any:
    """The network as OpenVINO reads it, for SIDES."""
    held = BytesIO()
    with quiet():
        torch.onnx.export(network.eval(), (torch.zeros(SIDES),), held, dynamo=False, input_names=["image"])
    return openvino.Core().read_model(held.getvalue())


def outputs(model: Any, images: Tensor) -> Tensor:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled({"image": images.numpy()})[0].copy())


def by_copies(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def test_it_is_folded_where_maps_are_doubled_by_copies() -> None:
    torch.manual_seed(0)
    model, images = known_sides(Doubled(by_copies)), torch.randn(SIDES)
    expected = outputs(model, images)
    assert fold_upsampling(model) == 1
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("ConvolutionBackpropData") == 1
    assert "Interpolate" not in kinds
    torch.testing.assert_close(outputs(model, images), expected, rtol=0, atol=1e-5)


class Mixed(nn.Module):
    """Few maps, or many, doubled by mixing."""

    def __init__(self, channels: int, **how: Any) -> None:
        super().__init__()
        self.first, self.how = nn.Conv2d(3, channels, 3, padding=1), {"scale_factor": 2.0, "mode": "bilinear", **how}

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.first(images), **self.how)


def test_few_maps_doubled_by_mixing_are_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    model, images = known_sides(Mixed(5)), torch.randn(SIDES)
    expected = outputs(model, images)
    assert fold_upsampling(model) == 1
    assert "Interpolate" not in [node.get_type_name() for node in model.get_ordered_ops()]
    torch.testing.assert_close(outputs(model, images), expected, rtol=0, atol=1e-5)  # the border px too


@pytest.mark.parametrize("times", [3.0, 16.0, (2.0, 5.0)])
def test_few_maps_that_grow_more_by_mixing_are_products(times: float | tuple[float, float]) -> None:
    torch.manual_seed(0)
    model, images = known_sides(Mixed(1, scale_factor=times)), torch.randn(SIDES)
    expected = outputs(model, images)
    assert fold_upsampling(model) == 1
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("MatMul") == 2
    assert "Interpolate" not in kinds
    torch.testing.assert_close(outputs(model, images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(lambda: Mixed(16), id="many maps mixed"),
        pytest.param(lambda: Mixed(5, align_corners=True), id="mixed from corner to corner"),
        pytest.param(lambda: Mixed(5, scale_factor=(1.0, 2.0)), id="mixed along one axis"),
        pytest.param(lambda: Mixed(5, scale_factor=0.5), id="made smaller"),
        pytest.param(lambda: Doubled(by_copies, kernel=1), id="kernel of one px"),
        pytest.param(lambda: Doubled(by_copies, stride=2), id="strided"),
        pytest.param(lambda: Doubled(lambda x: x.repeat(1, 1, 2, 2)), id="repeated, not doubled"),
        pytest.param(
            lambda: Doubled(lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=4.0, mode="nearest")),
            id="fourfold",
        ),
    ],
)
def test_it_is_left_alone_elsewhere(network: Callable[[], nn.Module]) -> None:
    assert fold_upsampling(known_sides(network())) == 0


def test_free_sides_are_left_alone(unet: bytes) -> None:
    assert fold_upsampling(openvino.Core().read_model(unet)) == 0


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small U-Net as engines get it."""
    settings = {"name": "unet", "encoder": "tf_efficientnet_lite0", "width": 4, "encoder_depth": 3}
    path = tmp_path_factory.mktemp("folded") / "m.pt"
    save_network(path, {**settings, "decoder_channels": [16, 8, 8]}, scale=1.0)
    return onnx_of(path)


def onnx_of(path: Path) -> bytes:
    network = open_network(path, applicability=False)[0]
    return network_bytes(lambda held: write_onnx(network, held))


@pytest.mark.parametrize("sides", [(64, 96), (70, 90)])
def test_the_unet_of_the_demo_is_folded_in_every_block_with_a_skip(unet: bytes, sides: tuple[int, int]) -> None:
    model = openvino.Core().read_model(unet)
    model.reshape([1, 3, *sides])
    images = torch.randn(1, 3, *sides, generator=torch.Generator().manual_seed(1))
    expected = outputs(model, images)
    assert fold_upsampling(model) >= 2
    np.testing.assert_allclose(outputs(model, images), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(open_openvino(unet, "float32", 1)(images)[0], expected, rtol=0, atol=1e-5)


def test_a_network_without_upsampling_is_as_it_was(tmp_path: Path) -> None:
    save_network(tmp_path / "m.pt", unpool(4), scale=1.0)
    model = openvino.Core().read_model(onnx_of(tmp_path / "m.pt"))
    model.reshape([1, 3, 64, 64])
    assert fold_upsampling(model) == 0
