"""Crops seen through blocks of a raster: every crop gets its own pixels and its own part of the features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weakseg.labels.tags import Window
from weakseg.networks.applicability import scale_weights
from weakseg.networks.build import build_segmenter
from weakseg.studies.acquisition import looks
from weakseg.studies.acquisition.looks import Grid, Image, Maps, blocks_of, encode_image, pool, survey
from weakseg.training.machine import Machine


def test_a_window_takes_its_part_of_every_cell() -> None:
    """Cells of 4 px valued 0, 1, 2 / 3, 4, 5: columns 2 to 8 are half of the first and all of the second."""
    grid = Grid(np.arange(6, dtype=np.float32).reshape(1, 2, 3), 4.0)
    assert pool(grid, (0, 2, 4, 6)) == pytest.approx([(0 * 2 + 1 * 4) / 6])
    assert pool(grid, (2, 0, 4, 4)) == pytest.approx([1.5])


def test_blocks_hold_their_crops_with_a_halo_inside_the_raster() -> None:
    crops = [("a", (0, 0, 50, 50)), ("a", (1990, 40, 10, 60)), ("b", (10, 10, 5, 5)), ("a", (100, 100, 50, 50))]
    found = list(blocks_of(crops, lambda area: (2000, 170) if area == "a" else (16, 16)))
    assert [(area, frame) for area, frame, _ in found] == [
        ("a", (0, 0, 182, 170)),
        ("a", (1958, 8, 42, 124)),
        ("b", (0, 0, 16, 16)),
    ]
    assert [inside for _, _, inside in found] == [
        {0: (0, 0, 50, 50), 3: (100, 100, 50, 50)},
        {1: (32, 32, 10, 60)},
        {2: (10, 10, 5, 5)},
    ]


def test_every_crop_is_seen_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels say their own row; a member that is as sure of class 0 as the row is high gets it back, crop by crop."""
    monkeypatch.setattr(looks, "SIDE", 16)
    crops = [("a", (row, 0, 8, 8)) for row in (40, 0, 24, 8)]

    def read(_area: str, window: Window) -> Image:
        rows = np.arange(window[0], window[0] + window[2], dtype=np.uint8)
        return np.broadcast_to(rows[:, None, None], (window[2], window[3], 3)).copy()

    def member(_area: str, _window: Window, image: Image) -> Maps:
        share = image[..., 0].astype(np.float32) / 100
        return np.stack([share, 1 - share])

    def encode(_area: str, image: Image) -> tuple[Grid, np.ndarray]:
        return Grid(image[None, ..., 0].astype(np.float32), 1.0), np.ones(1)

    seen = survey(crops, lambda _: (48, 8), read, [member], encode)
    assert seen.features[:, 0].tolist() == pytest.approx([43.5, 3.5, 27.5, 11.5])  # the mean row of each
    assert seen.look.won[:, 1].tolist() == [64.0] * 4
    assert seen.look.doubt[:, 0] == pytest.approx(
        [sum(8 * 2 * r / 100 * (1 - r / 100) for r in range(t, t + 8)) for t in (40, 0, 24, 8)], rel=1e-5
    )


def test_features_cover_an_image_of_any_size_in_one_window_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_segmenter("encdec_unpool", 3, encoder="", weights="none", width=16, dropout=0.0).eval()
    image = np.random.default_rng(0).integers(0, 255, (70, 100, 3), np.uint8).astype(np.uint8)
    grid, weights = encode_image(model, image, Machine(device="cpu", precision="no"))
    assert grid.features.shape[1] * grid.cell >= 70
    assert grid.features.shape[2] * grid.cell >= 100
    assert grid.features.shape[0] == len(weights)
    encoded = model.encode(torch.zeros(1, 3, 96, 128))
    assert weights == pytest.approx(scale_weights(encoded).numpy())
    assert grid.cell == 96 / encoded.features[-1].shape[2]
    monkeypatch.setattr(looks, "_WINDOW", 64)
    again, _ = encode_image(model, image, Machine(device="cpu", precision="no"))
    assert again.features.shape == grid.features.shape
