"""What the colour flags of a file's bands say, where they say anything.

GDAL flags the first three bands of every picture red, green and blue, infrared ones too: that says nothing. Flags in
any other order were set by somebody, and count where no band has a description. Those of ENVI are about display alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from weakseg.core.bands import COLOURS

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_DISPLAY: Final = ("ENVI",)


def flagged_colours(file: DatasetReader) -> Mapping[int, str]:
    """Number (from 1) -> colour of the bands flagged red, green and blue in another order than 1, 2, 3; else empty."""
    flags = [kind.name for kind in file.colorinterp]
    if flags[:3] == list(COLOURS) or file.driver in _DISPLAY or any(flags.count(colour) != 1 for colour in COLOURS):
        return {}
    return {flags.index(colour) + 1: colour for colour in COLOURS}


def is_flagged_as_picture(file: DatasetReader) -> bool:
    """Whether the first three bands are flagged red, green, blue."""
    return [kind.name for kind in file.colorinterp[:3]] == list(COLOURS)


def in_colour_order(file: DatasetReader, bands: Sequence[int]) -> list[int]:
    """Three bands as red, green, blue where descriptions or flags say which is which; as they are else."""
    said = {band: (file.descriptions[band - 1] or "").strip().lower() for band in bands}
    if set(said.values()) != set(COLOURS):
        said = {band: colour for band, colour in flagged_colours(file).items() if band in bands}
    return sorted(bands, key=lambda band: COLOURS.index(said[band])) if len(said) == len(COLOURS) else list(bands)
