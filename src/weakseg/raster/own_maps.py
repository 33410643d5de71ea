"""Which rasters are maps and layers that weakseg predicted: not to be taken for images, and free to be made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from weakseg.core.errors import DataError, ParamsError
from weakseg.raster.stream import MAP_TAGS, raster_tags

IDENTITY: Final = MAP_TAGS[0]


def is_own_map(tags: Mapping[str, str]) -> bool:
    """Whether these metadata are those of a map, a layer beside it or a part of a mosaic."""
    return any(tag in tags for tag in MAP_TAGS)


def check_free(outputs: Sequence[Path]) -> None:
    """Refuse (ParamsError) to write over files that are no maps of weakseg: masks, images, whatever a name hit."""
    for path in outputs:
        if path.is_file() and not _is_ours(path):
            raise ParamsError(
                f"output {path} is there and is no map of weakseg",
                expected="a new name, or a map to make anew",
                cure="choose another name, or delete the file",
            )


def _is_ours(path: Path) -> bool:
    try:
        return is_own_map(raster_tags(path))
    except DataError:  # no raster, or half of one
        return False
