"""Maps held to the tags of the very rasters: a class that a tag says is not in its crop wins nowhere there.

As targets of trainings are held to tags (:func:`weakseg.methods.fusion.constrain_scores`), but by the windows, block
by block: a raster of sets would take more memory than the map. Tags are taken for right, whatever ``tags`` in
params.yaml states.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.area_names import area_name
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.data.importing.alignment import TOLERANCE, shift_of
from weakseg.inference.mapper import Maps
from weakseg.labels.tag_table import RASTERS, raster_sizes, read_tags
from weakseg.labels.tags import TagWindow, tag_arrays
from weakseg.raster.header import opened, read_info
from weakseg.raster.stream import Source

_Rows = tuple[dict[str, Path], dict[str, tuple[int, int]], dict[str, list[TagWindow]]]
_LOOK: Final = 256  # px of the sides of what is compared


@dataclass(frozen=True)
class HeldTags:
    """The tag crops of one raster.

    Attributes:
        windows: int64 (N, 4), row, column, height and width of each crop, px of the raster.
        possible: bool (N, C), the classes that its tag does not rule out.
    """

    windows: npt.NDArray[np.int64]
    possible: npt.NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """Of all that a map depends on."""
        return hashlib.blake2b(self.windows.tobytes() + self.possible.tobytes(), digest_size=16).hexdigest()

    def hold(self, maps: Maps, row: int, column: int) -> Maps:
        """Probabilities (C, n, m) at a row and column of the raster without the classes that the tags rule out there.

        What is left is not brought to the old sum. Where it is nothing, the classes that are possible share alike; a
        pixel for which tags that contradict each other leave no class stays as it is.
        """
        top, left = self.windows[:, 0] - row, self.windows[:, 1] - column
        bottom, right = top + self.windows[:, 2], left + self.windows[:, 3]
        here = np.flatnonzero((bottom > 0) & (right > 0) & (top < maps.shape[1]) & (left < maps.shape[2]))
        if not here.size:
            return maps
        allowed = np.ones(maps.shape, bool)
        for i in here:
            place = np.s_[:, max(0, top[i]) : bottom[i], max(0, left[i]) : right[i]]
            allowed[place] &= self.possible[i][:, None, None]
        allowed |= ~allowed.any(0)
        kept = np.where(allowed, maps, 0)
        return np.where(kept.any(0), kept, allowed * maps.sum(0)).astype(np.float32)


@dataclass(frozen=True)
class TagTable:
    """A tag table, and the folder of the images whose px it counts; read once for all rasters of a command."""

    path: Path
    images: Path
    _read: dict[ClassScheme, _Rows] = field(default_factory=dict, repr=False, compare=False)

    def of(self, source: Source, scheme: ClassScheme) -> HeldTags:
        """The crops of one raster; none where it has no row.

        Raises:
            DataError: a table that cannot be read; a raster that is none of its images: of another name, size or place,
                or with other pixels where one has no place.
        """
        if scheme not in self._read:
            self._read[scheme] = _read_rows(self.path, self.images, scheme)
        files, sizes, rows = self._read[scheme]
        stem = source.path.stem
        area = next((name for name in (stem, area_name(stem)) if name in sizes), None)
        if area is None:
            raise DataError(
                f"{source.path}: no image of this name in {self.images}",
                expected=f"one of those whose pixels {self.path} counts",
                cure="name the raster like its area, or leave --tags out",
            )
        if sizes[area] != (source.height, source.width):
            raise DataError(
                f"{source.path}: {source.height}x{source.width} px",
                expected=f"{'x'.join(map(str, sizes[area]))} as in {self.images}, whose pixels {self.path} counts",
                cure="predict that image",
            )
        _check_same(source, files[area])
        mine = rows.get(area, [])
        present, known = tag_arrays(mine, scheme)
        return HeldTags(np.array([row.window for row in mine], np.int64).reshape(-1, 4), present | ~known)


def locate_table(table: Path, where: str) -> TagTable:
    """A tag table with ``images`` beside its folder, as in a workspace, or else with the folder of the rasters."""
    beside, place = table.parent.parent / "images", Path(where)
    return TagTable(table, beside if beside.is_dir() else place if place.is_dir() else place.parent)


def _check_same(source: Source, image: Path) -> None:
    """Refuse (DataError) a raster that shares no more than name and size with an image."""
    if image.resolve() == source.path.resolve():
        return
    own, mine = read_info(image), read_info(source.path)
    placed = own.transform is not None and mine.transform is not None
    if shift_of(mine, own) <= TOLERANCE if placed else _same_pixels(source.path, image):
        return
    raise DataError(
        f"{source.path}: {'lies elsewhere than' if placed else 'shows other pixels than'} {image} of the same name",
        expected=f"one of the images whose pixels the tags count, in {image.parent}",
        cure="predict that image, or leave --tags out",
    )


def _same_pixels(one: Path, other: Path) -> bool:
    """Whether two rasters have the same in the middle; those of other bands or types cannot be compared and may."""
    with opened(one, None) as mine, opened(other, None) as theirs:
        if (mine.shape, mine.dtypes) != (theirs.shape, theirs.dtypes):
            return True
        window = tuple((max(0, side - _LOOK) // 2, min(side, (side + _LOOK) // 2)) for side in mine.shape)
        return np.array_equal(mine.read(window=window), theirs.read(window=window), equal_nan=True)


def _read_rows(path: Path, images: Path, scheme: ClassScheme) -> _Rows:
    """The images and their sizes, and the rows with a tag, by area."""
    if not images.is_dir():
        raise DataError(
            f"no folder {images}",
            expected=f"the images whose pixels {path} counts, in images beside its folder or with the rasters",
            cure="name the rasters by their folder",
        )
    files = {file.stem: file for file in images.iterdir() if file.suffix.casefold() in RASTERS}
    sizes, rows = raster_sizes(images), dict[str, list[TagWindow]]()
    for row in read_tags(path, scheme, sizes):
        if row.tagged:
            rows.setdefault(row.area, []).append(row)
    return files, sizes, rows
