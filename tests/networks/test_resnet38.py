"""ResNet38: published names, shapes, counts and activations (Araslanov and Roth, CVPR 2020); freezing; loader."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weakseg.core.errors import ParamsError, WeightsError
from weakseg.networks.resnet38 import ResNet38, _project, load_resnet38

Shapes = dict[str, tuple[int, ...]]


def published_shapes() -> Shapes:
    """The 191 tensors of the published file, from the compact table of its description."""
    table: list[tuple[str, int, int, int, bool]] = [  # block, input, middle, output, projection
        ("b2", 64, 128, 128, True), ("b2_1", 128, 128, 128, False), ("b2_2", 128, 128, 128, False),
        ("b3", 128, 256, 256, True), ("b3_1", 256, 256, 256, False), ("b3_2", 256, 256, 256, False),
        ("b4", 256, 512, 512, True), *[(f"b4_{i}", 512, 512, 512, False) for i in range(1, 6)],
        ("b5", 512, 512, 1024, True), ("b5_1", 1024, 512, 1024, False), ("b5_2", 1024, 512, 1024, False),
    ]  # fmt: skip
    shapes: Shapes = {"conv1a.weight": (64, 3, 3, 3)}

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    for block, inner, middle, outer, projection in table:
        norm(f"{block}.bn_branch2a", inner)
        shapes[f"{block}.conv_branch2a.weight"] = (middle, inner, 3, 3)
        norm(f"{block}.bn_branch2b1", middle)
        shapes[f"{block}.conv_branch2b1.weight"] = (outer, middle, 3, 3)
        if projection:
            shapes[f"{block}.conv_branch1.weight"] = (outer, inner, 1, 1)
    for block, a, b, c, d in (("b6", 1024, 512, 1024, 2048), ("b7", 2048, 1024, 2048, 4096)):
        norm(f"{block}.bn_branch2a", a)
        shapes[f"{block}.conv_branch2a.weight"] = (b, a, 1, 1)
        norm(f"{block}.bn_branch2b1", b)
        shapes[f"{block}.conv_branch2b1.weight"] = (c, b, 3, 3)
        norm(f"{block}.bn_branch2b2", c)
        shapes[f"{block}.conv_branch2b2.weight"] = (d, c, 1, 1)
        shapes[f"{block}.conv_branch1.weight"] = (d, a, 1, 1)
    norm("bn7", 4096)
    return shapes


def synthetic(name: str, shape: tuple[int, ...], rank: int) -> Tensor:
    """The deterministic weights under which the published activations were recorded."""
    a = torch.arange(math.prod(shape), dtype=torch.float64)
    if name.endswith("running_mean"):
        values = 0.01 * torch.sin(0.1 * a + rank)
    elif name.endswith("running_var"):
        values = 1 + 0.1 * torch.sin(0.1 * a + rank)
    elif len(shape) == 4:
        phase = a.mul(0.7).add_(a.fmod(9973).mul_(a.fmod(97)), alpha=0.001).add_(rank)
        values = phase.sin_().mul_(math.sqrt(2 / math.prod(shape[1:])))
    elif name.endswith("weight"):
        values = 1 + 0.1 * torch.sin(0.1 * a + rank)
    else:
        values = 0.05 * torch.sin(0.1 * a + rank)
    return values.float().reshape(shape)


def slim_state(width: int = 64) -> dict[str, Tensor]:
    """A file of the published names, channel counts divided by ``width``; input channels of conv1a stay 3."""
    kept = {name: tuple(s if s < 64 else s // width for s in shape) for name, shape in published_shapes().items()}
    return {name: synthetic(name, kept[name], rank) for rank, name in enumerate(sorted(kept))}


def wave(height: int, width: int) -> Tensor:
    i, j = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    rows = [torch.sin(0.2 * i + 0.13 * j + k) + 0.5 * torch.cos(0.37 * i - 0.21 * j * (k + 1)) for k in range(3)]
    return torch.stack(rows)[None].float()


@pytest.fixture(scope="module")
def full() -> ResNet38:
    """Full width, filled with the synthetic weights through load_state_dict (the file would take 400 MiB)."""
    shapes = published_shapes()
    with torch.device("meta"):
        net = ResNet38()
    net.to_empty(device="cpu")
    state = {name: synthetic(name, shapes[name], rank) for rank, name in enumerate(sorted(shapes))}
    net.load_state_dict(state)
    return net.eval()


def test_the_names_and_shapes_are_the_published_191() -> None:
    with torch.device("meta"):
        net = ResNet38()
    state = net.state_dict()
    assert len(state) == 228
    assert {n: tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")} == published_shapes()
    assert len(published_shapes()) == 191
    assert sum(p.numel() for p in net.parameters()) == 105_070_912
    assert sum(b.numel() for b in net.buffers() if b.ndim) == 47_744


PUBLISHED = {
    (64, 64): (
        ((1, 256, 16, 16), 0.00919858, 0.256208, 1.79019, -0.712368, -0.021402),
        ((1, 4096, 8, 8), 0.0491859, 0.0737319, 0.648459, 0.0462554, 0.0274711),
    ),
    (65, 49): (
        ((1, 256, 17, 13), 0.010075, 0.264828, 1.79029, -0.712368, -0.0214165),
        ((1, 4096, 9, 7), 0.0497563, 0.0745094, 0.650555, 0.0129373, 0.1831),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", list(PUBLISHED))
def test_published_activations(full: ResNet38, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = full(wave(*size))
    for feature, (shape, *numbers) in zip(features, PUBLISHED[size], strict=True):
        assert feature.shape == shape
        found = [feature.mean(), feature.std(), feature.abs().max(), feature[0, 5, 1, 2], feature[0, 17, 3, 4]]
        assert [float(value) for value in found] == pytest.approx(numbers, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "shallow", "deep"),
    [((200, 200), (50, 50), (25, 25)), ((256, 256), (64, 64), (32, 32)), ((321, 321), (81, 81), (41, 41)),
     ((65, 49), (17, 13), (9, 7))],
)  # fmt: skip
def test_feature_sizes(size: tuple[int, int], shallow: tuple[int, int], deep: tuple[int, int]) -> None:
    net = ResNet38(width=64).eval()
    with torch.no_grad():
        features = net(torch.zeros(1, 3, *size))
    assert [tuple(f.shape) for f in features] == [(1, 4, *shallow), (1, 64, *deep)]
    assert net.channels == (4, 64)


def test_a_step_leaves_frozen_parts_and_changes_the_rest() -> None:
    torch.manual_seed(0)
    net = ResNet38(width=32).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learning = [p for p in net.parameters() if p.requires_grad]
    assert len(learning) == 35
    deep = net(torch.randn(2, 3, 32, 32))[1]
    deep.square().mean().backward()
    torch.optim.SGD(learning, lr=0.1).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {n for n in before if ".conv_branch" in n and not n.startswith("b2")}


def test_train_and_eval_return_the_network_and_dropout_follows() -> None:
    net = ResNet38(width=64)
    assert net.train() is net
    assert net.get_submodule("b6").training
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.eval() is net
    assert not net.get_submodule("b7").training


def test_unfrozen_everything_learns() -> None:
    net = ResNet38(width=64, frozen=False).train()
    assert all(p.requires_grad for p in net.parameters())
    assert all(m.training for m in net.modules())


def test_bad_width_is_refused() -> None:
    with pytest.raises(ParamsError, match="width 3; expected 1, 2, 4"):
        ResNet38(width=3)


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module", "counters", "legacy"])
def test_loader_takes_the_published_forms(tmp_path: Path, wrap: str) -> None:
    state = slim_state()
    content: dict[str, object] = dict(state)
    if wrap == "state_dict":
        content = {"state_dict": state, "epoch": 3}
    elif wrap == "module":
        content = {f"module.{name}": value for name, value in state.items()}
    elif wrap == "counters":
        content = {**state, "bn7.num_batches_tracked": torch.tensor(5)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=wrap != "legacy")
    net = ResNet38(width=64)
    report = load_resnet38(net, tmp_path / "a.pth")
    assert len([name for name in report.loaded if not name.endswith("num_batches_tracked")]) == 191
    assert report.ignored == ()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_loader_leaves_out_known_heads_and_says_so(tmp_path: Path, prefix: str) -> None:
    heads = {"linear1000.weight": torch.zeros(10, 64), "fc8.weight": torch.zeros(4, 64, 1, 1)}
    torch.save({prefix + name: value for name, value in {**slim_state(), **heads}.items()}, tmp_path / "a.pth")
    report = load_resnet38(ResNet38(width=64), tmp_path / "a.pth")
    assert report.ignored == (f"{prefix}linear1000.weight", f"{prefix}fc8.weight")


def rename(state: dict[str, Tensor]) -> None:
    state["bn8.weight"] = state.pop("bn7.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("b4_3.conv_branch2a.weight"), "1 missing: b4_3.conv_branch2a.weight"),
        (rename, "1 missing: bn7.weight, 1 unexpected: bn8.weight"),
        (lambda s: s.update({"bn7.bias": torch.zeros(7)}), r"1 of another shape: bn7.bias \[7\] for \[64\]"),
        (lambda s: s.update({"aspp.conv1.weight": torch.zeros(7)}), "1 unexpected: aspp.conv1.weight"),
        (lambda s: s.update({"bn7.bias": torch.zeros(64, dtype=torch.int64)}), "int64 in bn7.bias"),
        (lambda s: s.update({"bn7.bias": torch.full((64,), torch.nan)}), "not finite in bn7.bias"),
    ],
)
def test_loader_lists_what_differs_and_changes_nothing(tmp_path: Path, change: Change, message: str) -> None:
    state = slim_state()
    change(state)
    torch.save(state, tmp_path / "a.pth")
    net = ResNet38(width=64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_resnet38(net, tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def test_loader_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**slim_state(), "extra": Bomb()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_resnet38(ResNet38(width=64), tmp_path / "a.pth")
    assert not (tmp_path / "exploded").exists()


def test_slim_file_does_not_fit_another_width(tmp_path: Path) -> None:
    torch.save(slim_state(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="191 of another shape"):
        load_resnet38(ResNet38(width=32), tmp_path / "a.pth")


BACKWARD = """
import torch
from weakseg.networks.resnet38 import ResNet38
torch.manual_seed(0)
net = ResNet38(width={width}, frozen=False)
net.conv1a = torch.nn.Conv2d({bands}, 64 // {width}, 3, padding=1, bias=False)
net.to(memory_format=torch.channels_last)
for side in (32, 34, 47):
    images = torch.rand(2, side, side, {bands}).movedim(-1, 1).requires_grad_()
    net(images)[1].sum().backward()
"""


@pytest.mark.parametrize(("width", "bands"), [(16, 1), (16, 3), (64, 1)])
def test_a_slim_one_goes_back_on_avx2(width: int, bands: int) -> None:
    """The process died with torch 2.15.0: see _project."""
    seen = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    strict = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "85"}
    words = [sys.executable, "-c", BACKWARD.format(width=width, bands=bands)]
    done = subprocess.run(words, env={**os.environ, **seen, **strict}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_projection_of_a_slim_one_is_the_convolution() -> None:
    block = ResNet38(width=16).get_submodule("b2")
    x = torch.rand(2, 4, 9, 10)
    assert isinstance(block.conv_branch1, nn.Conv2d)
    torch.testing.assert_close(_project(block.conv_branch1, x), block.conv_branch1(x))
