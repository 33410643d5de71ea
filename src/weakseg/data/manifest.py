"""The tile table: one row per tag crop of N1 and N2, with its area, split, window, tags and (N1 only) class shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.labels.class_lists import join_names, split_names

COLUMNS = ("id", "area", "split", "row", "column", "height", "width", "tags", "unknown")
SPLITS = ("pixel", "holdout", "tags")


@dataclass(frozen=True)
class TagCrops:
    """Tag crops as arrays, in table order.

    Attributes:
        ids: N strings ``<area>_<row>_<column>``; areas, splits: N strings.
        windows: int (N, 4): row, column, height, width in px of the resampled area.
        present, known: bool (N, C); ``known`` is False where the tag says nothing about the class.
    """

    ids: tuple[str, ...]
    areas: tuple[str, ...]
    splits: tuple[str, ...]
    windows: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]

    def select(self, *, split: str | None = None, area: str | None = None) -> TagCrops:
        """The rows of one split and / or one area."""
        rows = range(len(self.ids)) if area is None else self._rows.get(area, [])
        return self.take(np.array([row for row in rows if split in (None, self.splits[row])], np.intp))

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        """Rows by area: of 100,000 areas each is asked for its own."""
        found: dict[str, list[int]] = {}
        for row, area in enumerate(self.areas):
            found.setdefault(area, []).append(row)
        return found

    def take(self, index: npt.NDArray[np.integer]) -> TagCrops:
        """The rows numbered by ``index`` (n,), in its order."""
        return TagCrops(
            tuple(self.ids[i] for i in index),
            tuple(self.areas[i] for i in index),
            tuple(self.splits[i] for i in index),
            self.windows[index],
            self.present[index],
            self.known[index],
        )


def save_manifest(path: Path, crops: TagCrops, names: tuple[str, ...]) -> None:
    """Write the table as CSV; class names stand in ``tags`` and ``unknown`` as in a tag CSV."""
    rows = [
        {
            "id": crops.ids[i],
            "area": crops.areas[i],
            "split": crops.splits[i],
            **dict(zip(("row", "column", "height", "width"), (int(v) for v in crops.windows[i]), strict=True)),
            "tags": _join(names, crops.present[i]),
            "unknown": _join(names, ~crops.known[i]),
        }
        for i in range(len(crops.ids))
    ]
    with atomic_path(path) as temporary:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(temporary, index=False)


def _join(names: tuple[str, ...], chosen: npt.NDArray[np.bool_]) -> str:
    return join_names([name for name, here in zip(names, chosen, strict=True) if here], names)


def load_manifest(path: Path, names: tuple[str, ...]) -> TagCrops:
    """Read what :func:`save_manifest` wrote; an unknown class, split or a missing column raises DataError."""
    if not path.is_file():
        raise DataError(f"no table {path}", expected="the manifest of the tiles stage", cure="run `dvc repro tiles`")
    table = pd.read_csv(path, dtype={"id": str, "area": str, "tags": str, "unknown": str}, keep_default_na=False)
    if tuple(table.columns) != COLUMNS:
        raise DataError(f"{path} has columns {list(table.columns)}", expected=f"{list(COLUMNS)}", cure="rerun tiles")
    strays = sorted(set(table["split"]) - set(SPLITS))
    if strays:
        raise DataError(f"{path} has splits {strays}", expected=f"{SPLITS}", cure="rerun tiles")
    try:
        windows = table[["row", "column", "height", "width"]].to_numpy(np.int64)
    except ValueError as error:
        raise DataError(f"{path}: {error}", expected="whole row, column, height, width", cure="rerun tiles") from error
    return TagCrops(
        tuple(table["id"]),
        tuple(table["area"]),
        tuple(table["split"]),
        windows,
        _parse(table["tags"], names, path),
        ~_parse(table["unknown"], names, path),
    )


def _parse(column: pd.Series[str], names: tuple[str, ...], path: Path) -> npt.NDArray[np.bool_]:
    try:
        lists = {text: split_names(text, names) for text in column.unique()}
    except DataError as error:
        raise DataError(f"{path}: {error.found}", expected=error.expected, cure="rerun tiles") from error
    rows = {text: np.array([name in lists[text] for name in names], bool) for text in lists}
    return np.array([rows[text] for text in column], bool).reshape(-1, len(names))
