"""Heights of the procedural scenes, as a stereo surface model less a terrain model gives them.

Draws come from a generator of their own, so that images and masks have the same bytes with and without heights.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from weakseg.core.bands import Band, Bands, known_band
from weakseg.data.scenes.shapes import Dice, Plane

METRES: Final = 0.3  # per px, across and up
HOLES: Final = 2.1  # spreads of a texture above which matching has failed: about 2 % of the px, in patches
_STREAM: Final = 7  # of the draws, beside those of the image


def scene_bands() -> Bands:
    """What data/bands.yaml says of scenes with heights."""
    optical = [known_band(name, source="procedural") for name in ("nir", "red", "green")]
    height: Band = known_band("height", dtype="float32", low=0.0, high=8.0, source="procedural, above ground")
    return Bands((*optical, height))


def draw_heights(height: Plane, seed: int, number: int) -> npt.NDArray[np.float32]:
    """Metres above ground float32 (H, W) in steps of a centimetre, NaN in holes, from true heights (H, W) in px.

    Edges are as blunt as matching windows leave them, the terrain model is off by some decimetres over tens of metres.
    """
    dice = Dice(np.random.default_rng([seed, number, _STREAM]))
    shape = height.shape[0], height.shape[1]
    blunt = METRES * height
    for _ in range(2):
        blunt = uniform_filter(blunt, 3, mode="nearest")
    error = dice.real(0.05, 0.25) * dice.noise(shape, 20) + dice.real(0.05, 0.2) * dice.noise(shape, 0)
    found = np.rint((blunt + error) * 100) / 100
    return np.where(dice.noise(shape, 3) > HOLES, np.nan, found).astype(np.float32)
