"""Single-stage network: published scores (V1, V2, V6, V8), names and groups (V9), freezing, other encoders, no-data."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from weakseg.core.errors import ParamsError
from weakseg.core.methods import SingleStageParams
from weakseg.methods.single_stage.network import (
    Aspp,
    EncoderBackbone,
    GlobalCueInjection,
    SingleStage,
    class_scores,
    ngwp,
    parameter_groups,
    size_focal,
    soft_masks,
    stochastic_gate,
)
from weakseg.networks.build import build_encoder
from weakseg.networks.losses import multi_label_bce
from weakseg.networks.resnet38 import ResNet38
from weakseg.pipeline.presets import load_preset

AERIAL = load_preset("base").single_stage.replaced(channels=16, aspp_image_pool=True)
SLIM = AERIAL.replaced(aspp_rates=(12, 24, 36))


def slim_net(params: SingleStageParams = SLIM, classes: int = 5) -> SingleStage:
    """The published form, slim."""
    torch.manual_seed(0)
    return SingleStage(ResNet38(width=32), classes, params, background=True, norm="batch")


def aerial_net() -> SingleStage:
    torch.manual_seed(0)
    return SingleStage(ResNet38(width=32), 5, AERIAL)


def published_logits() -> Tensor:
    """V2: three foreground logits on a 4x5 grid behind the constant background."""
    c, i, j = torch.meshgrid(*(torch.arange(n).double() for n in (3, 4, 5)), indexing="ij")
    return torch.cat([torch.ones(1, 4, 5).double(), 2 * torch.sin(1 + c + 0.5 * i + 0.25 * j)])[None]


@pytest.mark.parametrize(
    ("share", "value", "slope"),
    [(0, -4.60517, 113.82), (0.01, -3.79583, 60.02), (0.05, -2.41215, 21.91), (0.1, -1.60910, 11.99),
     (0.2, -0.79905, 5.43), (0.3, -0.40172, 2.83), (0.5, -0.08417, 0.75), (0.8, -0.00169, 0.035)],
)  # fmt: skip
def test_size_focal_published_values_and_slopes(share: float, value: float, slope: float) -> None:
    m = torch.tensor(float(share), dtype=torch.float64, requires_grad=True)
    f = size_focal(m)
    f.backward()
    assert f.item() == pytest.approx(value, abs=6e-6)
    assert m.grad is not None
    assert m.grad.item() == pytest.approx(slope, abs=6e-3)


def test_scores_published_values() -> None:
    logits = published_logits()
    masks = logits.softmax(1)
    expected = [7.551266, 9.152821, 2.635441, 0.660472]
    assert masks.sum((2, 3))[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert ngwp(logits, masks)[0].tolist() == pytest.approx([0.883058, 1.302803, 0.417259, -0.477602], abs=1e-6)
    sizes = size_focal(masks.mean((2, 3)))[0].tolist()
    assert sizes == pytest.approx([-0.228579, -0.121257, -1.278564, -2.844508], abs=1e-6)
    scores = class_scores(logits, background=True)
    assert scores[0].tolist() == pytest.approx([1.181547, -0.861305, -3.322110], abs=1e-6)
    loss = multi_label_bce(scores, torch.tensor([[True, False, True]]))
    assert loss.item() == pytest.approx(1.325876, abs=2e-6)


def test_aerial_scores_use_every_channel() -> None:
    logits = published_logits()[:, 1:]
    masks = logits.softmax(1)
    assert torch.allclose(class_scores(logits, background=False), ngwp(logits, masks) + size_focal(masks.mean((2, 3))))


def test_gradient_flows_through_logits_and_masks() -> None:
    logits = published_logits().requires_grad_()
    (both,) = torch.autograd.grad(ngwp(logits, logits.softmax(1)).sum(), logits)
    (plain,) = torch.autograd.grad(ngwp(logits, logits.softmax(1).detach()).sum(), logits)
    assert (both - plain).abs().max() > 0.01


def test_gate_in_evaluation_is_the_published_mixture() -> None:
    deep, shallow = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    assert stochastic_gate(deep, shallow, psi=0.3, training=False).tolist() == pytest.approx([1.6, 2.9])


def test_gate_in_training_takes_two_values_with_mean_deep() -> None:
    torch.manual_seed(0)
    mixed = stochastic_gate(torch.ones(200_000), torch.full((200_000,), 3.0), psi=0.3, training=True)
    assert mixed.unique().tolist() == pytest.approx([1 / 7, 3])
    assert (mixed == 3).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert mixed.mean().item() == pytest.approx(1, abs=0.02)


def test_global_cues_by_hand() -> None:
    """Identity 1x1 convolutions and idle norms: shallow 2 becomes 2 * (max deep + 1) + max deep, per channel."""
    gci = GlobalCueInjection(8, 8, norm="batch").eval()
    eye = torch.eye(8)[:, :, None, None]
    with torch.no_grad():
        for part, weight in ((gci.fc_deep, torch.cat([eye, eye])), (gci.fc_skip, eye), (gci.fc_cls, eye)):
            part.get_submodule("0").get_parameter("weight").copy_(weight)
        deep = torch.zeros(2, 8, 2, 2)
        deep[0, 0, 1, 1], deep[0, 1] = 3, -4
        mixed = gci(torch.full((2, 8, 2, 2), 2.0), deep)
    expected = torch.full((2, 8, 2, 2), 2.0)
    expected[0, 0] = 2 * (3 + 1) + 3
    torch.testing.assert_close(mixed, expected, atol=1e-3, rtol=0)  # BatchNorm's 1e-5


@pytest.mark.parametrize("image_pool", [True, False])
def test_aspp_branches_and_what_its_image_pool_sees(image_pool: bool) -> None:
    torch.manual_seed(0)
    aspp = Aspp(4, 8, rates=(2, 3, 4), image_pool=image_pool).eval()
    x = torch.rand(1, 4, 30, 30)
    far = x.clone()
    far[:, :, 20:] += 1  # more than 4 rows away from row 10
    assert aspp(x).shape == (1, 8, 30, 30)
    assert torch.equal(aspp(x)[:, :, 10], aspp(far)[:, :, 10]) != image_pool
    assert aspp.aspp4.get_submodule("atrous_conv").get_parameter("weight").shape == (8, 4, 3, 3)


def test_output_shapes_and_background_channel() -> None:
    images = torch.rand(2, 3, 65, 49)
    with torch.no_grad():
        voc, aerial = slim_net().eval()(images), aerial_net().eval()(images)
    assert voc.logits.shape == (2, 6, 17, 13)
    assert torch.equal(voc.logits[:, 0], torch.ones(2, 17, 13))
    assert (voc.scores.shape, aerial.scores.shape, aerial.logits.shape) == ((2, 5), (2, 5), (2, 5, 17, 13))
    masks = soft_masks(aerial.logits, (65, 49))
    assert masks.shape == (2, 5, 65, 49)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 65, 49))
    assert torch.equal(masks[:, :, 0, 0], aerial.logits.softmax(1)[:, :, 0, 0])  # align_corners


def test_head_names_and_groups_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = SingleStage(ResNet38(), 20, SLIM.replaced(channels=256), background=True, norm="batch")
    names = [name for name in net.state_dict() if not name.startswith("backbone.")]
    assert len(net.state_dict()) == 306  # 309 published: PAMR's three constant kernels are not stored
    for name, shape in {
        "aspp.aspp1.atrous_conv.weight": (256, 4096, 1, 1), "aspp.aspp4.atrous_conv.weight": (256, 4096, 3, 3),
        "aspp.aspp2.bn.running_var": (256,), "aspp.global_avg_pool.1.weight": (256, 4096, 1, 1),
        "aspp.global_avg_pool.2.bias": (256,), "aspp.conv1.weight": (256, 1280, 1, 1), "aspp.bn1.weight": (256,),
        "shallow_mask.fc_deep.0.weight": (512, 256, 1, 1), "shallow_mask.fc_deep.1.weight": (512,),
        "shallow_mask.fc_skip.0.weight": (256, 256, 1, 1), "shallow_mask.fc_skip.1.running_mean": (256,),
        "shallow_mask.fc_cls.0.weight": (256, 256, 1, 1), "fc8_skip.0.weight": (48, 256, 1, 1),
        "fc8_x.0.weight": (256, 304, 3, 3), "last_conv.0.weight": (256, 256, 3, 3), "last_conv.5.bias": (256,),
        "last_conv.4.weight": (256, 256, 3, 3), "last_conv.8.weight": (20, 256, 1, 1), "last_conv.8.bias": (20,),
    }.items():  # fmt: skip
        assert tuple(net.get_parameter(name).shape if "running" not in name else net.get_buffer(name).shape) == shape
    assert "shallow_mask.fc_skip.1.weight" not in names
    groups = parameter_groups(net, rate=0.001, weight_decay=5e-4)
    assert [len(group["params"]) for group in groups] == [35, 0, 26, 13]
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.002, 0.01, 0.02])
    assert [group["weight_decay"] for group in groups] == [5e-4, 0, 5e-4, 0]


def test_new_layers_start_as_published() -> None:
    net = slim_net()
    conv, last = net.fc8_x.get_submodule("0"), net.last_conv.get_submodule("8")
    fan_in = (16 + 48) * 9
    assert conv.get_parameter("weight").std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
    assert last.get_parameter("bias").abs().max() <= 1 / math.sqrt(16)


def test_a_step_changes_what_should_learn_and_nothing_else() -> None:
    net = slim_net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    output = net(torch.randn(4, 3, 32, 32))
    multi_label_bce(output.scores, torch.tensor([[True, False, True, False, True]] * 4)).backward()
    torch.optim.SGD(parameter_groups(net, rate=0.1, weight_decay=5e-4), lr=0.1, momentum=0.9).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    kept = set(before) - changed
    assert {n for n in before if n.startswith(("backbone.conv1a", "backbone.b2"))} <= kept
    assert {n for n in before if n.startswith("backbone.") and ".bn" in n} <= kept
    assert {n for n in before if n.startswith("aspp.") and "running" in n} <= kept
    assert {"aspp.aspp2.bn.weight", "aspp.bn1.bias", "backbone.b3.conv_branch2a.weight"} <= changed
    decoder = ("fc8_skip", "fc8_x", "last_conv", "shallow_mask")
    assert {n for n in before if n.startswith(decoder) and "running" in n} <= changed
    assert "last_conv.8.bias" in changed


def test_train_and_eval_return_the_network() -> None:
    net = slim_net()
    assert net.train() is net
    assert not any(m.training for m in net.aspp.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.aspp.dropout.training
    assert net.fc8_x.get_submodule("1").training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())


def test_group_norm_makes_training_independent_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    net = aerial_net().train()
    for module in net.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.eval()
    monkeypatch.setattr("weakseg.methods.single_stage.network.GATE_PSI", 0.0)  # the gate draws per batch
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images).scores[:1], net(images[:1]).scores, atol=1e-5, rtol=0)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.last_conv)


def test_without_image_pool_there_is_no_branch_for_it() -> None:
    net = slim_net(SLIM.replaced(aspp_image_pool=False)).eval()
    assert not [name for name in net.state_dict() if name.startswith("aspp.global")]
    assert net(torch.rand(1, 3, 32, 32)).logits.shape == (1, 6, 8, 8)


@pytest.mark.parametrize("stride", [8, 16])
def test_other_encoders_through_the_same_interface(stride: int) -> None:
    encoder = build_encoder("tf_efficientnet_lite0", weights="none", output_stride=stride)
    backbone = EncoderBackbone(encoder, deep_stride=stride)
    net = SingleStage(backbone, 5, AERIAL)
    assert net.preprocessing.mean == pytest.approx((127 / 255,) * 3)
    assert backbone.strides == (4, stride)
    shallow, deep = backbone(torch.rand(1, 3, 48, 48))
    assert [(f.shape[1], f.shape[2]) for f in (shallow, deep)] == [(24, 12), (320, 48 // stride)]
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert net.train() is net
    assert norms
    assert not any(m.training or m.weight.requires_grad for m in norms)
    assert net(torch.rand(2, 3, 48, 48)).scores.shape == (2, 5)


@pytest.mark.parametrize(("stride", "channels"), [(8, 40), (16, 112)])
def test_an_undilated_encoder_gives_its_own_feature_of_the_stride(stride: int, channels: int) -> None:
    encoder = build_encoder("tf_efficientnet_lite0", weights="none")
    backbone = EncoderBackbone(encoder, deep_stride=stride)
    images = torch.rand(1, 3, 64, 64)
    deep = backbone.eval()(images)[1]
    assert (backbone.channels, backbone.strides) == ((24, channels), (4, stride))
    assert deep.shape == (1, channels, 64 // stride, 64 // stride)
    assert torch.equal(deep, encoder(images)[encoder.strides.index(stride)])


@pytest.mark.parametrize(("output_stride", "deep_stride"), [(32, 32), (8, 16)])
def test_encoder_without_a_dense_feature_is_refused(output_stride: int, deep_stride: int) -> None:
    encoder = build_encoder("tf_efficientnet_lite0", weights="none", output_stride=output_stride)
    with pytest.raises(ParamsError, match=f"stride {deep_stride} asked for.*mend single_stage.output_stride"):
        EncoderBackbone(encoder, deep_stride=deep_stride)


def test_heads_learn_at_a_multiple_of_the_backbones_rate() -> None:
    groups = parameter_groups(slim_net(), rate=0.001, weight_decay=0.01, head_factor=3.0)
    assert [group["lr"] for group in groups] == pytest.approx([0.001, 0.002, 0.003, 0.006])


@pytest.mark.parametrize("wrong", [{"channels": 60}, {"channels": 0}, {"aspp_rates": (3, 6)}])
def test_bad_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AERIAL.replaced(**wrong)


def test_scores_do_not_change_when_the_canvas_grows() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    canvas = torch.randn(2, 5, 20, 20, generator=generator)
    canvas[:, :, 3:9, 4:11] = logits
    valid = torch.zeros(2, 1, 20, 20)
    valid[:, :, 3:9, 4:11] = 1
    torch.testing.assert_close(
        class_scores(canvas, background=False, valid=valid), class_scores(logits, background=False)
    )
    assert (class_scores(canvas, background=False) - class_scores(logits, background=False)).abs().max() > 0.1


def test_global_pooling_sees_valid_pixels_only() -> None:
    generator = torch.Generator().manual_seed(0)
    aspp = Aspp(4, 8, rates=(1, 1, 1), image_pool=True).eval()
    gci = GlobalCueInjection(4, 8, norm="batch").eval()
    shallow, deep, x = (torch.randn(1, c, 12, 12, generator=generator) for c in (4, 8, 4))
    valid = torch.ones(1, 1, 12, 12)
    valid[:, :, 6:] = 0
    torch.testing.assert_close(aspp(x, valid)[:, :, :5], aspp(x[:, :, :6])[:, :, :5])  # row 5 touches the border
    torch.testing.assert_close(gci(shallow, deep, valid)[:, :, :6], gci(shallow[:, :, :6], deep[:, :, :6]))


def test_no_data_in_the_network_matters_for_the_scores_and_all_valid_does_not() -> None:
    net, images = aerial_net().eval(), torch.rand(2, 3, 32, 32)
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    with torch.no_grad():
        plain = net(images)
        torch.testing.assert_close(net(images, valid), plain)
        valid[0, 8:] = False
        masked = net(images, valid)
        valid[0] = False
        assert torch.isfinite(net(images, valid).scores).all()
    assert not torch.allclose(masked.scores[0], plain.scores[0])
    torch.testing.assert_close(masked.scores[1], plain.scores[1])


def synthetic(name: str, shape: tuple[int, ...], rank: int) -> Tensor:
    """Deterministic weights of the published run (the backbone's test explains them)."""
    a = torch.arange(math.prod(shape), dtype=torch.float64)
    if len(shape) == 4:
        wave = torch.sin(0.7 * a + 0.001 * (a.fmod(9973) * a.fmod(97)) + rank)
        return (math.sqrt(2 / math.prod(shape[1:])) * wave).float().reshape(shape)
    wave = torch.sin(0.1 * a + rank)
    kinds = {"running_mean": 0.01 * wave, "running_var": 1 + 0.1 * wave, "weight": 1 + 0.1 * wave, "bias": 0.05 * wave}
    return kinds[name.rpartition(".")[2]].float().reshape(shape)


@pytest.mark.slow
def test_published_scores_and_masks_of_the_full_network() -> None:
    with torch.device("meta"):
        net = SingleStage(ResNet38(), 20, SLIM.replaced(channels=256), background=True, norm="batch")
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    shapes = {name: tuple(net.state_dict()[name].shape) for name in names}
    net.to_empty(device="cpu")
    state: dict[str, Tensor] = {}
    for part in (True, False):
        ordered = sorted(name for name in names if name.startswith("backbone.") == part)
        state.update({name: synthetic(name, shapes[name], rank) for rank, name in enumerate(ordered)})
    net.load_state_dict(state)
    i, j = torch.meshgrid(torch.arange(64).double(), torch.arange(64).double(), indexing="ij")
    rows = [torch.sin(0.2 * i + 0.13 * j + k) + 0.5 * torch.cos(0.37 * i - 0.21 * j * (k + 1)) for k in range(3)]
    with torch.no_grad():
        output = net.eval()(torch.stack(rows)[None].float())
    expected = [-2.576689, -2.524839, -2.555341, -2.608754, -2.620776]
    assert output.scores[0, :5].tolist() == pytest.approx(expected, rel=1e-4)
    means = soft_masks(output.logits, (64, 64)).mean((2, 3))[0, :5].tolist()
    assert means == pytest.approx([0.116518, 0.042905, 0.044069, 0.043356, 0.042169], rel=1e-3)
