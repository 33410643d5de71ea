"""Resampling of any part of a raster as if the whole of it were resampled: windows and bands of rows fit together.

cv2.resize on a piece puts its sample points elsewhere than on the whole, unless sizes divide evenly; so each axis is a
sparse matrix of the whole axis here, and a piece takes its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from weakseg.core.errors import DataError

Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""First input px and number of input px of every output px; the weights of all, in a row."""


@dataclass(frozen=True)
class Axis:
    """One axis of ``size_in`` px resampled to ``size_out`` px; px i covers [i, i + 1) on both.

    Attributes:
        matrix: (size_out, size_in) with rows that sum to 1, None where the sizes are equal and nothing changes.
        starts, ends: int64 (size_out,), the input px [start, end) that each output px needs; both never fall.
    """

    size_in: int
    size_out: int
    matrix: Any
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The input px [from, to) that the output px [first, last) need."""
        return int(self.starts[first]), int(self.ends[last - 1])

    def reach(self, available: int) -> int:
        """How many output px need none but the first ``available`` input px."""
        return int(np.searchsorted(self.ends, available, side="right"))

    def apply(self, values: npt.NDArray[Any], axis: int, first: int, last: int, origin: int) -> npt.NDArray[Any]:
        """Output px [first, last) along ``axis`` of ``values``, whose first px on it is the input px ``origin``."""
        low, high = self.needs(first, last)
        moved = np.moveaxis(values, axis, 0)[low - origin : high - origin]
        if self.matrix is None:
            return np.moveaxis(moved, 0, axis)
        part = self.matrix[first:last, low:high]
        mixed = part @ moved.reshape(high - low, -1).astype(np.float32, copy=False)
        return np.moveaxis(mixed.reshape(last - first, *moved.shape[1:]), 0, axis)


def resize_image(image: npt.NDArray[Any], size: tuple[int, int], how: int) -> npt.NDArray[Any]:
    """cv2.resize of an image (H, W) or (H, W, K) of any number of bands to ``size`` (width, height), same dtype.

    cv2's INTER_AREA takes four channels at most, so that further ones go in groups.
    """
    if image.ndim == 2 or 1 < image.shape[2] <= 4:
        return np.asarray(cv2.resize(image, size, interpolation=how))
    groups = [np.ascontiguousarray(image[..., first : first + 4]) for first in range(0, image.shape[2], 4)]
    resized = [cv2.resize(group, size, interpolation=how) for group in groups]
    return np.concatenate([part.reshape(*size[::-1], -1) for part in resized], axis=2)


def plan_axis(size_in: int, size_out: int) -> Axis:
    """Mean over the covered length when it shrinks, linear between pixel centres when it grows.

    The same rules as cv2's INTER_AREA and INTER_LINEAR, which the training data were resampled with.
    """
    if size_in < 1 or size_out < 1:
        raise DataError(f"resampling {size_in} to {size_out} px", expected="1 px or more", cure="check the scale")
    places = np.arange(size_out, dtype=np.int64)
    if size_in == size_out:
        return Axis(size_in, size_out, None, places, places + 1)
    starts, counts, weights = (_shrink if size_out < size_in else _grow)(size_in, size_out)
    pointer = np.concatenate([[0], np.cumsum(counts)])
    columns = np.repeat(starts - pointer[:-1], counts) + np.arange(pointer[-1])
    matrix = csr_matrix((weights.astype(np.float32), columns, pointer), shape=(size_out, size_in))
    return Axis(size_in, size_out, matrix, starts, starts + counts)


def _shrink(size_in: int, size_out: int) -> Taps:
    step = size_in / size_out
    edges = np.minimum(np.arange(size_out + 1) * step, size_in)
    starts = np.floor(edges[:-1] + 1e-6).astype(np.int64)
    counts = np.maximum(1, np.ceil(edges[1:] - 1e-6).astype(np.int64) - starts)
    owner = np.repeat(np.arange(size_out), counts)
    pixel = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + starts[owner]
    lengths = np.minimum(edges[owner + 1], pixel + 1) - np.maximum(edges[owner], pixel)
    return starts, counts, lengths / np.bincount(owner, weights=lengths)[owner]


def _grow(size_in: int, size_out: int) -> Taps:
    centres = np.clip((np.arange(size_out) + 0.5) * size_in / size_out - 0.5, 0, size_in - 1)
    starts = np.minimum(np.floor(centres).astype(np.int64), max(0, size_in - 2))
    counts = np.full(size_out, min(2, size_in))
    if size_in == 1:
        return starts, counts, np.ones(size_out)
    share = centres - starts
    return starts, counts, np.stack([1 - share, share], axis=1).ravel()
