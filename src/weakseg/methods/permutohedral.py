"""Gaussian filtering of features of any dimension on the permutohedral lattice, compiled by numba.

Adams, Baek and Davis (Eurographics 2010), in the form that Krähenbühl's dense CRF uses, with its order of float32
operations: the vertices and weights are the same to the bit, and so is nearly every sum. What differs is what costs
nothing in exactness: a vertex is found by one 64-bit key instead of d 16-bit coordinates, and the values of all classes
of a vertex lie side by side, in a number that the compiler knows.

The first use in a process loads the compiled code from numba's cache (a fraction of a second); the first on a machine
compiles (some seconds). This module imports numba when it is imported: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt

P = ParamSpec("P")
R = TypeVar("R")
Floats = npt.NDArray[np.float32]
Lanes = tuple[float, ...]  # its length is a constant to the compiler; its values are not used

# A vertex's key is the sum of its coordinates times these odd numbers, modulo 2**64: neighbours differ by a known sum,
# and two of a million vertices share a key once in ten million lattices.
MULTIPLIERS: Final = np.array(
    [
        *(0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93),
        *(0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3),
    ],
    np.uint64,
)
BLOCK: Final = 4  # points


class Lattice(NamedTuple):
    """The vertices around n points in d dimensions; m of them in all, numbered from 1 (0 is "none").

    Attributes:
        vertex: int32 (n, d + 1), the corners of the simplex that each point lies in.
        weight: float32 (n, d + 1), its barycentric coordinates.
        near: int32 (d + 1, m, 2), the two neighbours of each vertex along each direction, 0 where there is none.
    """

    vertex: npt.NDArray[np.int32]
    weight: Floats
    near: npt.NDArray[np.int32]


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``numba.njit`` with a type, and with a cache on disk where one can be written."""
    try:
        compiled: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written: compile in each process
        compiled = numba.njit(nogil=True)(function)
    return compiled


@_compiled
def _find(
    keys: npt.NDArray[np.uint64], slots: npt.NDArray[np.int32], shift: np.uint64, key: np.uint64
) -> tuple[np.int32, np.int64]:
    """(vertex or 0, slot) of a key in the open hash table ``slots``, whose size is 2 ** (64 - shift)."""
    slot = np.int64(key >> shift)
    while slots[slot] > 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & (len(slots) - 1)
    return slots[slot], slot


@_compiled
def _enclose(point: Floats, scale: Floats, corner: Floats, rank: npt.NDArray[np.int64], inside: Floats) -> None:
    """The simplex of one point: its 0-coloured ``corner``, ``rank`` of each coordinate, barycentric ``inside``."""
    d = len(point)
    down, up = np.float32(1) / np.float32(d + 1), np.float32(d + 1)
    place = np.empty(d + 1, np.float32)
    total = np.float32(0)
    for j in range(d, 0, -1):
        step = point[j - 1] * scale[j - 1]
        place[j] = total - np.float32(j) * step
        total += step
    place[0] = total
    excess = np.int64(0)
    for i in range(d + 1):
        nearest = np.float32(np.rint(down * place[i]))
        corner[i] = nearest * up
        excess += np.int64(nearest)
    rank[:] = excess
    for i in range(d):
        for j in range(i + 1, d + 1):
            if place[i] - corner[i] < place[j] - corner[j]:
                rank[i] += 1
            else:
                rank[j] += 1
    inside[:] = 0
    for i in range(d + 1):
        if rank[i] < 0:
            rank[i] += d + 1
            corner[i] += up
        elif rank[i] > d:
            rank[i] -= d + 1
            corner[i] -= up
        part = (place[i] - corner[i]) * down
        inside[d - rank[i]] += part
        inside[d - rank[i] + 1] -= part
    inside[0] += np.float32(1) + inside[d + 1]


@_compiled
def _grown(keys: npt.NDArray[np.uint64], filled: int, bits: int) -> npt.NDArray[np.int32]:
    """A hash table of 2 ** bits slots that holds the vertices 1..filled."""
    slots = np.zeros(1 << bits, np.int32)
    for vertex in range(1, filled + 1):
        slots[_find(keys, slots, np.uint64(64 - bits), keys[vertex])[1]] = vertex
    return slots


@_compiled
def _build(
    points: Floats, scale: Floats, multipliers: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.int32]]:
    n, d = points.shape
    bits = 10
    keys, slots, filled = np.zeros(n * (d + 1) + 1, np.uint64), np.zeros(1 << bits, np.int32), 0
    vertex, weight = np.empty((n, d + 1), np.int32), np.empty((n, d + 1), np.float32)
    corner, rank, inside = np.empty(d + 1, np.float32), np.empty(d + 1, np.int64), np.empty(d + 2, np.float32)
    first = np.zeros(d + 1, np.int64)  # the coordinate of each rank
    ones = np.uint64(0)
    for i in range(d):
        ones += multipliers[i]
    for number in range(n):
        _enclose(points[number], scale, corner, rank, inside)
        key = np.uint64(0)
        for i in range(d + 1):
            first[rank[i]] = i
            if i < d:
                key += np.uint64(np.int64(corner[i])) * multipliers[i]
        for colour in range(d + 1):
            if colour > 0:  # all coordinates one up, and the one that is now beyond the simplex back by d + 1
                key += ones
                last = first[d + 1 - colour]
                if last < d:
                    key -= np.uint64(d + 1) * multipliers[last]
            found, slot = _find(keys, slots, np.uint64(64 - bits), key)
            if found == 0:
                filled += 1
                found = np.int32(filled)
                keys[filled], slots[slot] = key, filled
                if 2 * filled > len(slots):
                    bits += 1
                    slots = _grown(keys, filled, bits)
            vertex[number, colour], weight[number, colour] = found, inside[colour]
    near = np.empty((d + 1, filled, 2), np.int32)
    for j in range(d + 1):
        step = np.uint64(d + 1) * multipliers[j] - ones if j < d else np.uint64(0) - ones
        for i in range(filled):
            near[j, i, 0] = _find(keys, slots, np.uint64(64 - bits), keys[i + 1] + step)[0]
            near[j, i, 1] = _find(keys, slots, np.uint64(64 - bits), keys[i + 1] - step)[0]
    return vertex, weight, near


@_compiled
def _filter(
    vertex: npt.NDArray[np.int32],
    into: Floats,
    near: npt.NDArray[np.int32],
    out_of: Floats,
    values: Floats,
    result: Floats,
    lanes: Lanes,
) -> None:
    """Add the filtered values (n, lanes) to ``result``; ``into``, ``out_of`` (n, d + 1): weights of splat and slice."""
    n, corners = vertex.shape
    old, new = (
        np.zeros((near.shape[1] + 1, len(lanes)), np.float32),
        np.zeros((near.shape[1] + 1, len(lanes)), np.float32),
    )
    for number in range(n):
        for corner in range(corners):
            place, weight = vertex[number, corner], into[number, corner]
            for lane in range(len(lanes)):
                old[place, lane] += weight * values[number, lane]
    half = np.float32(0.5)
    for direction in range(corners):
        for place in range(near.shape[1]):
            before, after = near[direction, place]
            for lane in range(len(lanes)):
                new[place + 1, lane] = old[place + 1, lane] + half * (old[before, lane] + old[after, lane])
        old, new = new, old
    for number in range(n):
        for corner in range(corners):
            place, weight = vertex[number, corner], out_of[number, corner]
            for lane in range(len(lanes)):
                result[number, lane] += weight * old[place, lane]


@_compiled
def _subtract_greatest(logits: Floats, lanes: Lanes) -> None:
    for number in range(len(logits)):
        greatest = logits[number, 0]
        for lane in range(len(lanes)):
            greatest = max(greatest, logits[number, lane])
        for lane in range(len(lanes)):
            logits[number, lane] -= greatest


@_compiled
def _divide_by_sum(values: Floats, lanes: Lanes) -> None:
    for number in range(len(values)):
        total = np.float32(0)
        for lane in range(len(lanes)):
            total += values[number, lane]
        for lane in range(len(lanes)):
            values[number, lane] /= total


def softmax(logits: Floats) -> None:
    """Turn logits (n, lanes) into probabilities, in place; a lane of -inf becomes 0."""
    lanes = (0.0,) * logits.shape[1]
    _subtract_greatest(logits, lanes)
    np.exp(logits, out=logits)
    _divide_by_sum(logits, lanes)


def build_lattice(points: Floats) -> Lattice:
    """The lattice of points (n, d), d at most 8, in units of the Gaussian's standard deviation."""
    d = points.shape[1]
    if d > len(MULTIPLIERS):
        raise ValueError(f"points of {d} dimensions; expected at most {len(MULTIPLIERS)}")
    scale = [1 / np.sqrt((i + 2) * (i + 1)) * float(np.float32(np.sqrt(2 / 3) * (d + 1))) for i in range(d)]
    return Lattice(*_build(np.ascontiguousarray(points, np.float32), np.array(scale, np.float32), MULTIPLIERS))


class Kernel:
    """A normalised Gaussian kernel over points: ``add`` filters values of all of them.

    Normalisation is symmetric: value and result are both over the root of what the filter makes of ones. Points at 0
    fill the last block of four, as in ``pydensecrf``: they take no part, but the vertices around them pass values on,
    which moves marginals by up to 2e-3 (seen on a crop of 255 px).
    """

    def __init__(self, points: Floats) -> None:
        filled = np.pad(points, ((0, -len(points) % BLOCK), (0, 0)))
        vertex, weight, near = build_lattice(filled)
        vertex, weight = vertex[: len(points)], weight[: len(points)]
        self._lattice = Lattice(vertex, weight, near)
        ones, total = np.ones((len(points), 1), np.float32), np.zeros((len(points), 1), np.float32)
        self._alpha = np.float32(1 / (1 + 2.0 ** -points.shape[1]))
        _filter(vertex, weight, near, weight * self._alpha, ones, total, (0.0,))
        self._weight = weight / np.sqrt(total + np.float32(1e-20))

    def add(self, values: Floats, gain: float, result: Floats) -> None:
        """Add ``gain`` times the filtered values to ``result``; both float32 (n, lanes)."""
        vertex, _, near = self._lattice
        out_of = self._weight * (self._alpha * np.float32(gain))
        _filter(vertex, self._weight, near, out_of, values, result, (0.0,) * values.shape[1])
