from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from weakseg.core.errors import ParamsError, WeightsError
from weakseg.data.crops.augment import IMAGENET, normalise
from weakseg.networks.build import (
    LITE0,
    LITE0_PREPROCESSING,
    Encoder,
    Segmenter,
    build_encoder,
    build_segmenter,
    parameter_groups,
    preprocessing_of,
)

NAMES = ("encdec_unpool", "unet", "deeplabv3plus")
SLIM = (16, 16, 8, 8, 8)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in this file may open a connection."""

    def refuse(*_arguments: object, **_options: object) -> None:
        pytest.fail("a network connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def built(name: str, *, dropout: float = 0.0, weights: str = "none", classes: int = 5) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(
        name,
        classes,
        encoder=LITE0 if weights == "package" else "mobilenetv3_small_050",
        weights=weights,
        width=16,
        dropout=dropout,
        decoder_channels=SLIM,
    )


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("output_stride", "strides"), [(32, (2, 4, 8, 16, 32)), (16, (2, 4, 8, 16, 16)), (8, (2, 4, 8, 8, 8))]
)
def test_encoder_features_have_the_announced_channels_and_strides(output_stride: int, strides: tuple[int, ...]) -> None:
    encoder = build_encoder(LITE0, weights="none", output_stride=output_stride).eval()
    with torch.no_grad():
        features = encoder(images(1, 3, 65, 64))
    assert encoder.channels == (16, 24, 40, 112, 320)
    assert encoder.strides == strides
    assert [f.shape[1] for f in features] == list(encoder.channels)
    assert [tuple(f.shape[2:]) for f in features] == [(-(-65 // s), 64 // s) for s in strides]


def test_dilation_changes_no_weights() -> None:
    wide, dense = (build_encoder(LITE0, weights="package", output_stride=stride) for stride in (32, 8))
    assert wide.report is not None
    assert len(wide.report.loaded) == 288
    pairs = zip(wide.state_dict().items(), dense.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_stride_one_features_are_dropped() -> None:
    class Info:
        def reduction(self) -> list[int]:
            return [1, 2, 4]

        def channels(self) -> list[int]:
            return [7, 8, 9]

    class Pyramid(nn.Module):
        feature_info = Info()

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, x[:, :, ::2, ::2], x[:, :, ::4, ::4]]

    encoder = Encoder("resnet18", Pyramid(), report=None)
    assert (encoder.strides, encoder.channels) == ((2, 4), (8, 9))
    assert [feature.shape[2] for feature in encoder(images(1, 3, 8, 8))] == [4, 2]


def test_preprocessing_follows_the_encoder_with_or_without_weights() -> None:
    for weights in ("none", "package"):
        assert build_encoder(LITE0, weights=weights).preprocessing == LITE0_PREPROCESSING
    assert preprocessing_of("resnet18") == IMAGENET
    x = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([-127 / 128, 0.0, 1.0])
    assert torch.allclose(normalise(x, LITE0_PREPROCESSING).flatten(), expected, atol=1e-6)


def test_encoder_weights_from_a_local_file(tmp_path: Path) -> None:
    source = build_encoder("resnet18", weights="none")
    path = tmp_path / "resnet18.pth"
    torch.save({**source.net.state_dict(), "fc.weight": torch.zeros(2, 2)}, path)
    copy = build_encoder("resnet18", weights=str(path))
    assert copy.report is not None
    assert copy.report.ignored == ("fc.weight",)
    assert torch.equal(copy.net.state_dict()["conv1.weight"], source.net.state_dict()["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("no_such_net", {"weights": "none"}, ParamsError, "timm has no model 'no_such_net'"),
        (LITE0, {"weights": "none", "output_stride": 4}, ParamsError, "8, 16 or 32"),
        ("convnext_atto", {"weights": "none", "output_stride": 4}, ParamsError, "8, 16 or 32"),
        ("vgg11", {"weights": "none", "output_stride": 8}, ParamsError, "cannot make a feature pyramid"),
        ("resnet18", {"weights": "package"}, WeightsError, "expected one of tf_efficientnet_lite0"),
        ("resnet18", {"weights": "absent.pth"}, WeightsError, "no weight file absent.pth"),
    ],
)
def test_encoder_refusals(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_encoder(name, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 31), (64, 64), (50, 97)])
def test_any_size_gives_logits_of_that_size(name: str, height: int, width: int) -> None:
    net = built(name, classes=3).eval()
    with torch.no_grad():
        logits = net(images(2, 3, height, width))
    assert logits.shape == (2, 3, height, width)
    assert torch.isfinite(logits).all()
    assert net.classes == 3


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_in_training_only(name: str) -> None:
    x, net = images(2, 3, 64, 64), built(name, dropout=0.5)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.0
    net.eval()
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        net.train()
        one, two = net(x), net(x)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_one_encoding_serves_several_decodings(name: str) -> None:
    net, x = built(name).eval(), images(1, 3, 40, 72)
    with torch.no_grad():
        encoded = net.encode(x)
        assert torch.equal(net.decode(encoded), net(x))
        assert torch.equal(net.decode(encoded), net.decode(encoded))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_first_layer(name: str) -> None:
    net = built(name)
    net(images(2, 3, 64, 64)).square().mean().backward()
    first = next(module for module in net.encoder.modules() if isinstance(module, nn.Conv2d))
    assert first.weight.grad is not None
    assert first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_hold_every_parameter_once(name: str) -> None:
    net = built(name)
    groups = {group["name"]: group for group in net.parameter_groups(0.01, encoder_factor=0.5, weight_decay=0.1)}
    assert set(groups) == {"encoder/decay", "encoder/plain", "decoder/decay", "decoder/plain"}
    members = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(members) == sorted(id(parameter) for parameter in net.parameters())
    inside = {id(parameter) for parameter in net.net.encoder.parameters()}
    for label, group in groups.items():
        part, kind = label.split("/")
        assert group["lr"] == pytest.approx(0.005 if part == "encoder" else 0.01)
        assert group["weight_decay"] == (0.1 if kind == "decay" else 0.0)
        for parameter in group["params"]:
            assert (id(parameter) in inside) == (part == "encoder")
            assert (parameter.ndim > 1) == (kind == "decay")
    torch.optim.AdamW(list(groups.values()))


def test_parameter_groups_of_any_module_leave_empty_ones_out() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 1))
    groups = parameter_groups(module, module[0], lr=1.0, encoder_factor=0.1, weight_decay=0.2)
    assert [(group["name"], group["lr"], len(group["params"])) for group in groups] == [
        ("encoder/decay", 0.1, 1),
        ("decoder/decay", 1.0, 1),
        ("decoder/plain", 1.0, 1),
    ]


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_segmenter_encoder_equals_the_bare_encoder(name: str) -> None:
    net = built(name, weights="package").eval()
    bare = build_encoder(LITE0, weights="package", output_stride=32 if name == "unet" else 16).eval()
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        features = net.encode(x).features
        expected = bare(x)
    assert net.report is not None
    assert len(net.report.loaded) == 288
    assert net.preprocessing == LITE0_PREPROCESSING
    assert torch.equal(features[0], x)
    assert all(torch.equal(a, b) for a, b in zip(features[1:], expected, strict=True))


@pytest.mark.parametrize(("blocks", "depth", "size"), [(5, 5, 64), (4, 5, 32), (3, 5, 16), (4, 4, 64), (3, 4, 32)])
def test_a_shorter_unet_decoder_predicts_coarser_and_enlarges(blocks: int, depth: int, size: int) -> None:
    options: dict[str, Any] = {"encoder": LITE0, "weights": "none", "width": 1, "dropout": 0.0}
    net = build_segmenter("unet", 3, **options, decoder_channels=(16, 16, 8, 8, 8)[:blocks], encoder_depth=depth).eval()
    before: list[torch.Tensor] = []
    net.net.head[0].register_forward_hook(lambda _module, _inputs, output: before.append(output))
    with torch.no_grad():
        logits = net(images(1, 3, 64, 64))
    assert before[0].shape == (1, 3, size, size)
    assert logits.shape == (1, 3, 64, 64)
    # Aligned: enlarging shifts nothing, so block means of the logits stay close to the coarse ones.
    means = torch.nn.functional.avg_pool2d(logits, 64 // size)
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.corrcoef(torch.stack([means[inner].flatten(), before[0][inner].flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize(
    ("depth", "blocks", "strides"), [(5, 7, [2, 4, 8, 16, 32]), (4, 5, [2, 4, 8, 16]), (3, 3, [2, 4, 8])]
)
def test_an_encoder_of_fewer_scales_keeps_its_weights_and_computes_no_more_than_it_needs(
    depth: int, blocks: int, strides: list[int]
) -> None:
    options: dict[str, Any] = {"encoder": LITE0, "weights": "package", "width": 1, "dropout": 0.0}
    whole = build_segmenter("unet", 3, **options).eval()
    net = build_segmenter("unet", 3, **options, decoder_channels=(16, 16, 8), encoder_depth=depth).eval()
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        features, expected = net.encode(x).features, whole.encode(x).features
    assert [64 // feature.shape[-1] for feature in features[1:]] == strides
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=False))
    assert len(net.encoder.get_submodule("model").blocks) == blocks  # type: ignore[arg-type]
    net(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_encdec_takes_torchvisions_file_at_full_width_only(tmp_path: Path) -> None:
    import torchvision

    with torch.device("meta"):
        names = torchvision.models.vgg16_bn().features.state_dict()
    state = {name: torch.full(tensor.shape, 0.5) for name, tensor in names.items()}
    path = tmp_path / "vgg16_bn.pth"
    torch.save({f"features.{name}": tensor for name, tensor in state.items()}, path)
    options: dict[str, Any] = {"encoder": LITE0, "weights": str(path), "dropout": 0.1}
    net = build_segmenter("encdec_unpool", 5, width=1, **options)
    assert net.report is not None
    assert len(net.report.loaded) == 78
    assert torch.equal(net.encoder.get_parameter("stages.4.6.weight"), state["40.weight"])
    assert net.preprocessing == IMAGENET
    with pytest.raises(WeightsError, match="set width: 1"):
        build_segmenter("encdec_unpool", 5, width=2, **options)


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("segnet", {}, ParamsError, "expected encdec_unpool or unet or deeplabv3plus"),
        ("unet", {"classes": 0}, ParamsError, "at least 1 class"),
        ("unet", {"dropout": 1.0}, ParamsError, "segment.network.dropout"),
        ("unet", {"decoder_channels": (8, 8)}, ParamsError, "3 to 5 positive numbers"),
        ("unet", {"decoder_channels": (8, 8, 8, 8, 0)}, ParamsError, "3 to 5 positive numbers"),
        ("unet", {"decoder_channels": (8, 8, 8, 8), "encoder_depth": 3}, ParamsError, "3 to 3 positive numbers"),
        ("unet", {"encoder_depth": 6}, ParamsError, "encoder_depth 6; expected 3 to 5"),
        ("unet", {"encoder": "tu-resnet18"}, ParamsError, "timm has no model 'tu-resnet18'"),
        ("deeplabv3plus", {"encoder": "vgg11"}, ParamsError, "cannot make a feature pyramid of 'vgg11'"),
        ("unet", {"encoder": "resnet18", "weights": "package"}, WeightsError, "change one of the two"),
        ("encdec_unpool", {"weights": "package"}, WeightsError, "set width: 1, or weights: none"),
    ],
)
def test_segmenter_refusals(name: str, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    options: dict[str, Any] = {"classes": 5, "encoder": LITE0, "weights": "none", "width": 16, "dropout": 0.1}
    options |= changes
    with pytest.raises(error, match=message):
        build_segmenter(name, options.pop("classes"), **options)
