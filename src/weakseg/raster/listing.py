"""Which rasters a path on the command line names: a file, a folder or a pattern; nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from weakseg.core.errors import DataError, ParamsError
from weakseg.raster.formats import COMPANION_SUFFIXES, RASTER_SUFFIXES
from weakseg.raster.safe import is_product

_LISTED: Final = RASTER_SUFFIXES | {".vrt"}  # what a folder is searched for


def is_several(where: str, *, mosaic: bool = False) -> bool:
    """Whether a path names a folder or a pattern of rasters, whose maps go into a folder.

    Raises:
        ParamsError: it names one raster for a ``mosaic``.
    """
    several = Path(where).is_dir() or (_is_pattern(where) and not Path(where).exists())
    if mosaic and not several:
        raise ParamsError("--mosaic with one raster", expected="a folder or quoted pattern", cure="leave it away")
    return several


def _is_pattern(where: str) -> bool:
    return any(mark in where for mark in "*?[")


def list_sources(where: str, *, skip_unread: bool = False, outputs: Sequence[Path] = ()) -> list[Path]:
    """The rasters that a path names: a file, all rasters of a folder, or a pattern such as ``tiles/*.tif``, sorted.

    What exists is never a pattern: ``scene[1].tif`` is that file. Of a pattern, the folders that exist are taken
    literally too.

    Args:
        skip_unread: leave out the files of a folder that are no rasters by their suffix, and folders in it.
        outputs: files and folders of results, which may lie in the folder.

    Raises:
        DataError: nothing there, files that would be left out without ``skip_unread``, or two of one name.
    """
    path = Path(where)
    if is_product(path):
        raise DataError(
            f"{where}: a Sentinel-2 product, bands in files of several resolutions",
            expected="a raster",
            cure=f"stack the model's bands, weakseg data stack {where} {path.stem}.tif --bands blue,green,red,nir",
        )
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in _LISTED)
        if not skip_unread:
            _refuse_unread(path, outputs)
    elif path.exists() or not _is_pattern(where):
        return [path]
    else:
        found = _matching(path)
    if not found:
        raise DataError(f"no raster at {where}", expected="a file, folder or pattern", cure="check the path")
    twice = sorted({p.stem for p in found if sum(q.stem == p.stem for q in found) > 1})
    if twice:
        raise DataError(
            f"{where}: several rasters named {', '.join(twice)}",
            expected="names that differ",
            cure="predict one by one",
        )
    return found


def _matching(pattern: Path) -> list[Path]:
    base, parts = Path(pattern.anchor or "."), list(pattern.parts[bool(pattern.anchor) :])
    while parts and (base / parts[0]).exists():
        base /= parts.pop(0)
    return sorted(p for p in base.glob("/".join(parts)) if p.is_file())


def _refuse_unread(folder: Path, outputs: Sequence[Path]) -> None:
    """Refuse a folder with files that are neither rasters nor their companions, or folders that hold rasters."""
    ours = {path.resolve() for path in outputs}
    unread = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.resolve() in ours:
            continue
        if path.is_dir():
            unread += [f"{path.name}/"] if any(p.suffix.lower() in _LISTED for p in path.rglob("*")) else []
        elif path.suffix.lower() not in _LISTED | COMPANION_SUFFIXES:
            unread.append(path.name)
    if unread:
        named = ", ".join(unread[:5]) + (f" and {len(unread) - 5} more" if len(unread) > 5 else "")
        raise DataError(
            f"{folder}: {named} would not be read",
            expected=f"files ending in {', '.join(sorted(_LISTED))}",
            cure="name the others in a quoted pattern such as 'FOLDER/*.jp2', or pass --skip-unread",
        )
