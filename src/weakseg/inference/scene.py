"""Sliding-window inference over whole scenes: the same code for evaluation, teacher, prediction and serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.errors import DataError, ParamsError
from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.data.windows import blend_weights, cover_windows
from weakseg.training.machine import Machine

View = tuple[int, bool]
PLAIN: tuple[View, ...] = ((0, False),)
MIRRORED: tuple[View, ...] = ((0, False), (0, True))
DIHEDRAL: tuple[View, ...] = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""The eight flips and quarter turns (D4) as (quarter turns, flip)."""
ONE_SCALE: tuple[float, ...] = (1.0,)


def view_of(images: Tensor, view: View) -> Tensor:
    """Images (B, C, H, W) -> the same turned by quarter turns, then mirrored left to right."""
    turns, flip = view
    turned = torch.rot90(images, turns, dims=(2, 3)) if turns else images  # rot90 copies even where nothing turns
    return turned.flip(3) if flip else turned


def undo_view(maps: Tensor, view: View) -> Tensor:
    """Inverse of :func:`view_of`."""
    turns, flip = view
    flipped = maps.flip(3) if flip else maps
    return torch.rot90(flipped, -turns, dims=(2, 3)) if turns else flipped


@torch.no_grad()
def predict_probabilities(
    model: nn.Module, images: Tensor, views: Sequence[View] = PLAIN, scales: Sequence[float] = ONE_SCALE
) -> Tensor:
    """Normalised images (B, 3, H, W) -> probabilities (B, C, H, W) float32, the mean over the views at every scale."""
    return mean_over_views(lambda x: model(x).float().softmax(1), images, views, scales)


def mean_over_views(
    network: Callable[[Tensor], Tensor], images: Tensor, views: Sequence[View], scales: Sequence[float] = ONE_SCALE
) -> Tensor:
    """The mean of what a network says about an image turned, mirrored and resized.

    Args:
        network: normalised images (B, 3, h, w) of any size -> probabilities (B, C, h, w).
        scales: sides of the image that the network sees, as a share of the image's own; bilinear, with a low-pass
            filter where it shrinks. The maps are brought back bilinearly, which keeps sums of 1.

    Returns:
        (B, C, H, W), at the size of ``images``.
    """
    total: Tensor | None = None
    for scale in scales:
        sized = images if scale == 1 else resize(images, scale)
        for view in views:
            maps = undo_view(network(view_of(sized, view)), view)
            if maps.shape[2:] != images.shape[2:]:
                maps = F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
            total = maps if total is None else total + maps
    if total is None:
        raise DataError("no view or scale", expected="at least one of each", cure="pass PLAIN and ONE_SCALE")
    count = len(views) * len(scales)
    return total if count == 1 else total / count


def resize(images: Tensor, scale: float) -> Tensor:
    """Images (B, C, H, W) -> sides times ``scale``, rounded, at least 1 px."""
    if not 0.1 <= scale <= 10:
        raise ParamsError(f"scale {scale}", expected="0.1 to 10", cure="mend --scales")
    size = [max(1, round(length * scale)) for length in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=scale < 1)


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
    total /= mass
    return total


def seam_share(
    classify: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]], image: npt.NDArray[np.uint8], *, window: int
) -> float:
    """How much of a map depends on where the windows happen to lie: the seams that blending leaves.

    The image is classified twice, on grids of windows that lie a quarter of a window apart down and to the right, and
    the two maps are compared on the pixels that both see at least an eighth of a window away from their borders.

    Args:
        classify: image uint8 (H, W, 3) -> classes uint8 (H, W), the same windows for images of the same size.
        image: of it at most four windows a side are used, so that the cost is bounded.
        window: side of the windows, px.

    Returns:
        Share of pixels, in [0, 1], whose class changes; NaN where the image is too small for any pixel to compare.
    """
    shift, margin = max(1, window // 4), window // 8
    part = image[: 4 * window + shift, : 4 * window + shift]
    if min(part.shape[:2]) <= 2 * (shift + margin):
        return float("nan")
    still, moved = classify(part[:-shift, :-shift]), classify(part[shift:, shift:])
    low = shift + margin
    height, width = (length - 2 * low for length in part.shape[:2])
    changed = still[low : low + height, low : low + width] != moved[margin : margin + height, margin : margin + width]
    return float(changed.mean())
