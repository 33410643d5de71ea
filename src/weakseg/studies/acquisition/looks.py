"""What networks see of crops: probabilities of a committee and features of an encoder, block by block of a raster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from weakseg.data.crops.augment import normalise
from weakseg.labels.answers import Crop
from weakseg.labels.tags import Window
from weakseg.networks.applicability import join_scales, scale_weights
from weakseg.networks.build import Segmenter
from weakseg.studies.acquisition.change import Floats, Look, join_looks, look_at, take
from weakseg.training.machine import Machine

Image = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

SIDE: Final = 1024  # px of a raster that are seen at once, about: bounds the memory
HALO: Final = 32  # px around them, so that a crop is seen in its surroundings
_WINDOW: Final = 512  # px of an encoder's pass; a multiple of every stride

Read = Callable[[str, Window], Image]
"""Area and window -> pixels uint8 (h, w, 3)."""
Predict = Callable[[str, Window, Image], Maps]
"""Area, window and its pixels -> probabilities (C, h, w)."""


class Grid(NamedTuple):
    """Features (D, rows, columns) of an image; ``cell``: side of a cell, px of the image."""

    features: Maps
    cell: float


class Seen(NamedTuple):
    """What is known of N crops: the committee's look, and features (N, D) with the weights (D,) of the channels."""

    look: Look
    features: Floats
    weights: Floats


def survey(
    crops: Sequence[Crop],
    sizes: Callable[[str], tuple[int, int]],
    read: Read,
    members: Sequence[Predict],
    encode: Callable[[str, Image], tuple[Grid, Floats]],
) -> Seen:
    """Look at crops of any areas with every member of a committee.

    Args:
        sizes: height and width of an area.
        members: at least one.
        encode: area and image -> features and the weights of their channels.

    Returns:
        All of it in the order of ``crops``.
    """
    places: list[int] = []
    looks: list[Look] = []
    features: list[Floats] = []
    weights = np.ones(1)
    for area, frame, inside in blocks_of(crops, sizes):
        image = read(area, frame)
        maps = np.stack([predict(area, frame, image) for predict in members])
        grid, weights = encode(area, image)
        for index, window in inside.items():
            row, column, height, width = window
            looks.append(look_at(maps[:, :, row : row + height, column : column + width]))
            features.append(pool(grid, window))
            places.append(index)
    order = np.argsort(places)
    return Seen(take(join_looks(looks), order), np.stack(features)[order], weights)


def blocks_of(
    crops: Sequence[Crop], sizes: Callable[[str], tuple[int, int]]
) -> Iterator[tuple[str, Window, dict[int, Window]]]:
    """Crops by blocks of ``SIDE`` px: area, a window around them with a halo, by index where in it each crop lies."""
    blocks: dict[tuple[str, int, int], list[int]] = {}
    for index, (area, (row, column, height, width)) in enumerate(crops):
        place = area, (row + height // 2) // SIDE, (column + width // 2) // SIDE
        blocks.setdefault(place, []).append(index)
    for (area, _, _), indices in blocks.items():
        frame = _frame([crops[index][1] for index in indices], *sizes(area))
        windows = {index: crops[index][1] for index in indices}
        yield area, frame, {i: (w[0] - frame[0], w[1] - frame[1], w[2], w[3]) for i, w in windows.items()}


def _frame(windows: Sequence[Window], tall: int, wide: int) -> Window:
    """The window around all of these with the halo, as far as the raster goes."""
    rows, columns, heights, widths = np.array(windows).T
    top, left = max(0, int(rows.min()) - HALO), max(0, int(columns.min()) - HALO)
    bottom = min(tall, int((rows + heights).max()) + HALO)
    right = min(wide, int((columns + widths).max()) + HALO)
    return top, left, bottom - top, right - left


def pool(grid: Grid, window: Window) -> Floats:
    """The mean feature (D,) over a window; cells that it holds in part count in part."""
    row, column, height, width = window
    rows = _overlap(grid.features.shape[1], grid.cell, row, row + height)
    columns = _overlap(grid.features.shape[2], grid.cell, column, column + width)
    total = rows.sum() * columns.sum()
    return np.asarray(np.einsum("drc,r,c->d", grid.features, rows, columns) / max(total, 1e-12), np.float64)


def _overlap(cells: int, cell: float, start: float, stop: float) -> Floats:
    """How much of each cell lies between start and stop, px."""
    edges = np.arange(cells + 1) * cell
    return np.asarray(np.maximum(0.0, np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start)), np.float64)


def encode_image(model: Segmenter, image: Image, machine: Machine) -> tuple[Grid, Floats]:
    """Features of all scales of an encoder on the grid of the deepest, and the weights with which they count the same.

    The image is seen in windows side by side, its lower and right rim repeated up to a whole cell.
    """
    height, width = image.shape[:2]
    rows: list[Maps] = []
    weights, cell = np.ones(1), 1.0
    device = machine.torch_device()
    with torch.inference_mode(), machine.autocast():
        for top in range(0, height, _WINDOW):
            parts = []
            for left in range(0, width, _WINDOW):
                cut = _padded(image[top : top + _WINDOW, left : left + _WINDOW])
                batch = torch.from_numpy(cut).permute(2, 0, 1)[None].to(device)
                encoded = model.encode(normalise(batch, model.preprocessing))
                joined = join_scales(encoded)[0].float().cpu().numpy()
                weights = scale_weights(encoded).numpy().astype(np.float64)
                cell = cut.shape[0] / joined.shape[1]
                parts.append(joined)
            rows.append(np.concatenate(parts, 2))
    return Grid(np.concatenate(rows, 1), cell), weights


def _padded(image: Image, multiple: int = 32) -> Image:
    down, right = -image.shape[0] % multiple, -image.shape[1] % multiple
    return np.ascontiguousarray(np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge"))
