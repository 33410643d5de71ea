"""Palette rasters: one band of indices into a colour table, read as the three bands of their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Colours = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """The colour table of a raster.

    Attributes:
        name: of the raster, for errors.
        colours: uint8 (N, 4): red, green, blue and alpha of every index; an alpha of 0 marks pixels without data.
    """

    name: str
    colours: Colours

    def expand(self, indices: npt.NDArray[np.integer]) -> Colours:
        """Indices of any shape (...) -> uint8 (..., 3), red, green, blue.

        Raises:
            DataError: an index that the table does not have.
        """
        return self._entries(indices)[..., :3]

    def opaque(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Indices of any shape -> bool of that shape: pixels whose entry is not wholly transparent."""
        return np.asarray(self._entries(indices)[..., 3] != 0)

    @property
    def transparent(self) -> bool:
        """Whether any entry stands for pixels without data."""
        return bool((self.colours[:, 3] == 0).any())

    def _entries(self, indices: npt.NDArray[np.integer]) -> Colours:
        if indices.size and int(indices.max()) >= len(self.colours):
            raise DataError(
                f"{self.name}: palette index {indices.max()}",
                expected=f"an index below {len(self.colours)}, the length of its colour table",
                cure="export the raster again, or expand it with gdal_translate -expand rgb",
            )
        return np.asarray(self.colours[indices])


def read_palette(file: DatasetReader, name: str) -> Palette | None:
    """The colour table of an open raster of one band (or one and alpha), None where it has none.

    A grey picture has none. A table of greys counts, as its indices need not be in their order.
    """
    from rasterio.enums import ColorInterp

    if file.count != 1 and not (file.count == 2 and file.colorinterp[1] == ColorInterp.alpha):
        return None
    try:
        table = file.colormap(1)
    except ValueError:  # rasterio's way to say that there is none
        return None
    colours = np.zeros((max(table) + 1, 4), np.uint8)
    for index, colour in table.items():
        colours[index] = colour
    return Palette(name, colours)


def colour_order(path: Path | str, bands: Sequence[int] | None) -> tuple[int, int, int]:
    """The order, from 1, of the colours of a palette's colours; one number thrice means its indices, no picture."""
    chosen = tuple(bands or (1, 2, 3))
    if sorted(chosen) != [1, 2, 3]:
        raise DataError(
            f"{path}: a palette raster, bands {','.join(map(str, chosen))}",
            expected="1, 2 and 3 in any order: the red, green and blue of its colours",
            cure="leave bands away, or name all three",
        )
    return chosen[0], chosen[1], chosen[2]
