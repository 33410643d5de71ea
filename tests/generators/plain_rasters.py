"""Files that tests write as other programs do."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio


def save_raster(path: Path, layers: np.ndarray, driver: str = "GTiff", **options: object) -> Path:
    """Write (bands, H, W) with plain rasterio."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bands, height, width = layers.shape
        shape = {"count": bands, "height": height, "width": width, "dtype": layers.dtype.name}
        with rasterio.open(path, "w", driver=driver, **shape, **options) as file:
            file.write(layers)
    return path
