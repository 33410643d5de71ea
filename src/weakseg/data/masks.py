"""Label rasters of any kind as index masks: colours, colour tables, indices, further values that mean ignore."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from weakseg.classes import IGNORE, ClassScheme, Colour, Mask
from weakseg.errors import DataError

Pixels = npt.NDArray[np.uint8]


def decode_mask(
    values: Pixels, classes: ClassScheme, *, table: Pixels | None = None, ignore_values: Sequence[int] = ()
) -> Mask:
    """Turn the pixels of a label raster into an index mask: uint8 (H, W), class index or 255 (``IGNORE``).

    (H, W, 3) are colours of ``classes``. (H, W) holds indices, unless a colour table says otherwise: programs that
    shrink pictures renumber the table, so where its used colours all belong to ``classes``, but not at the indices
    of these classes, the colours count.

    Args:
        values: uint8 (H, W, 3) or (H, W).
        classes: names and colours to expect.
        table: uint8 (256, 3), the colour of each value, if the raster has a colour table.
        ignore_values: values of an index mask, besides 255, that mean ignore, e.g. the index of "unlabeled".

    Raises:
        DataError: an unknown colour or a value out of range, with its count and first place; an ignore value that is
            the index of a class.
    """
    if values.ndim == 3:
        return classes.to_indices(values)
    if table is not None and _is_renumbered(classes, table, np.unique(values)):
        return classes.to_indices(table[values])
    return _check_indices(values, classes, ignore_values)


def class_table(classes: ClassScheme) -> dict[int, tuple[int, int, int, int]]:
    """Colour table of an index mask, value -> (red, green, blue, alpha); values that are no class are transparent."""
    colours = classes.to_colours(np.arange(256, dtype=np.uint8)[None])[0]
    used = {*range(len(classes)), IGNORE}
    return {value: (int(r), int(g), int(b), 255 * (value in used)) for value, (r, g, b) in enumerate(colours)}


def _is_renumbered(classes: ClassScheme, table: Pixels, used: Pixels) -> bool:
    colours: dict[int, Colour] = {int(v): (int(table[v, 0]), int(table[v, 1]), int(table[v, 2])) for v in used}
    by_index = dict(enumerate(classes.colours))
    in_place = all(value == IGNORE or by_index.get(value) == colour for value, colour in colours.items())
    known = {*classes.colours, *(colour for _, colour in classes.ignored)}
    return not in_place and known.issuperset(colours.values())


def _check_indices(values: Pixels, classes: ClassScheme, ignored: Sequence[int]) -> Mask:
    count = len(classes)
    if not all(count <= value <= IGNORE for value in ignored):
        raise DataError(
            f"ignore values {tuple(ignored)}",
            expected=f"{count} to {IGNORE}: below are the classes {', '.join(classes.names)}",
            cure="mend ignore_values, or move the class to the end of classes.yaml and out of its classes",
        )
    to_index = np.full(256, IGNORE, np.uint8)
    to_index[:count] = np.arange(count)
    known = np.zeros(256, bool)
    known[[*range(count), IGNORE, *ignored]] = True
    unknown = ~known[values]
    if unknown.any():
        rows, columns = np.nonzero(unknown)
        raise DataError(
            f"{rows.size} px of values out of range, first {values[rows[0], columns[0]]} "
            f"at row {rows[0]}, column {columns[0]}",
            expected=f"0 to {count - 1} ({', '.join(classes.names)}) or {IGNORE} for ignore",
            cure="mend the mask or classes.yaml, or name the value in ignore_values",
        )
    return to_index[values]
