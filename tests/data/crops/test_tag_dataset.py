"""Batches of tag crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weakseg.data.crops.tag_dataset import TagCropDataset, cut_crop
from weakseg.data.manifest import TagCrops

CROPS = TagCrops(
    ("a_0_0", "a_0_8", "b_0_0"),
    ("a", "a", "b"),
    ("tags",) * 3,
    np.array([(0, 0, 8, 8), (0, 8, 8, 8), (0, 0, 4, 6)], np.int64),
    np.array([[1, 0], [0, 1], [1, 1]], bool),
    np.ones((3, 2), bool),
)
KNOWN = np.array([[1, 1], [1, 0], [0, 1]], bool)


def images() -> dict[str, np.ndarray]:
    """Crop 0 is 10, crop 1 is 20, crop 2 is 30, all else 99."""
    a, b = np.full((8, 16, 3), 10, np.uint8), np.full((8, 8, 3), 99, np.uint8)
    a[:, 8:], b[:4, :6] = 20, 30
    return {"a": a, "b": b}


def dataset(weights: tuple[float, ...] = (0.5, 0.25, 0.25), **options: int) -> TagCropDataset:
    base = {"side": 8, "batch": 6, "steps": 5, "seed": 0}
    return TagCropDataset(images(), CROPS, KNOWN, np.array(weights), **(base | options))


def test_picture_tags_and_known_belong_together() -> None:
    for step in range(5):
        crops = dataset()[step]["crops"]
        assert crops["image"].shape == (6, 3, 8, 8)
        number = (crops["image"][:, 0, 0, 0].long() // 10 - 1).tolist()
        assert torch.equal(crops["image"], crops["image"][:, :1, :1, :1].expand_as(crops["image"]))
        assert crops["tags"].tolist() == CROPS.present[number].tolist()
        assert crops["known"].tolist() == KNOWN[number].tolist()


def test_weights_decide() -> None:
    assert all((dataset((0.0, 0.0, 1.0))[step]["crops"]["image"] == 30).all() for step in range(5))
    many = dataset((0.2, 0.8, 0.0), batch=1000)[0]["crops"]["image"][:, 0, 0, 0]
    assert (many == 20).float().mean().item() == pytest.approx(0.8, abs=0.05)


def test_pure_function_of_the_step_and_split_over_ranks() -> None:
    whole = dataset()[3]["crops"]
    assert torch.equal(dataset()[3]["crops"]["image"], whole["image"])
    assert not torch.equal(dataset(batch=50)[3]["crops"]["tags"], dataset(batch=50)[2]["crops"]["tags"])
    parts = [dataset(rank=rank, world=2)[3]["crops"] for rank in range(2)]
    for name in ("image", "tags", "known"):
        assert torch.equal(torch.stack([parts[0][name], parts[1][name]], 1).flatten(0, 1), whole[name])


def test_cut_crop_by_hand() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(cut_crop(image, (1, 2, 2, 2), 2), image[1:3, 2:4])
    mean = cut_crop(image, (0, 0, 4, 4), 2)  # shrinking averages
    assert mean[0, 0].tolist() == pytest.approx(image[:2, :2].reshape(-1, 3).mean(0), abs=0.6)
