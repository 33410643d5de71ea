"""What the values of a label band mean: which readings are possible, and which one counts.

A band of numbers can hold class indices, ids (``value:`` of classes.yaml) or colours, through its colour table or as
grey values. Where more than one reading is possible and they differ, none is taken: the error names the choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme, Colour
from weakseg.core.errors import DataError

Holds = Literal["indices", "values", "colours"]
Table = Mapping[int, tuple[int, int, int, int]]


@dataclass(frozen=True)
class Reading:
    """One meaning of the values of a band.

    Attributes:
        holds: what the values are.
        codes: value -> class index, or ``IGNORE``.
    """

    holds: Holds
    codes: Mapping[int, int]

    def covers(self, used: Iterable[int]) -> bool:
        """Whether every value means something."""
        return self.codes.keys() >= set(used)

    def describe(self, used: Iterable[int], classes: ClassScheme) -> str:
        """For people: ``indices (0 road, 1 water)``."""
        texts = [f"{value} {_name(self.codes[value], classes)}" for value in sorted(used) if value in self.codes]
        return f"{self.holds} ({', '.join(texts)})"


def possible_readings(
    used: Sequence[int],
    classes: ClassScheme,
    table: Table | None,
    *,
    holds: Holds | None = None,
    ignored: Sequence[int] = (),
    picture: bool = True,
) -> tuple[Reading, ...]:
    """The readings of a band that agree on all of its values, the one to take first.

    Args:
        used: the values that occur, without those that the file marks as nodata.
        classes: names, colours and ids to expect.
        table: value -> (R, G, B, alpha), if the band has a colour table; without one, values are grey values.
        holds: what the values are, where the user says it; nothing is guessed then.
        ignored: values that mean ignore by the user's word.
        picture: whether the values have 8 bits, as those of pictures.

    Returns:
        All that agree on ``used``; one that does not cover ``used`` where none does.

    Raises:
        DataError: several readings are possible and differ, or an ignore value is a class.
    """
    if holds is not None:
        return (_told(used, classes, table, holds, ignored),)
    if table is not None and any(0 < table[value][3] < 255 for value in used if value in table):
        raise DataError(
            "a colour table with half transparent colours",
            expected="opaque colours, or fully transparent ones for pixels without a label",
            cure="export the label again, or say --masks-hold indices",
        )
    colours = _colours(classes, table, ignored)
    whole = not picture or not _grey_255_is_class(classes, table)
    ids = _ids(classes, ignored, whole=whole, values=bool(classes.values))
    if not (_all_grey(classes) and colours.covers(used)):
        _check_ignored(ids, ignored, classes)
    if table is None or _is_ramp(table):
        return _from_grey(used, classes, ids, colours, ignored)
    reading = _from_table(used, classes, ids, colours, table)
    _check_ignored(reading, [value for value in ignored if value in used], classes)
    return (reading,)


def out_of_range(found: str, reading: Reading, classes: ClassScheme) -> DataError:
    """The error for values that a reading by indices or ids does not know."""
    if reading.holds == "values":
        known = ", ".join(f"{value} {_name(code, classes)}" for value, code in sorted(reading.codes.items()))
    else:
        known = f"0 to {len(classes) - 1} ({', '.join(classes.names)})"
        known += f" or {IGNORE} for ignore" if IGNORE in reading.codes else ""
    further = ""
    if _all_grey(classes):
        greys = ", ".join(str(red) for red, _, _ in classes.colour_codes())
        known += f" (as {reading.holds}), or {greys} (as colours)"
        further = ", or say --masks-hold indices or colours (masks_hold)"
    return DataError(
        found,
        expected=known,
        cure="mend the mask or classes.yaml (`value:` gives a class its id in the files), "
        "or name the value in ignore_values (--ignore)" + further,
    )


def mixed_readings(readings: Mapping[Holds, str]) -> list[str]:
    """The problem of labels of one delivery that were read in different ways, as (what they hold -> a first file).

    One of them may be a picture that a program has saved as grey because it happens to have no other colour.
    """
    if len(readings) < 2:
        return []
    files = ", ".join(f"{file} holds {holds}" for holds, file in readings.items())
    expected, cure = (
        "one kind of masks",
        "export them alike, or say what one-band masks hold with --masks-hold (masks_hold)",
    )
    return [str(DataError(files, expected=expected, cure=cure))]


def ignored_objects(readings: Mapping[Holds, str], counts: npt.NDArray[np.int64], classes: ClassScheme) -> list[str]:
    """The problem of a delivery of index masks in which nothing but class 0 and ignored px occurs.

    Binary masks are often written as 0 and 255; read as indices, 255 would take every object for "ignore" in silence.

    Args:
        readings: what labels hold -> a first file.
        counts: int64 (256,), px of the whole delivery by index.
    """
    others = counts[1 : len(classes)].sum()
    if "indices" not in readings or len(classes) < 2 or others or not counts[0] or not counts[IGNORE]:
        return []
    found = f"masks with {classes.names[0]} and {counts[IGNORE]} px to ignore alone, first {readings['indices']}"
    cure = (
        "say --masks-hold indices (masks_hold) if 255 means ignore, or give each class its id as `value:` in "
        f"classes.yaml (255 for {classes.names[1]})"
    )
    return [str(DataError(found, expected=f"a pixel of {', '.join(classes.names[1:])} somewhere", cure=cure))]


def describe_codes(readings: Mapping[Holds, str], classes: ClassScheme) -> str:
    """For people: what the numbers in the labels were taken for."""
    texts = []
    for holds in readings:
        if holds == "colours" and not _all_grey(classes):
            continue  # pictures, whose colours need no words
        codes = {"indices": {index: index for index in range(len(classes))}, "values": classes.value_codes()}
        grey = {red: code for (red, green, blue), code in classes.colour_codes().items() if red == green == blue}
        taken = Reading(holds, codes.get(holds, grey))
        texts.append(f"numbers in the masks are {taken.describe(taken.codes, classes)}")
    hint = "; where 0 is no data and ids begin at 1, give each class its id as `value:` in classes.yaml"
    return "; ".join(texts) + (hint if "indices" in readings else "")


def _all_grey(classes: ClassScheme) -> bool:
    """Whether a grey band can hold all classes by colour."""
    return all(red == green == blue for red, green, blue in classes.colours)


def _name(code: int, classes: ClassScheme) -> str:
    return "ignore" if code == IGNORE else classes.names[code]


def _told(
    used: Sequence[int], classes: ClassScheme, table: Table | None, holds: Holds, ignored: Sequence[int]
) -> Reading:
    if holds == "colours":
        reading = _colours(classes, table, ignored)
        _check_ignored(reading, [value for value in ignored if value in used], classes)
        return reading
    if holds == "values" and not classes.values:
        raise DataError(
            "masks that hold values, and classes without `value:`",
            expected="the id of each class in the files",
            cure="write `value:` for each class in classes.yaml",
        )
    reading = _ids(classes, ignored, whole=True, values=holds == "values")
    _check_ignored(reading, ignored, classes)
    return reading


def _ids(classes: ClassScheme, ignored: Sequence[int], *, whole: bool, values: bool) -> Reading:
    """Reading by ids or indices; ``whole``: 255 means ignore where nothing else does."""
    codes = classes.value_codes() if values else {index: index for index in range(len(classes))}
    further = [*ignored, IGNORE] if whole else list(ignored)
    return Reading("values" if values else "indices", dict.fromkeys(further, IGNORE) | codes)


def _colours(classes: ClassScheme, table: Table | None, ignored: Sequence[int]) -> Reading:
    known = classes.colour_codes()
    shown = range(256) if table is None else table
    codes = {value: known[colour] for value in shown if (colour := colour_of(value, table)) in known}
    return Reading("colours", dict.fromkeys(ignored, IGNORE) | codes)


def colour_of(value: int, table: Table | None) -> Colour:
    """The colour that a program shows for a value; (-1, -1, -1) for a value without one."""
    if table is not None:
        return table[value][:3] if value in table else (-1, -1, -1)
    return (value, value, value)


def _check_ignored(reading: Reading, ignored: Sequence[int], classes: ClassScheme) -> None:
    if taken := _taken(reading, ignored):
        raise DataError(
            f"ignore values {tuple(ignored)} and {reading.describe(taken, classes)}",
            expected="ignore values that are no class",
            cure="mend ignore_values (--ignore), give each class its id in the files as `value:` in classes.yaml, "
            "or take the class out of it",
        )


def _taken(reading: Reading, ignored: Sequence[int]) -> list[int]:
    return [value for value in ignored if reading.codes[value] != IGNORE]


def _from_grey(
    used: Sequence[int], classes: ClassScheme, ids: Reading, colours: Reading, ignored: Sequence[int]
) -> tuple[Reading, ...]:
    """Readings of a band without colours of its own: ids, or grey values that are colours of the scheme."""
    fitting = [reading for reading in (ids, colours) if reading.covers(used) and not _taken(reading, ignored)]
    if len(fitting) == 2 and not _all_grey(classes) and all(colours.codes[value] == IGNORE for value in used):
        fitting = [ids]  # the grey colours of such a scheme would label nothing at all: no use of a label
    if ids.holds == "values" and not ids.covers(used):
        return (ids,)  # `value:` says what the numbers are
    if len(fitting) == 2 and any(ids.codes[value] != colours.codes[value] for value in used):
        raise _two_ways(used, classes, ids, colours)
    return tuple(fitting) or (ids,)  # of ids that do not fit, the caller names the values that are out of range


def _from_table(used: Sequence[int], classes: ClassScheme, ids: Reading, colours: Reading, table: Table) -> Reading:
    """Reading of a band with colours of its own.

    Programs that shrink pictures renumber the table, so its colours count, unless they are those of the ids anyway. A
    table with nothing of the scheme is decoration only by the user's word, and `value:` is such a word.
    """
    shown = {value: colours.codes.get(value, IGNORE if value == IGNORE else None) for value in used}
    if all(value in ids.codes and ids.codes[value] == code for value, code in shown.items()):
        return ids
    if colours.covers(used):
        _check_fillers(used, classes, ids, colours, table)
        if ids.holds == "values" and ids.covers(used):
            raise _two_ways(used, classes, ids, colours)
        return colours
    known = set(classes.colour_codes())
    if any(colour_of(value, table) in known for value in used):
        return colours  # the caller names the colours that are unknown
    if ids.holds == "values" and ids.covers(used):
        return ids
    if ids.covers(used):
        raise DataError(
            f"a colour table without any colour of classes.yaml, first {colour_of(used[0], table)} for {used[0]}",
            expected=f"colours of {', '.join(classes.names)}, or values that are meant by number",
            cure=f"mend the colours in classes.yaml, or say --masks-hold indices to read {ids.describe(used, classes)}",
        )
    return colours


def _check_fillers(used: Sequence[int], classes: ClassScheme, ids: Reading, colours: Reading, table: Table) -> None:
    """Refuse values beyond the ids with the colour of a class whose own id has it too, where all ids are in place.

    Programs fill the rest of a table with black, which may be the colour of a class; then 255 may mean ignore or it.
    """
    strange = [value for value in used if value not in ids.codes]
    own = {colour_of(value, table) for value, code in ids.codes.items() if colours.codes.get(value) == code}
    in_place = all(ids.codes[value] == colours.codes[value] for value in used if value in ids.codes)
    twice = [value for value in strange if colour_of(value, table) in own]
    if in_place and twice:
        raise DataError(
            f"{colours.describe(twice, classes)} beside the {ids.holds} of these classes, which have the same colours",
            expected="one value per class",
            cure="say --masks-hold indices (255 is ignore then) or --masks-hold colours (masks_hold)",
        )


def _two_ways(used: Sequence[int], classes: ClassScheme, ids: Reading, colours: Reading) -> DataError:
    differing = [value for value in used if ids.codes[value] != colours.codes[value]]
    ways = " or as ".join(reading.describe(differing, classes) for reading in (ids, colours))
    return DataError(
        f"values that can be read two ways, as {ways}",
        expected="masks with one meaning",
        cure=f"say --masks-hold {ids.holds} or --masks-hold colours (masks_hold)",
    )


def _grey_255_is_class(classes: ClassScheme, table: Table | None) -> bool:
    """Whether 255 is painted like a class, so that it cannot mean ignore unsaid.

    Without a colour table only where all classes are grey: elsewhere a grey band cannot hold the classes by colour.
    """
    painted = colour_of(IGNORE, table) in classes.colours
    ramp = table is None or _is_ramp(table)
    return painted and (not ramp or _all_grey(classes))


def _is_ramp(table: Table) -> bool:
    """Whether a colour table says no more than grey values do: dark to light, or light to dark, in even steps."""
    greys = [table[value][0] for value in sorted(table)]
    if len(greys) < 2 or any(not red == green == blue for red, green, blue, _ in table.values()):
        return False
    last = len(greys) - 1
    rising = [round(255 * value / last) for value in range(last + 1)]
    return greys in (rising, rising[::-1])
