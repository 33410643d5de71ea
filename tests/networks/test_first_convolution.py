"""Which kernel every band starts with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weakseg.core.bands import PLAIN, Bands, Statistics, known_band
from weakseg.core.errors import DataError, ParamsError
from weakseg.data.crops.augment import normalise
from weakseg.networks.build import LITE0, build_encoder, build_segmenter
from weakseg.networks.first_convolution import first_convolution, kernel_owners, widen_first


def named(*names: str) -> Bands:
    return Bands(tuple(known_band(name, dtype="uint16") for name in names)).with_statistics(
        Statistics(100.0 * (n + 1), 50.0, (0.0,) * 5) for n in range(len(names))
    )


@pytest.mark.parametrize(
    ("names", "owners"),
    [
        (("red", "green", "blue", "nir"), {0: 0, 1: 1, 2: 2}),
        (("blue", "green", "red"), {0: 2, 1: 1, 2: 0}),
        (("nir", "red", "green", "height"), {0: 2, 1: 0, 2: 1}),  # blue's kernel is left, and infrared takes it
        (("height", "nir"), {1: 0}),
        (("height",), {}),
    ],
)
def test_bands_named_so_keep_their_kernels_and_none_is_left(names: tuple[str, ...], owners: dict[int, int]) -> None:
    assert kernel_owners(named(*names)) == owners


@pytest.mark.parametrize(("rule", "nir"), [("mean", 2.0), ("zero", 0.0), ("scaled", 1.0)])
def test_new_bands_start_by_the_rule(rule: str, nir: float) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        first_convolution(net).weight[:] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    widen_first(net, named("nir", "blue", "height", "red", "green"), pretrained=True, rule=rule)
    assert first_convolution(net).weight[0, :, 0, 0].tolist() == [nir, 3.0, nir, 1.0, 2.0]
    assert net(torch.zeros(1, 5, 4, 4)).shape == (1, 2, 2, 2)


def test_three_optical_bands_of_8_bits_change_nothing() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3))
    before = first_convolution(net).weight
    widen_first(net, Bands(tuple(known_band(name) for name in ("nir", "red", "green"))), pretrained=True)
    assert first_convolution(net).weight is before


def test_without_weights_all_kernels_are_drawn_anew_as_strong_together() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 7))
    std = float(first_convolution(net).weight.detach().std())
    widen_first(net, named("red", "green", "blue", "nir", "height", "dtm"), pretrained=False)
    weight = first_convolution(net).weight.detach()
    assert float(weight.std()) == pytest.approx(std / 2**0.5, rel=0.05)
    assert not torch.equal(weight[:, 3], weight[:, 4])


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ParamsError, match="mean, zero, scaled"):
        widen_first(nn.Sequential(nn.Conv2d(3, 2, 3)), named("nir"), pretrained=True, rule="noise")


@pytest.mark.parametrize("network", ["unet", "deeplabv3plus", "encdec_unpool", "plain"])
def test_networks_take_five_bands_of_any_size(network: str) -> None:
    bands = named("red", "green", "blue", "nir", "height")
    options = {"encoder": LITE0, "weights": "none", "width": 16, "dropout": 0.0}
    if network == "plain":
        options |= {"decoder_channels": (16, 8), "encoder": "vit_tiny_patch16_dinov3_qkvb"}
    net = build_segmenter(network, 3, bands=bands, **options).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        assert net(torch.randn(1, 5, 45, 70)).shape == (1, 3, 45, 70)
    with pytest.raises(DataError, match=r"expected normalised float images \(B, 5, H, W\)"):
        net(torch.randn(1, 3, 45, 70))


def test_a_pretrained_encoder_sees_its_three_colours_as_before() -> None:
    bands = named("red", "green", "blue", "height")
    plain, wide = (build_encoder(LITE0, weights="package", bands=b).eval() for b in (PLAIN, bands))
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        same = wide(torch.cat([picture, torch.zeros(1, 1, 64, 64)], 1))  # a height band at its mean
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(plain(picture), same, strict=True))


def test_a_mean_of_n1_becomes_0_and_its_deviation_that_of_the_encoders_pictures() -> None:
    encoder = build_encoder(LITE0, weights="none", bands=named("red", "green", "blue", "nir"))
    values = torch.tensor([100.0, 250.0, 300.0, 450.0]).view(1, 4, 1, 1)
    found = normalise(values, encoder.preprocessing).flatten().tolist()
    assert found == pytest.approx([0, 0.4510, 0, 0.4510], abs=1e-3)  # (x - 127) / 128 of ImageNet spreads by .451
