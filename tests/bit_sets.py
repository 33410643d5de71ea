"""Sets of classes written as bits, bit c for class c: short to write by hand in tests of few classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.class_sets import Allowed, SetTable
from weakseg.data.store import SETS, open_array, save_array
from weakseg.networks.class_sets import AllowedBatch


def allowed_of(bits: npt.ArrayLike, classes: int) -> Allowed:
    """Bits (H, W) -> which classes may occur at each pixel."""
    raster, table = np.asarray(bits, np.int64), SetTable(classes)
    used, inverse = np.unique(raster, return_inverse=True)
    rows = np.array([table.number((one >> np.arange(classes) & 1).astype(bool)) for one in used], np.int32)
    return Allowed(rows[inverse].reshape(raster.shape), table.sets)


def bits_of(allowed: Allowed) -> npt.NDArray[np.int64]:
    """The other way round."""
    values = (allowed.sets.astype(np.int64) << np.arange(allowed.sets.shape[1])).sum(1)
    return np.asarray(values[allowed.numbers])


def batch_of(bits: torch.Tensor, classes: int) -> AllowedBatch:
    """Bits (B, H, W) -> the same for a batch."""
    found = allowed_of(bits.numpy().reshape(-1, bits.shape[-1]), classes)
    return AllowedBatch(torch.from_numpy(found.numbers).reshape(bits.shape), torch.from_numpy(found.sets))


def save_bits(tiles: Path, area: str, bits: npt.ArrayLike) -> None:
    """Put these sets in the place of those that the tiles stage wrote for an area."""
    sets = np.array(open_array(tiles, SETS))
    table = SetTable(sets.shape[1], sets)
    save_array(tiles / "allowed", area, allowed_of(bits, sets.shape[1]).numbered_in(table))
    save_array(tiles, SETS, table.sets)
