"""One area as arrays, opened from what the tiles stage wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import Mask
from weakseg.data.manifest import TagCrops
from weakseg.data.store import SETS, open_stored

Image = npt.NDArray[Any]  # (H, W, K) of one of core.bands.DTYPES; of three bands as a rule uint8


@dataclass(frozen=True)
class Area:
    """One area as arrays; as a rule files that are opened where they are cut (:mod:`weakseg.data.stored`).

    Attributes:
        image: (H, W, K), uint8 (H, W, 3) as a rule; bands.yaml has the bands and their depth.
        mask: uint8 (H, W) with 255 for unlabelled, or None.
        allowed: which classes may occur at each of H x W px, or None (all may).
        windows: int32 (H, W), number of the tag crop, -1 for none, or None.
        tags: bool (N, C), classes known to be present, per tag crop, or None.
        window_pixels: int64 (N,), pixels that ``windows`` gives each tag crop, or None.
        name: of the area, for messages.
    """

    image: Image
    mask: Mask | None = None
    allowed: Allowed | None = None
    windows: npt.NDArray[np.int32] | None = None
    tags: npt.NDArray[np.bool_] | None = None
    window_pixels: npt.NDArray[np.int64] | None = None
    name: str = "an area"


def open_area(tiles: Path, name: str, *, masks: Path | None = None, crops: TagCrops | None = None) -> Area:
    """One area, whose arrays are opened where they are used.

    Args:
        tiles: folder of the tiles stage, or of the validation areas, with ``images/``.
        masks: folder of ``<area>.npy`` masks to train on or compare with, or None.
        crops: the manifest; where given, the tag rasters and tags of the area come along.
    """
    image = open_stored(tiles / "images", name)
    mask = open_stored(masks, name) if masks is not None else None
    if crops is None:
        return Area(image, mask, name=name)
    mine = crops.select(area=name)
    windows = open_stored(tiles / "windows", name)
    counts = np.bincount(windows[windows >= 0].ravel(), minlength=len(mine.ids)).astype(np.int64)
    allowed = Allowed(open_stored(tiles / "allowed", name), np.asarray(open_stored(tiles, SETS)))
    return Area(image, mask, allowed, windows, mine.present, counts, name)
