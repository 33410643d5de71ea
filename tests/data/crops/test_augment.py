"""The one preprocessing and the colour augmentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from weakseg.core.bands import PLAIN, Bands, Statistics, known_band
from weakseg.core.errors import DataError
from weakseg.data.crops.augment import (
    IMAGENET,
    Preprocessing,
    blur,
    denormalise,
    displayed,
    drop_bands,
    fit_preprocessing,
    jitter_colour,
    normalise,
)


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


DEEP = Bands(
    (
        known_band("red", dtype="uint16", low=0, high=4000),
        known_band("nir", dtype="uint16", low=0, high=4000, drop=True),
        known_band("height", dtype="uint16"),
    )
).with_statistics(Statistics(1000.0, 500.0, (0.0,) * 5) for _ in range(3))


def deep_images() -> Tensor:
    images = torch.arange(2 * 3 * 16).view(2, 3, 4, 4).float() * 40
    images[1, 1] = 1000  # an image without infrared
    return images


def test_jitter_touches_colours_alone_in_units_of_their_range() -> None:
    images = deep_images()
    done = jitter_colour(images, 0.2, generator(), DEEP)
    assert torch.equal(done[:, 2], images[:, 2])
    assert torch.equal(done[1, 1], images[1, 1])
    assert not torch.equal(done[:, 0], images[:, 0])
    assert done.min() >= 0
    bytes_ = Bands(tuple(known_band(name) for name in ("red", "green", "blue", "nir")))
    pictures = images / 40
    four = torch.cat([pictures, pictures[:, :1]], 1)
    wide, plain = jitter_colour(four, 0.2, generator(), bytes_), jitter_colour(four[:, :3], 0.0, generator())
    assert wide.max() <= 255
    assert torch.equal(plain, four[:, :3])


def test_a_jitter_of_8_bits_is_the_same_beside_other_bands() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=generator()).float()
    named = Bands(tuple(known_band(name) for name in ("red", "green", "blue")))
    assert torch.equal(jitter_colour(images, 0.2, generator(), named), jitter_colour(images, 0.2, generator()))


def test_bands_are_dropped_to_their_mean_where_an_image_may_lack_them() -> None:
    images = normalise(deep_images(), fit_preprocessing(IMAGENET, DEEP))
    assert drop_bands(images, 0.0, generator(), DEEP) is images
    gone = drop_bands(images, 1.0, generator(), DEEP)
    assert torch.equal(gone[:, 0], images[:, 0])
    assert not gone[:, 1:].any()
    many = drop_bands(torch.ones(400, 3, 1, 1), 0.3, generator(), DEEP)
    assert float((many[:, 1] == 0).float().mean()) == pytest.approx(0.3, abs=0.06)
    plain = torch.ones(4, 3, 2, 2)
    assert drop_bands(plain, 1.0, generator(), PLAIN) is plain


def test_what_people_see_of_normalised_images() -> None:
    preprocessing = fit_preprocessing(IMAGENET, DEEP)
    shown = displayed(normalise(deep_images(), preprocessing), preprocessing)
    assert shown.shape == (2, 3, 4, 4)
    assert shown[0, 0, 0, 1] == pytest.approx(40 / 4000, abs=1e-5)
    assert shown[1, 1, 0, 0] == pytest.approx(0.25, abs=1e-5)


def test_bands_without_statistics_are_refused() -> None:
    with pytest.raises(DataError, match="bands without statistics"):
        fit_preprocessing(IMAGENET, Bands((known_band("height"),)))
