"""The rasters of a workspace that a page may open by their paths: nothing outside it, wherever links lead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from weakseg.core.errors import DataError
from weakseg.raster.formats import RASTER_SUFFIXES, plain_driver

_LISTED: Final = 300  # rasters of the workspace that are offered
_LOOKED_AT: Final = 20_000  # entries of its folders, until looking ends


def find_inside(root: Path | None, text: str) -> Path:
    """The raster of a workspace that a path names, its links followed; nothing is told of what lies outside.

    Args:
        root: resolved; None refuses all.

    Raises:
        DataError: no file of this workspace, or none of the formats that are read.
    """
    path = None if root is None or "\0" in text else (root / text).resolve()
    if root is None or path is None or not path.is_relative_to(root) or not path.is_file():
        raise DataError(
            f"{text[:200]}: no raster of this workspace",
            expected="a path inside it",
            cure="choose one of the list, or upload the file",
        )
    if path.suffix.lower() not in RASTER_SUFFIXES:
        raise DataError(f"{text[:200]}", expected="a .tif, .png or .jpg", cure="convert it with gdal_translate")
    plain_driver(path)  # by its bytes: a virtual raster would read files elsewhere
    return path


def rasters_below(root: Path) -> Iterator[str]:
    """Paths of some hundreds of rasters in a folder, without links to folders and folders that begin with a dot."""
    count = looked = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        looked += len(names) + len(folders)
        for name in sorted(names):
            if Path(name).suffix.lower() in RASTER_SUFFIXES and not name.startswith("."):
                count += 1
                yield str((Path(folder) / name).relative_to(root))
            if count >= _LISTED:
                return
        if looked >= _LOOKED_AT:
            return
