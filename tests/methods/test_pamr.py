"""PAMR: published vectors (Araslanov and Roth, CVPR 2020), a transcription as oracle, properties, refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import DataError, ParamsError
from weakseg.methods import pamr as module
from weakseg.methods.pamr import affinity, local_deviation, pamr


@pytest.fixture(params=["accumulated", "gathered"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs both ways, whatever the size of its grid."""
    monkeypatch.setattr(module, "_TINY", 10**9 if request.param == "gathered" else 0)
    return str(request.param)


def wave_image(height: int, width: int) -> Tensor:
    i, j = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return torch.stack([0.5 + 0.5 * torch.sin(0.7 * i + 0.3 * j + k) for k in range(3)])[None]


def two_masks(first: Tensor) -> Tensor:
    return torch.stack([first.double(), 1 - first.double()])[None]


def pixel_loop(image: Tensor, masks: Tensor, dilations: tuple[int, ...], iterations: int) -> Tensor:
    """The formula read aloud, pixel by pixel: (K, H, W) and (C, H, W) in float64."""
    _, height, width = image.shape
    offsets = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for _ in range(iterations):
        refined = torch.zeros_like(masks)
        for i in range(height):
            for j in range(width):
                at = [(min(max(i + y, 0), height - 1), min(max(j + x, 0), width - 1)) for y, x in offsets]
                values = torch.stack([image[:, y, x] for y, x in at])
                sigma = values.std(dim=0)
                ring = [index for index, offset in enumerate(offsets) if offset != (0, 0)]
                logits = torch.stack(
                    [-((image[:, i, j] - values[n]).abs() / (1e-8 + 0.1 * sigma)).mean() for n in ring]
                )
                weights = logits.softmax(0)
                refined[:, i, j] = sum(w * masks[:, at[n][0], at[n][1]] for w, n in zip(weights, ring, strict=True))
        masks = refined
    return masks


def test_published_vector_a() -> None:
    image, masks = wave_image(12, 12), two_masks((torch.arange(12) < 6)[:, None].expand(12, 12))
    refined = pamr(image, masks, dilations=(1, 2), iterations=3)
    assert refined[0, 0].sum().item() == pytest.approx(72.03722094740534, abs=1e-9)
    column = [1, 1, 0.999872, 0.997594, 0.961720, 0.732098, 0.260791, 0.034733, 0.003309, 0.000188, 0, 0]
    torch.testing.assert_close(refined[0, 0, :, 6], torch.tensor(column).double(), atol=1e-6, rtol=0)


def test_published_deviation_and_kernel() -> None:
    image = wave_image(12, 12)
    sigma = local_deviation(image, dilations=(1, 2))[0]
    torch.testing.assert_close(sigma[:, 5, 5], torch.tensor([0.235277, 0.334935, 0.297161]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(sigma[:, 0, 0], torch.tensor([0.195646, 0.099597, 0.251662]).double(), atol=1e-6, rtol=0)
    near = [0.000370, 0.011329, 0.170236, 0.410488, 0.274654, 0.083678, 0.002503, 0.000104]
    far = [0.000000, 0.000005, 0.003656, 0.034256, 0.007894, 0.000823, 0.000004, 0.000000]
    kernel = affinity(image, dilations=(1, 2))[0, :, 5, 5]
    torch.testing.assert_close(kernel, torch.tensor(near + far).double(), atol=1e-6, rtol=0)


def test_published_vector_b_default_dilations() -> None:
    masks = two_masks((torch.arange(32) < 16)[None, :].expand(32, 32))
    refined = pamr(wave_image(32, 32), masks)
    row = [0.778471, 0.379983, 0.370496, 0.406539, 0.183242, 0.779978, 0.297356, 0.010721]
    torch.testing.assert_close(refined[0, 0, 10, ::4], torch.tensor(row).double(), atol=1e-6, rtol=0)
    assert refined[0, 0].sum().item() == pytest.approx(512.3779920961272, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_vector_c_a_flat_image_spreads_a_point_into_its_neighbours(dtype: torch.dtype) -> None:
    masks = torch.zeros(1, 1, 5, 5, dtype=dtype)
    masks[0, 0, 2, 2] = 1
    refined = pamr(torch.full((1, 3, 5, 5), 0.4, dtype=dtype), masks, dilations=(1,), iterations=1)
    expected = torch.zeros(5, 5, dtype=dtype)
    expected[1:4, 1:4] = 0.125
    expected[2, 2] = 0
    torch.testing.assert_close(refined[0, 0], expected, atol=1e-7, rtol=0)


def test_agrees_with_the_formula_pixel_by_pixel() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 4, 6, 7, generator=generator, dtype=torch.float64)
    masks = torch.rand(2, 3, 6, 7, generator=generator, dtype=torch.float64)
    refined = pamr(image, masks, dilations=(1, 3, 8), iterations=2)  # 8 reaches beyond the image
    for b in range(2):
        torch.testing.assert_close(refined[b], pixel_loop(image[b], masks[b], (1, 3, 8), 2), atol=1e-9, rtol=0)


def test_weights_and_masks_keep_their_sums_and_range() -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 3, 20, 17, generator=generator)
    masks = torch.randn(2, 5, 20, 17, generator=generator).softmax(1)
    torch.testing.assert_close(affinity(image).sum(1), torch.ones(2, 20, 17), atol=1e-5, rtol=0)
    refined = pamr(image, masks)
    torch.testing.assert_close(refined.sum(1), torch.ones(2, 20, 17), atol=1e-5, rtol=0)
    assert refined.min() >= masks.min() - 1e-6
    assert refined.max() <= masks.max() + 1e-6


def test_affine_change_of_the_image_changes_nothing() -> None:
    image, masks = wave_image(12, 12), two_masks(torch.rand(12, 12, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(pamr(3 * image + 0.2, masks), pamr(image, masks), atol=1e-6, rtol=0)


def test_constant_image_in_single_precision_has_uniform_weights_and_no_nan() -> None:
    image = torch.full((1, 3, 16, 16), 0.3)
    image[:, :, :8] = 1.0  # saturated half
    weights = affinity(torch.full((1, 3, 16, 16), 0.3))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 48))
    assert torch.isfinite(pamr(image, torch.rand(1, 2, 16, 16))).all()


def test_sigma_floor_lets_masks_cross_faint_noise_only_when_set() -> None:
    noise = 0.5 + 0.001 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    uniform, free = torch.full((1, 16, 16, 16), 1 / 16), affinity(noise, dilations=(1, 2))
    floored = affinity(noise, dilations=(1, 2), sigma_floor=0.02)
    assert (free - uniform).abs().max() > 0.3
    assert (floored - uniform).abs().max() < 0.05


def test_no_gradient_is_recorded_and_half_precision_is_lifted() -> None:
    masks = torch.rand(1, 2, 8, 8, requires_grad=True)
    assert not pamr(torch.rand(1, 3, 8, 8), masks, iterations=1).requires_grad
    lifted = pamr(torch.rand(1, 3, 8, 8).bfloat16(), masks.detach().bfloat16(), iterations=1)
    assert lifted.dtype == torch.float32


def test_no_iteration_returns_the_masks_and_inputs_are_untouched() -> None:
    image, masks = torch.rand(1, 3, 8, 8), torch.rand(1, 2, 8, 8)
    before = image.clone(), masks.clone()
    torch.testing.assert_close(pamr(image, masks, iterations=0), masks, atol=0, rtol=0)
    pamr(image, masks, dilations=(1, 2), iterations=2)
    torch.testing.assert_close((image, masks), before, atol=0, rtol=0)


def test_other_grid_or_bad_dilations_are_refused() -> None:
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(DataError, match="resize the image to the grid"):
        pamr(F.pad(image, [0, 1, 0, 0]), torch.rand(1, 2, 8, 8))
    with pytest.raises(ParamsError, match="at least one"):
        pamr(image, torch.rand(1, 2, 8, 8), dilations=())
    with pytest.raises(ParamsError, match="1 or more"):
        pamr(image, torch.rand(1, 2, 8, 8), dilations=(0, 1))
