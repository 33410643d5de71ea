"""Sliding-window inference over whole scenes: the same code for evaluation, teacher, prediction and serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from weakseg.data.augment import Preprocessing, normalise
from weakseg.data.tiles import blend_weights, cover_windows
from weakseg.errors import DataError
from weakseg.training.machine import Machine

View = tuple[int, bool]
PLAIN: tuple[View, ...] = ((0, False),)
MIRRORED: tuple[View, ...] = ((0, False), (0, True))
DIHEDRAL: tuple[View, ...] = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight flips and quarter turns (D4) as (quarter turns, flip)."""


def view_of(images: Tensor, view: View) -> Tensor:
    """Images (B, C, H, W) -> the same turned by quarter turns, then mirrored left to right."""
    turns, flip = view
    turned = torch.rot90(images, turns, dims=(2, 3))
    return turned.flip(3) if flip else turned


def undo_view(maps: Tensor, view: View) -> Tensor:
    """Inverse of :func:`view_of`."""
    turns, flip = view
    return torch.rot90(maps.flip(3) if flip else maps, -turns, dims=(2, 3))


@torch.no_grad()
def predict_probabilities(model: nn.Module, images: Tensor, views: Sequence[View] = PLAIN) -> Tensor:
    """Normalised images (B, 3, H, W) -> probabilities (B, C, H, W) float32, the mean over the views."""
    total: Tensor | None = None
    for view in views:
        probabilities = undo_view(model(view_of(images, view)).float().softmax(1), view)
        total = probabilities if total is None else total + probabilities
    if total is None:
        raise DataError("no view", expected="at least one", cure="pass inference.PLAIN")
    return total / len(views)


def predict_scene(
    model: nn.Module,
    image: npt.NDArray[np.uint8],
    *,
    preprocessing: Preprocessing,
    window: int,
    overlap: float,
    batch: int,
    views: Sequence[View],
    machine: Machine,
) -> npt.NDArray[np.float32]:
    """Class probabilities of a whole scene.

    Args:
        image: uint8 (H, W, 3), any size; one smaller than the window is predicted as it is.
        window: side of the windows, px; their overlap is a share of it.
        batch: windows per forward pass.

    Returns:
        float32 (C, H, W), sums to 1 over C; every pixel is covered, windows cross-fade where they overlap.
    """

    def forward(cut: Tensor) -> Tensor:
        with machine.autocast():
            return predict_probabilities(model, normalise(cut, preprocessing), views)

    model.eval()
    return sweep_windows(forward, image, window=window, overlap=overlap, batch=batch, machine=machine)


def sweep_windows(
    forward: Callable[[Tensor], Tensor],
    image: npt.NDArray[np.uint8],
    *,
    window: int,
    overlap: float,
    batch: int,
    machine: Machine,
) -> npt.NDArray[np.float32]:
    """Apply ``forward`` (uint8 (B, 3, h, w) -> (B, C, h, w)) to windows that cover the image and blend the results."""
    height, width = image.shape[:2]
    rows, columns = min(window, height), min(window, width)
    corners = cover_windows(height, width, window, overlap)
    weights = torch.from_numpy(blend_weights(rows, columns))
    device = machine.torch_device()
    total: npt.NDArray[np.float32] | None = None
    mass = np.zeros((height, width), np.float32)
    for first in range(0, len(corners), batch):
        group = corners[first : first + batch]
        cut = np.stack([image[r : r + rows, c : c + columns] for r, c in group])
        maps = forward(torch.from_numpy(cut).permute(0, 3, 1, 2).to(device))
        weighted = (maps.float().cpu() * weights).numpy()
        if total is None:
            total = np.zeros((weighted.shape[1], height, width), np.float32)
        for part, (r, c) in zip(weighted, group, strict=True):
            total[:, r : r + rows, c : c + columns] += part
            mass[r : r + rows, c : c + columns] += weights.numpy()
    if total is None:
        raise DataError(f"image of {height}x{width} px", expected="at least one pixel", cure="check the raster")
    return total / mass
