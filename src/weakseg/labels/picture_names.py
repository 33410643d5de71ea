"""Which crop a picture of an annotation program shows, by its file name or address, however the program renamed it.

A chip, a crop cut out as a picture of its own, is called ``AREA__ROW_COLUMN_HEIGHT_WIDTH`` (:func:`chip_name`), so that
its name alone says where it lies. A picture called like an area shows the whole of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from weakseg.core.area_names import area_name, bare_name
from weakseg.core.errors import DataError
from weakseg.labels.answers import Crop
from weakseg.labels.tags import check_inside

_ROBOFLOW: Final = re.compile(r"^(.+?)(?:_(?:png|jpe?g|tiff?|bmp|webp))?\.rf\.[0-9A-Za-z]+$")
_LABEL_STUDIO: Final = re.compile(r"^[0-9a-f]{8}-(.+)$")
_CHIP: Final = re.compile(r"^(.+)__(\d{1,7})_(\d{1,7})_(\d{1,7})_(\d{1,7})$")
_UPLOADED: Final = re.compile(r"[^-\w.]")  # what Label Studio takes out of the names of uploaded files


def chip_name(crop: Crop) -> str:
    """The name of a crop's picture, without a suffix.

    >>> chip_name(("area2", (0, 51, 46, 50)))
    'area2__0_51_46_50'
    """
    area, window = crop
    return f"{area}__{'_'.join(map(str, window))}"


def earlier_names(name: str) -> Iterator[str]:
    """Stems that a file may have had before Roboflow or Label Studio renamed it, or that an address holds.

    >>> list(earlier_names("/data/upload/1/0a1b2c3d-area%201.png"))[-1], list(earlier_names("a_1_png.rf.7f.jpg"))[-1]
    ('area 1', 'a_1')
    """
    parts = urlsplit(name.replace("\\", "/"))
    path = next(iter(parse_qs(parts.query).get("d", [])), parts.path)  # /data/local-files/?d=folder/name.png
    stem = PurePosixPath(unquote(path)).stem
    yield stem
    for pattern in (_ROBOFLOW, _LABEL_STUDIO):
        match = pattern.match(stem)
        if match:
            stem = match[1]
            yield stem


def crop_of(name: str, sizes: Mapping[str, tuple[int, int]]) -> Crop:
    """The crop that a picture shows.

    Args:
        name: file name, path or address of the picture.
        sizes: height and width by area, px, of all rasters of data/images.

    Raises:
        DataError: no crop or area is called so, or several are; a window outside its area.
    """
    try:
        stems = [PurePosixPath(name.replace("\\", "/")).stem, *earlier_names(name)]
    except ValueError as error:  # an address that is none
        raise DataError(f"picture {name!r}", expected="a file name or an address", cure="mend it") from error
    found: dict[Crop, None] = {}
    for stem in dict.fromkeys(stems):
        found |= dict.fromkeys((area, (0, 0, *sizes[area])) for area in _areas(stem, sizes, endings=True))
        chip = _CHIP.match(stem)
        if chip:
            row, column, height, width = (int(number) for number in chip.groups()[1:])
            found |= dict.fromkeys((area, (row, column, height, width)) for area in _areas(chip[1], sizes))
    if len(found) > 1:
        listed = " or ".join(f"{area} at row {row}, column {column}" for area, (row, column, *_) in found)
        raise DataError(f"{name} may be {listed}", expected="one crop", cure="rename the picture")
    if not found:
        raise DataError(
            f"{name} shows no crop of data/images",
            expected="a name such as AREA__ROW_COLUMN_HEIGHT_WIDTH.png, or that of an area",
            cure="cut the crops with `weakseg data tags --to label-studio`, or rename the pictures",
        )
    area, window = next(iter(found))
    try:
        check_inside(window, *sizes[area])
    except DataError as error:
        raise DataError(f"{name}: {error.found}", expected=error.expected, cure=error.cure) from error
    return area, window


def _areas(stem: str, sizes: Mapping[str, tuple[int, int]], *, endings: bool = False) -> list[str]:
    """The areas that a stem may name: as it is; else without endings such as ``_rgb``, or as an upload leaves it."""
    plain = unicodedata.normalize("NFC", stem)
    named = {area: unicodedata.normalize("NFC", area) for area in sizes}
    exact = [area for area, name in named.items() if name == plain]
    if exact:
        return exact
    forms = {area_name(plain), bare_name(plain)} if endings else set()
    return [area for area, name in named.items() if name in forms or _uploaded(name) == plain]


def _uploaded(name: str) -> str:
    return _UPLOADED.sub("", name.strip().replace(" ", "_"))
