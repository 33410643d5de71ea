"""The one preprocessing and the colour augmentation."""

from __future__ import annotations

import pytest
import torch

from weakseg.data.crops.augment import IMAGENET, Preprocessing, blur, denormalise, jitter_colour, normalise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normalise_by_hand() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    done = normalise(images, Preprocessing((0.0, 0.2, 0.5), (1.0, 0.1, 0.25)))
    assert done.flatten().tolist() == pytest.approx([0.0, 0.0, 2.0], abs=1e-6)
    assert done.dtype == torch.float32


def test_denormalise_is_the_inverse_and_not_in_place() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), generator=generator())
    done = normalise(images, IMAGENET)
    kept = done.clone()
    assert torch.allclose(denormalise(done, IMAGENET) * 255, images.float(), atol=1e-3)
    assert torch.equal(done, kept)


def test_no_strength_no_change() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=generator())
    assert torch.equal(jitter_colour(images, 0.0, generator()), images.float())


def test_jitter_is_affine_per_band_within_range_and_seeded() -> None:
    images = torch.linspace(100, 140, 32).view(1, 1, 4, 8).repeat(3, 3, 1, 1)
    one, two, three = (jitter_colour(images, 0.2, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert not torch.equal(one[0], one[1])  # samples get draws of their own
    assert not torch.allclose(one[:, 0], one[:, 1])  # and so do bands
    steps = one.flatten(2).diff(dim=2)
    assert torch.allclose(steps, steps[..., :1].expand_as(steps), rtol=1e-2)  # a straight line stays one
    assert (one.flatten(2)[..., -1] > one.flatten(2)[..., 0]).all()
    assert jitter_colour(images * 1.8, 0.9, generator()).min() >= 0
    assert jitter_colour(images * 1.8, 0.9, generator()).max() <= 255


def test_blur_by_hand() -> None:
    images = torch.zeros(1, 2, 5, 5)
    images[0, 0, 2, 2] = 16.0
    soft = blur(images, 1.0, generator())
    assert soft[0, 0, 1:4, 1:4].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert not soft[0, 1].any()
    flat = torch.full((1, 3, 4, 4), 7.0)
    assert torch.allclose(blur(flat, 1.0, generator()), flat)  # the rim keeps its level


def test_blur_takes_a_share_of_the_samples() -> None:
    images = torch.rand(200, 1, 3, 3, generator=generator())
    changed = (blur(images, 0.3, generator()) != images).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    assert torch.equal(blur(images, 0.0, generator()), images)
