"""Areas of the split that show the same: one image under two names, or images that overlap on the ground.

Scores of a validation area count only where nothing of it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.data.importing.alignment import box_in, corners_on
from weakseg.raster.header import RasterInfo

LEAST: Final = 0.01  # of a validation area; tiles that touch may share their rim
_NAMED: Final = 3
_CURE: Final = "mend tiles.areas (`weakseg data split`)"


class SameImages:
    """Images that came under another name already: of training, then of validation."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, str]] = {}

    def check(self, area: str, split: str, image: npt.NDArray[Any]) -> str:
        """One more image (H, W, K); a sentence where validation has an image of N2, "" otherwise.

        Images of one value all over are no evidence.

        Raises:
            DataError: validation has an image of N1.
        """
        if (image == image[:1, :1]).all():
            return ""
        digest = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(image).tobytes())
        other, where = self._seen.setdefault(digest.digest(), (area, split))
        if split != "validation" or where == split:
            return ""
        if where == "pixel":
            raise DataError(
                f"validation area {area} is the image of {other} in N1, px for px",
                expected="validation areas that nothing was trained on",
                cure=_CURE,
            )
        return f"validation area {area} is the image of {other} in N2, px for px: it was trained on; {_CURE}"


def describe_overlaps(validation: Mapping[str, RasterInfo], trained: Mapping[str, RasterInfo]) -> str:
    """One sentence on validation areas whose ground is shown by areas of N1 and N2 too, "" where there are none.

    Areas without a CRS and a place in it are not compared.
    """
    groups: dict[str, list[str]] = {}
    for area, info in trained.items():
        if _placed(info):
            groups.setdefault(str(info.crs), []).append(area)
    boxes = {crs: np.array([box_in(trained[area], crs) for area in areas]) for crs, areas in groups.items()}
    found = []
    for area, info in validation.items():
        for crs, others in groups.items() if _placed(info) else ():
            near = _meeting(box_in(info, crs), boxes[crs])
            shares = {others[index]: overlap_of(info, trained[others[index]]) for index in near}
            found += [f"{share:.0%} of {area} in {other}" for other, share in shares.items() if share >= LEAST]
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"validation areas lie on ground that areas of training show too ({', '.join(found[:_NAMED])}{more}): "
        f"scores count what was trained on; {_CURE}"
    )


def overlap_of(one: RasterInfo, other: RasterInfo) -> float:
    """Share of a raster, in [0, 1], that another one covers; rotated ones too. 0 where they cannot be compared."""
    own = np.array([[0, 0], [one.width, 0], [one.width, one.height], [0, one.height]], np.float32)
    there = corners_on(other, one)
    if not np.isfinite(there).all():
        return 0.0
    area, _ = cv2.intersectConvexConvex(own, there.astype(np.float32))
    return float(min(1.0, area / (one.width * one.height)))


def _placed(info: RasterInfo) -> bool:
    return info.crs is not None and info.transform is not None


def _meeting(box: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64]) -> Sequence[int]:
    """Which boxes (N, 4) share anything with one."""
    if not np.isfinite(box).all():
        return []
    return np.flatnonzero((boxes[:, :2] < box[2:]).all(1) & (boxes[:, 2:] > box[:2]).all(1)).tolist()
