"""The arrays of the areas as the tiles stage writes them: one .npy per area and kind, opened as memory maps.

``tiles/`` holds ``images/`` (N1 and N2), ``labels/`` (N1, hold-out block set to 255), ``holdout/`` (N1, all but the
hold-out block set to 255), ``whole/`` (N1, both), ``allowed/`` (int32 rows of the table ``sets.npy``: which classes the
tags leave), ``windows/`` (int32 row of the tag crop in the area's part of the manifest, -1 outside), ``manifest.csv``,
``areas.csv``, ``classes.yaml``.
``hidden/`` holds N2 labels, ``validation/`` holds ``images/`` and ``labels/``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.core.class_sets import Allowed
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.data.stored import StoredArray

Array = npt.NDArray[Any]
SETS: Final = "sets"  # of classes, of all areas together


def save_array(folder: Path, area: str, array: Array) -> None:
    """Write ``folder/<area>.npy`` whole or not at all."""
    with atomic_path(folder / f"{area}.npy") as temporary:
        np.save(temporary, array)


def open_array(folder: Path, area: str) -> Array:
    """``folder/<area>.npy`` as a read-only memory map."""
    path = folder / f"{area}.npy"
    if not path.is_file():
        raise DataError(f"no array {path}", expected="an output of an earlier stage", cure="run `dvc repro`")
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def open_stored(folder: Path, area: str) -> Array:
    """The same, opened where it is used: of any number of areas at once (:mod:`weakseg.data.stored`)."""
    path = folder / f"{area}.npy"
    if not path.is_file():
        raise DataError(f"no array {path}", expected="an output of an earlier stage", cure="run `dvc repro`")
    return cast(Array, StoredArray(path))


def open_allowed(tiles: Path, area: str) -> Allowed:
    """Which classes the tags of an area leave at each pixel, as the tiles stage wrote it."""
    numbers, sets = open_array(tiles / "allowed", area), open_stored(tiles, SETS)
    return Allowed(np.asarray(numbers), np.asarray(sets)).compact()


def save_areas(folder: Path, rows: Iterable[tuple[str, str, int, int]]) -> None:
    """Write ``areas.csv``: area, split (pixel, tags or validation), height and width in px."""
    with atomic_path(folder / "areas.csv") as temporary:
        pd.DataFrame(list(rows), columns=["area", "split", "height", "width"]).to_csv(temporary, index=False)


def list_areas(folder: Path, *splits: str) -> list[str]:
    """Names of the areas of these splits, in the order of params.yaml; all areas without any split named."""
    path = folder / "areas.csv"
    if not path.is_file():
        raise DataError(f"no table {path}", expected="an output of the tiles stage", cure="run `dvc repro tiles`")
    table = pd.read_csv(path, dtype={"area": str}, keep_default_na=False)  # an area may be called NA
    return [str(a) for a, split in zip(table["area"], table["split"], strict=True) if not splits or split in splits]


def fingerprint(*paths: Path) -> str:
    """Hex digest (blake2b, 16 bytes) of the contents of files and folders: equal exactly for equal inputs."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(str(file.relative_to(path.parent)).encode())
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()
