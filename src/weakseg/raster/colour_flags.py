"""What the colour flags of a file's bands say, where they say anything.

GDAL flags the first three bands of every picture red, green and blue, infrared ones too: that says nothing. Flags in
any other order were set by somebody, and count where no band has a description. Those of ENVI are about display alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weakseg.core.bands import COLOURS
from weakseg.core.errors import DataError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_DISPLAY: Final = ("ENVI",)
_OTHER: Final = frozenset(("hue", "saturation", "lightness", "cyan", "magenta", "yellow", "black", "Y", "Cb", "Cr"))


def check_light(path: Path | str, file: DatasetReader) -> None:
    """Refuse (DataError) bands that are no light as it was measured: of another colour space, or with white as zero."""
    other = [kind.name for kind in file.colorinterp if kind.name in _OTHER]
    white = file.count == 1 and file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    if other or white:
        raise DataError(
            f"{path}: " + (f"bands flagged {', '.join(other)}" if other else "a grey band whose white is 0"),
            expected="red, green, blue and other bands, brighter where their numbers are larger",
            cure="convert it where it was made, or mend its flags (gdal_edit.py -colorinterp_1 red, and so on)"
            if other
            else "invert it, gdal_translate -scale 0 255 255 0 -co PHOTOMETRIC=MINISBLACK",
        )


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
