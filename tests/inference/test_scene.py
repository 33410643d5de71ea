"""Whole-scene inference: windows, blending and views change nothing that they should not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.data.crops.augment import IMAGENET, normalise
from weakseg.inference.scene import (
    DIHEDRAL,
    MIRRORED,
    PLAIN,
    View,
    mean_over_views,
    predict_probabilities,
    predict_scene,
    seam_share,
    sweep_windows,
    undo_view,
    view_of,
)
from weakseg.training.machine import Machine

MACHINE = Machine(device="cpu", precision="no", threads=1, quiet=True)


def pointwise() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def whole(model: nn.Module, image: np.ndarray) -> np.ndarray:
    images = normalise(torch.from_numpy(image).permute(2, 0, 1)[None], IMAGENET)
    with torch.no_grad():
        return model(images).softmax(1)[0].numpy()


def scene(
    model: nn.Module,
    image: np.ndarray,
    *,
    window: int = 16,
    overlap: float = 0.3,
    batch: int = 3,
    views: tuple[View, ...] = PLAIN,
) -> np.ndarray:
    return predict_scene(
        model, image, preprocessing=IMAGENET, window=window, overlap=overlap, batch=batch, views=views, machine=MACHINE
    )


@pytest.mark.parametrize("size", [(16, 16), (40, 53), (17, 16), (9, 40), (7, 5), (1, 1)])
@pytest.mark.parametrize(("views", "batch"), [(PLAIN, 3), (DIHEDRAL, 1)])
def test_pointwise_network_sees_no_windows(size: tuple[int, int], views: tuple[View, ...], batch: int) -> None:
    """Sizes beside the window, below it in one direction or in both."""
    model, image = pointwise().eval(), picture(*size)
    found = scene(model, image, views=views, batch=batch)
    assert found.shape == (4, *size)
    assert found.dtype == np.float32
    assert np.abs(found - whole(model, image)).max() <= 5e-7
    assert np.abs(found.sum(0) - 1).max() <= 1e-6


def test_image_smaller_than_the_window_is_one_plain_pass() -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return x

    scene(Spy(), picture(9, 12))
    assert seen == [(1, 3, 9, 12)]


def test_the_network_is_put_into_evaluation_mode() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Conv2d(3, 2, 1)).train()
    image = picture(20, 20)
    assert np.array_equal(scene(model, image), scene(model, image))
    assert not model.training


def test_windows_cross_fade() -> None:
    """Two windows of 4 px on 6 px that answer 0 and 1: between them the answer rises without a jump."""
    answers = iter([0.0, 1.0])

    def forward(cut: Tensor) -> Tensor:
        return torch.full((1, 1, *cut.shape[2:]), next(answers))

    found = sweep_windows(forward, picture(1, 6), window=4, overlap=0.5, batch=1, machine=MACHINE)[0, 0]
    weights = np.array([0.4, 0.8, 0.8, 0.4])
    rises = weights[:2] / (weights[2:] + weights[:2])
    assert found == pytest.approx([0, 0, *rises, 1, 1], abs=1e-6)


def test_every_pixel_is_covered_and_tail_batches_too() -> None:
    for height, width, window, overlap, batch in ((33, 29, 8, 0.0, 4), (33, 29, 8, 0.9, 7), (8, 100, 9, 0.34, 100)):
        found = sweep_windows(
            lambda cut: torch.ones(len(cut), 2, *cut.shape[2:]),
            picture(height, width),
            window=window,
            overlap=overlap,
            batch=batch,
            machine=MACHINE,
        )
        assert found.shape == (2, height, width)
        assert found == pytest.approx(np.ones((2, height, width)), abs=1e-6)


@pytest.mark.parametrize("view", DIHEDRAL)
def test_views_undo_exactly(view: View) -> None:
    images = torch.rand(2, 3, 5, 8)
    assert torch.equal(undo_view(view_of(images, view), view), images)


def test_the_eight_views_are_all_different() -> None:
    square = torch.arange(9.0).view(1, 1, 3, 3)
    assert len({tuple(view_of(square, view).flatten().tolist()) for view in DIHEDRAL}) == 8
    assert torch.equal(view_of(square, (1, False)), torch.rot90(square, 1, (2, 3)))
    assert torch.equal(view_of(square, (0, True)), square.flip(3))


def test_mean_over_views_is_equivariant() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3, padding=1).eval()
    images = torch.rand(1, 3, 6, 9)
    plain = predict_probabilities(model, images, DIHEDRAL)
    turned = predict_probabilities(model, view_of(images, (1, True)), DIHEDRAL)
    assert torch.allclose(undo_view(turned, (1, True)), plain, atol=1e-6)
    assert not torch.allclose(predict_probabilities(model, images), plain, atol=1e-3)


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(DataError, match=r"no view or scale; .*pass PLAIN"):
        predict_probabilities(pointwise(), torch.rand(1, 3, 4, 4), ())


def test_scales_are_averaged_at_the_image_s_size() -> None:
    """A pointwise network of a linear ramp: resizing back and forth gives the ramp again away from the rim."""
    ramp = torch.arange(32.0).view(1, 1, 1, 32).expand(1, 2, 24, 32) / 32
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[2:]))
        return images.clone()

    mean = mean_over_views(network, ramp, ((0, False), (1, True)), (0.5, 1.0, 1.5))
    assert seen == [(12, 16), (16, 12), (24, 32), (32, 24), (36, 48), (48, 36)]
    assert mean.shape == ramp.shape
    assert torch.allclose(mean[..., 4:-4], ramp[..., 4:-4], atol=1e-5)
    with pytest.raises(ParamsError, match=r"scale 0\.0; expected 0\.1 to 10"):
        mean_over_views(network, ramp, PLAIN, (0.0,))


def test_probabilities_at_several_scales_still_sum_to_one() -> None:
    found = predict_probabilities(pointwise().eval(), torch.rand(2, 3, 9, 14), MIRRORED, (0.7, 1.0))
    assert found.shape == (2, 4, 9, 14)
    assert torch.allclose(found.sum(1), torch.ones(2, 9, 14), atol=1e-6)


def seams(model: nn.Module, image: np.ndarray, window: int = 16) -> float:
    def classify(part: np.ndarray) -> np.ndarray:
        return scene(model, part, window=window).argmax(0).astype(np.uint8)

    return seam_share(classify, image, window=window)


def test_a_network_that_sees_one_pixel_leaves_no_seam() -> None:
    assert seams(pointwise().eval(), picture(60, 70)) == 0.0


class PlaceInWindow(nn.Module):
    """Says class 1 in the left half of every window: nothing but seams."""

    def forward(self, images: Tensor) -> Tensor:
        columns = torch.arange(images.shape[3]).expand(len(images), 1, *images.shape[2:])
        left = (columns < images.shape[3] // 2).float()
        return 20 * torch.cat([1 - left, left], dim=1)


def test_the_seam_share_counts_what_moves_with_the_windows() -> None:
    image = picture(1, 200).repeat(80, axis=0)
    found = seam_share(lambda part: stripes(part.shape[1]).repeat(len(part), 0), image, window=16)
    assert found == pytest.approx(0.5, abs=0.1)  # stripes of 8 px, moved by 4: every other px changes
    assert seams(PlaceInWindow(), picture(60, 70)) > 0.2
    assert np.isnan(seams(PlaceInWindow(), picture(12, 70)))


def stripes(width: int) -> np.ndarray:
    """uint8 (1, width): 0 and 1 in turns of 8 px, from the left border on."""
    return (np.arange(width)[None] // 8 % 2).astype(np.uint8)
