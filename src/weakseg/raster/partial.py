"""Masks in which only part of an area is labelled: what they do not label is not absent, it is unknown.

In other masks ``IGNORE`` (255) is what is of no class: clutter, borders. There a window's classes are those of its
labelled pixels, and all others are absent. A mask says by a tag of the file that 255 means "nobody has looked".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weakseg.raster.stream import raster_tags

_KEY: Final = "WEAKSEG_LABELLED"
PARTLY: Final[Mapping[str, str]] = {_KEY: "partly"}
"""The tag of such a file, for ``write_raster``."""


def is_partly_labelled(path: Path) -> bool:
    """Whether a mask says that it labels part of its area."""
    return raster_tags(path).get(_KEY) == PARTLY[_KEY]
