"""Many scenes to one seamless map: probabilities blended across the borders of scenes.

The scenes are one raster (:mod:`weakseg.raster.mosaic`), so a window at the border of a scene sees what lies beyond it.
Where scenes overlap, a window goes through the network once per scene, with that scene on top, and the probabilities
are blended by how far inside each scene a pixel lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.inference.mapper import Maps
from weakseg.inference.sweep import Part, WindowSweep, prefetch, resize_to_network, stack_images, to_dtype
from weakseg.raster.mosaic import Mosaic, MosaicReader
from weakseg.raster.stream import Pixels, open_reader

_FADE: Final = 4  # a scene fades over this part of a window's side
Layer = tuple[Pixels, npt.NDArray[np.float32]]
"""What a window shows with one scene on top, (h, w, K), and how much that scene says, float32 (h, w)."""


class MosaicSweep(WindowSweep):
    """The windows of a mosaic through a network, in order; see :class:`weakseg.inference.sweep.WindowSweep`."""

    source: Mosaic

    def parts(self, first: int) -> Iterator[Part]:
        """Weighted maps of every window with a valid pixel, row by row, from window row ``first``."""
        corners = [(r, c) for r in self.row_starts[first:] for c in self.column_starts]
        with open_reader(self.source) as reader:
            assert isinstance(reader, MosaicReader)

            def load(corner: tuple[int, int]) -> list[Layer]:
                return self._layers(reader, corner)

            for corner, layers in prefetch(load, corners, depth=2 * self.batch):
                if layers:
                    yield (*corner, self._blend(layers) * self.weights)

    def _layers(self, reader: MosaicReader, corner: tuple[int, int]) -> list[Layer]:
        """Layers of the window at a corner of the network's grid; none where no scene has data."""
        (row, column), (height, width) = corner, self.size
        top, bottom = self.grid.to_rows.needs(row, row + height)
        left, right = self.grid.to_columns.needs(column, column + width)
        place = (top, left, bottom - top, right - left)
        if not reader.valid(place).any():
            return []
        margin = max(1, round(max(self.size) / _FADE * self.grid.to_columns.size_in / self.grid.to_columns.size_out))
        window = (*corner, *self.size)
        shares = reader.shares(place, margin)
        alone = len(shares) == 1
        found = []
        for index, share in shares.items():
            image = resize_to_network(reader.pixels(place, top=None if alone else index), self.grid, window)
            part = resize_to_network(share[..., None], self.grid, window)[..., 0]
            found.append((to_dtype(image, self.source.wanted.dtype), np.asarray(part, np.float32)))
        return found

    def _blend(self, layers: Sequence[Layer]) -> Maps:
        """Maps (C, h, w) of a window, the sum of its layers' by their shares."""
        total: Maps | None = None
        for start in range(0, len(layers), self.batch):
            group = layers[start : start + self.batch]
            shares = np.stack([share for _, share in group])
            maps = (self.network(stack_images([image for image, _ in group])) * shares[:, None]).sum(0)
            self.count += len(group)
            total = np.asarray(maps if total is None else total + maps, np.float32)
        assert total is not None
        return total
