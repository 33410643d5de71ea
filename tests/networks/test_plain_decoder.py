from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from weakseg.core.errors import ParamsError, WeightsError
from weakseg.data.crops.augment import Preprocessing
from weakseg.networks.build import Segmenter, build_encoder, build_segmenter

VIT = "vit_small_patch16_dinov3"
TINY = "vit_tiny_patch16_dinov3_qkvb"
SLIM = (16, 8, 8)


def built(encoder: str = TINY, *, weights: str = "none", channels: tuple[int, ...] = SLIM) -> Segmenter:
    torch.manual_seed(0)
    options: dict[str, Any] = {"encoder": encoder, "weights": weights, "width": 1, "dropout": 0.0}
    return build_segmenter("plain", 4, **options, decoder_channels=channels)


@pytest.mark.parametrize(
    ("encoder", "strides", "channels"),
    [
        (TINY, (16, 16, 16), SLIM),
        ("vit_tiny_patch16_224", (16, 16, 16), (16, 8, 8, 8, 8)),
        ("vit_small_patch14_dinov2", (14, 14, 14), SLIM),
        ("convnext_atto", (4, 8, 16, 32), SLIM),
    ],
)
def test_any_size_and_the_scales_that_timm_announces(
    encoder: str, strides: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    net = built(encoder, channels=channels).eval()
    assert net.encoder.strides == strides
    for height, width in ((32, 48), (33, 61)):
        with torch.no_grad():
            assert net(torch.randn(1, 3, height, width)).shape == (1, 4, height, width)


def test_a_constant_image_gives_constant_logits_and_a_gradient_reaches_all() -> None:
    net = built("convnext_atto")
    net(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_more_doublings_than_there_are_scales_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"stride 4 and coarser; expected at most 3 positive numbers"):
        built("convnext_atto", channels=(16, 8, 8, 8))
    with pytest.raises(ParamsError, match="take the network unet"):
        built("mobilenetv3_small_050")


def published_names(encoder: str) -> dict[str, Tensor]:
    """Random weights under the names of timm's own file of this network (Hugging Face: timm/NAME.lvd1689m)."""
    import timm

    torch.manual_seed(1)
    return {name: torch.randn_like(tensor) for name, tensor in timm.create_model(encoder).state_dict().items()}


def authors_names(state: dict[str, Tensor], *, bias: float) -> dict[str, Tensor]:
    """The same under the names of Meta's dinov3_vits16_pretrain_lvd1689m.pth."""
    words = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    given = {}
    for name, tensor in state.items():
        for ours, theirs in words.items():
            name = name.replace(ours, theirs)
        if "q_bias" not in name and "v_bias" not in name and "k_bias" not in name:
            given[name] = tensor
    for block in range(12):
        width = state["cls_token"].shape[-1]
        given[f"blocks.{block}.attn.qkv.bias"] = torch.full((3 * width,), bias)
        given[f"blocks.{block}.attn.qkv.bias_mask"] = torch.ones(3 * width)
    return given | {"mask_token": torch.zeros(1, width), "rope_embed.periods": torch.ones(16)}


@pytest.mark.parametrize("whose", ["timm", "authors"])
def test_dinov3_files_of_timm_and_of_the_authors_land_in_place(whose: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = published_names(VIT)
    path = tmp_path / "dinov3.safetensors"
    if whose == "authors":
        path = tmp_path / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"
        torch.save(authors_names(state, bias=0.0), path)
    else:
        save_file(state, path)
    encoder = build_encoder(VIT, weights=str(path))
    assert encoder.report is not None
    assert encoder.report.source == str(path)
    inner = encoder.net.model
    assert set(encoder.report.loaded) == set(inner.state_dict())
    assert all(torch.equal(tensor, state[name]) for name, tensor in inner.state_dict().items())
    assert set(encoder.report.ignored) >= {"norm.weight", "norm.bias"}


def test_biases_of_attention_that_the_network_lacks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "biased.pth"
    torch.save(authors_names(published_names(VIT), bias=0.5), path)
    with pytest.raises(WeightsError, match=r"12 biases.*_qkvb"):
        build_encoder(VIT, weights=str(path))
    encoder = build_encoder(f"{VIT}_qkvb", weights=str(path))
    assert torch.equal(encoder.net.model.blocks[3].attn.q_bias, torch.full((384,), 0.5))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(published_names("vit_tiny_patch16_224"), path)
    with pytest.raises(WeightsError, match="does not fit"):
        build_encoder(VIT, weights=str(path))


def test_statistics_of_the_satellite_weights_go_by_the_tag_in_the_name() -> None:
    from weakseg.networks.build import preprocessing_of

    assert preprocessing_of("vit_large_patch16_dinov3.sat493m") == Preprocessing(
        (0.430, 0.411, 0.296), (0.213, 0.156, 0.143)
    )


def test_a_frozen_encoder_keeps_weights_and_statistics() -> None:
    net = built("resnet10t", channels=(8, 8))  # with batch norms
    groups = net.parameter_groups(0.1, encoder_factor=0.0, weight_decay=0.1)
    assert {group["name"] for group in groups} == {"decoder/decay", "decoder/plain"}
    before = {name: tensor.clone() for name, tensor in net.encoder.state_dict().items()}
    net.train()
    assert net.training
    assert not any(part.training for part in net.encoder.modules())
    optimiser = torch.optim.AdamW(groups)
    net(torch.randn(2, 3, 32, 32)).square().mean().backward()
    head = net.net.head.weight.detach().clone()
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.encoder.state_dict().items())
    assert not torch.equal(net.net.head.weight, head)
    assert {g["name"] for g in net.parameter_groups(0.1, encoder_factor=0.5, weight_decay=0.1)} >= {"encoder/decay"}
    assert net.train().encoder.training
