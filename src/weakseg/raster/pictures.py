"""Pixels as the files that browsers and requests take, in memory."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def encode_png(layer: Pixels) -> bytes:
    """uint8 (H, W), RGB (H, W, 3) or RGB and alpha (H, W, 4) -> a PNG with these very values."""
    pixels = layer if layer.ndim == 2 else layer[..., [2, 1, 0, 3][: layer.shape[2]]]
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])


def encode_jpeg(image: Pixels) -> bytes:
    """uint8 RGB (H, W, 3) -> a JPEG to look at."""
    return bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
