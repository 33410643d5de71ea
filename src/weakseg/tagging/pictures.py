"""What the page shows: a crop with its surroundings, and its scene, small; read window by window from the raster."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.bands import load_bands
from weakseg.core.files import atomic_path
from weakseg.labels.answers import Crop
from weakseg.labels.tags import Window
from weakseg.raster.open import read_bands, read_overview, read_valid
from weakseg.raster.pictures import encode_jpeg
from weakseg.tagging.proposals import find_image

CONTEXT: Final = 0.35  # surroundings on each side, as a share of the crop's longer side
_SIDE: Final = 1600  # px of a picture at most
_OVERVIEW: Final = 640
_KEPT: Final = 256  # pictures in memory: pages ask for the next crops early, and go back


class CropPictures:
    """Pictures of crops and scenes as JPEG.

    Args:
        images: the folder data/images.
        sizes: height and width by area, px.
        cache: a folder for overviews, which take long to read where a scene is large.
    """

    def __init__(self, images: Path, sizes: Mapping[str, tuple[int, int]], cache: Path) -> None:
        self._images, self._sizes, self._cache = images, sizes, cache
        self._bands = load_bands(images.parent)
        self._one = threading.Lock()
        self.crop = lru_cache(_KEPT)(self._crop)
        self.has_data = lru_cache(None)(self._has_data)

    def frame(self, crop: Crop) -> Window:
        """The window that the picture of a crop shows: the crop and its surroundings, as far as the raster goes."""
        area, (row, column, height, width) = crop
        margin = round(CONTEXT * max(height, width))
        top, left = max(0, row - margin), max(0, column - margin)
        bottom = min(self._sizes[area][0], row + height + margin)
        right = min(self._sizes[area][1], column + width + margin)
        return top, left, bottom - top, right - left

    def pixels(self, area: str, window: Window) -> npt.NDArray[Any]:
        """(height, width, K) of a window, as a network sees it."""
        return read_bands(find_image(self._images, area), self._bands, window=window)

    def shown(self, area: str, window: Window) -> npt.NDArray[np.uint8]:
        """uint8 (height, width, 3) of a window, as people see it."""
        return self._bands.picture(self.pixels(area, window))

    def _crop(self, crop: Crop) -> bytes:
        image = self.shown(crop[0], self.frame(crop))
        factor = _SIDE / max(image.shape[:2])
        if factor < 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return encode_jpeg(image)

    def _has_data(self, crop: Crop) -> bool:
        """Whether there is anything to be seen: collars of mosaics have none."""
        valid = read_valid(find_image(self._images, crop[0]), window=crop[1])
        return valid is None or bool(valid.any())

    def overview(self, area: str) -> bytes:
        """The whole scene. Drawn once and kept: of a huge scene every block has to be read."""
        path = find_image(self._images, area)
        facts = path.stat()
        digest = hashlib.blake2b(f"{area} {facts.st_size} {facts.st_mtime_ns}".encode(), digest_size=12).hexdigest()
        kept = self._cache / f"{digest}.jpg"
        with self._one:
            if not kept.is_file():
                with atomic_path(kept) as temporary:
                    temporary.write_bytes(encode_jpeg(read_overview(path, _OVERVIEW, self._bands)))
            return kept.read_bytes()
