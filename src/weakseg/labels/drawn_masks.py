"""Polygons drawn by hand as masks of part of an area: 255 where nobody has drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.class_names import did_you_mean
from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.errors import DataError
from weakseg.labels.box_reading import shorten
from weakseg.labels.class_map import ClassMap
from weakseg.labels.geojson import FeatureFile
from weakseg.labels.layer_tags import class_column
from weakseg.labels.tag_files import unknown_classes

_UNDRAWN: Final = -1


@dataclass(frozen=True)
class Drawn:
    """A mask that polygons make.

    Attributes:
        mask: uint8 (H, W), 255 where no polygon lies, or one of an ignored class.
        labelled: px that polygons cover, those of ignored classes included.
        missed: numbers of the shapes that cover the middle of no px.
    """

    mask: Mask
    labelled: int
    missed: tuple[int, ...]


def polygon_names(source: FeatureFile, names: ClassMap, field: str | None) -> list[str | None]:
    """The class of each feature, or an ignored one of the scheme; None where the map leaves its name out.

    Raises:
        DataError: no column of classes, a feature without one, or names that are none.
    """
    column = class_column(source, field)
    found: list[str | None] = []
    for feature in source.features:
        value = feature.properties.get(column)
        if value is None:
            raise DataError(f"{feature.place}: no {column}", expected="a class", cure="enter it")
        found.append(str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))
    unknown = [name for name in dict.fromkeys(found) if name is not None and not names.knows(name)]
    if unknown:
        raise unknown_classes(source.file, unknown, names)
    ignored = {name for name, _ in names.scheme.ignored}
    return [
        name if name in ignored and name not in names.stated else names.class_of(name)
        for name in found
        if name is not None
    ]


def check_order(on_top: Sequence[str], scheme: ClassScheme) -> None:
    """Refuse (DataError) an order of classes with names that are none, or one twice."""
    known = [*scheme.names, *(name for name, _ in scheme.ignored)]
    strange = [name for name in on_top if name not in known or on_top.count(name) > 1]
    if strange:
        raise DataError(
            f"--on-top {','.join(on_top)}{did_you_mean(strange[0], known)}",
            expected=f"classes of {', '.join(known)}, each once",
            cure="mend it",
        )


def draw_mask(
    size: tuple[int, int],
    shapes: npt.NDArray[np.object_],
    names: Sequence[str],
    scheme: ClassScheme,
    *,
    on_top: Sequence[str] = (),
) -> Drawn:
    """Draw polygons: a px has the class of the polygon that its middle lies in, so that neighbours share no px.

    Args:
        size: height and width, px.
        shapes: polygons in px, x right and y down; what reaches over the rim is cut off, holes stay undrawn.
        names: of each, a class or an ignored one.
        on_top: classes that cover others where they overlap, the topmost first.

    Raises:
        DataError: polygons of two classes overlap, and neither is among ``on_top``.
    """
    order = [*dict.fromkeys(name for name in names if name not in on_top), *reversed(on_top)]
    drawn = np.full(size, _UNDRAWN, np.int16)
    missed: list[int] = []
    for name in order:
        mine = [index for index, one in enumerate(names) if one == name]
        plane = _plane(size, [shapes[index] for index in mine])
        missed += [index for index in mine if not _plane_hits(size, shapes[index])]
        if name not in on_top:
            _check_free(drawn, plane, name, scheme)
        drawn[plane] = _code(name, scheme)
    mask = np.where((drawn < 0) | (drawn == IGNORE), np.int16(IGNORE), drawn).astype(np.uint8)
    return Drawn(mask, int((drawn != _UNDRAWN).sum()), tuple(sorted(missed)))


def _code(name: str, scheme: ClassScheme) -> int:
    return scheme.index(name) if name in scheme.names else IGNORE


def _plane(size: tuple[int, int], shapes: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Px whose middle lies in one of the polygons; points and lines, which a cut at the rim may leave, count not."""
    import shapely
    from rasterio.features import rasterize

    parts = [part for shape in shapes for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area]
    if not parts:
        return np.zeros(size, bool)
    return np.asarray(rasterize(parts, size), bool)


def _plane_hits(size: tuple[int, int], shape: Any) -> bool:
    """Whether a polygon covers the middle of a px, looked for in its own rectangle."""
    import shapely

    if shape.is_empty:
        return False
    left, top, right, bottom = (int(value) for value in shape.bounds)
    part = shapely.transform(shape, lambda p: p - (left, top))
    return bool(_plane((min(size[0], bottom + 1) - top or 1, min(size[1], right + 1) - left or 1), [part]).any())


def _check_free(drawn: npt.NDArray[np.int16], plane: npt.NDArray[np.bool_], name: str, scheme: ClassScheme) -> None:
    taken = plane & (drawn != _UNDRAWN)
    if not taken.any():
        return
    row, column = (int(at) for at in np.argwhere(taken)[0])
    code = int(drawn[row, column])
    other = scheme.names[code] if code < len(scheme) else shorten(ignored for ignored, _ in scheme.ignored)
    raise DataError(
        f"{int(taken.sum())} px in polygons of {name} and of {other}, first at row {row}, column {column}",
        expected="one class per px",
        cure=f"cut one of them back (QGIS: Vector, Geoprocessing, Difference), or say which covers the other, "
        f"e.g. --on-top {name}",
    )
