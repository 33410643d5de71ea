"""Class schemes: names and colours side by side, asked for by name; the one place that knows how classes are coded.

Masks are uint8 ``(H, W)`` with class indices ``0..C-1`` and ``IGNORE`` (255) for pixels that count nowhere, hence 255
classes at most. Sets of classes are in :mod:`weakseg.core.class_sets`. Colours as one number are
``R << 16 | G << 8 | B``. Layer 0: no torch.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.class_names import check_names, did_you_mean
from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.errors import DataError

IGNORE: Final = 255
READY: Final = Path(__file__).parents[1] / "pipeline" / "classes"  # class files of public data sets
_NAMED: Final = 8  # so many unknown colours are named one by one

Colour = tuple[int, int, int]
Mask = npt.NDArray[np.uint8]


def pack_colour(red: Any, green: Any, blue: Any) -> Any:
    """A colour as one number; of whole numbers, or of int arrays wider than 16 bits."""
    return red << 16 | green << 8 | blue


@dataclass(frozen=True)
class ClassScheme:
    """Class names with their RGB colours, in index order, and the colours that mean "ignore".

    Attributes:
        names: scored classes, index order, 1 to 255 of them.
        colours: one (R, G, B) in 0..255 per name, all different.
        ignored: (name, colour) pairs that become ``IGNORE``, e.g. ISPRS clutter and eroded borders.
        values: the id of each class in label files that come from outside; none: its index. Masks of a workspace hold
            indices, whatever the files they came from held.
        ignored_values: likewise for each of ``ignored``, None where an entry is known by its colour alone; or none.
        background: the one of ``names`` that is what no object claims, "" where every class is an object of its own. It
            may be anywhere, so tags say nothing about it: it is never absent.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignored: tuple[tuple[str, Colour], ...] = ()
    values: tuple[int, ...] = ()
    ignored_values: tuple[int | None, ...] = ()
    background: str = ""

    def __post_init__(self) -> None:
        everything = list(self.colours) + [colour for _, colour in self.ignored]
        if not 1 <= len(self.names) <= IGNORE or len(self.names) != len(self.colours):
            raise DataError(
                f"{len(self.names)} names and {len(self.colours)} colours",
                expected="1 to 255 names and one colour each",
                cure="mend classes.yaml",
            )
        if len(set(everything)) != len(everything) or len(set(self.names)) != len(self.names):
            raise DataError(
                f"repeated name or colour among {self.names} {everything}",
                expected="each once",
                cure="mend classes.yaml",
            )
        for name in (*self.names, *(name for name, _ in self.ignored)):
            _check_name(name)
        self._check_values()
        if self.background and (self.background not in self.names or len(self.names) < 2):
            raise DataError(
                f"background {self.background!r} among the classes {', '.join(self.names)}",
                expected="one of them, and an object beside it",
                cure="mend background in classes.yaml",
            )

    def _check_values(self) -> None:
        ids = [*self.values, *(value for value in self.ignored_values if value is not None)]
        missing = len(self.values) not in (0, len(self.names)) or (ids and not self.values)
        if missing or len(self.ignored_values) not in (0, len(self.ignored)) or len(set(ids)) != len(ids):
            raise DataError(
                f"values {ids} for {', '.join(self.names)}",
                expected="no `value:` at all, or one for every class (an ignored entry may go without), each once",
                cure="mend classes.yaml",
            )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Index of a class by name; an unknown name raises DataError listing the known ones."""
        if name not in self.names:
            raise DataError(
                f"class {name!r}{did_you_mean(name, self.names)}",
                expected=f"one of {', '.join(self.names)}",
                cure="mend the name or classes.yaml",
            )
        return self.names.index(name)

    @property
    def background_index(self) -> int | None:
        """Index of the background, None where there is none."""
        return self.names.index(self.background) if self.background else None

    @property
    def objects(self) -> npt.NDArray[np.intp]:
        """Indices of the classes that tags speak of, rising: all but the background."""
        return np.flatnonzero([name != self.background for name in self.names])

    @property
    def object_names(self) -> tuple[str, ...]:
        """Names of :attr:`objects`, in index order: what people are asked for."""
        return tuple(name for name in self.names if name != self.background)

    @property
    def ignored_colour(self) -> Colour:
        """What pixels of ``IGNORE`` are painted in: the first ignored colour, else a grey of no class."""
        if self.ignored:
            return self.ignored[0][1]
        greys = ((grey, grey, grey) for grey in (0, 255, 128, *range(256)))
        return next(grey for grey in greys if grey not in self.colours)

    def to_colours(self, mask: Mask) -> npt.NDArray[np.uint8]:
        """Index mask (H, W) uint8 -> RGB (H, W, 3) uint8; values that are no class are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        table[IGNORE] = self.ignored_colour
        return table[mask]

    def colour_table(self) -> dict[int, tuple[int, int, int, int]]:
        """Of an index mask: value -> (red, green, blue, alpha); values that are no class are transparent."""
        colours = self.to_colours(np.arange(256, dtype=np.uint8)[None])[0].tolist()
        used = {*range(len(self)), IGNORE}
        return {value: (r, g, b, 255 * (value in used)) for value, (r, g, b) in enumerate(colours)}

    def colour_codes(self) -> dict[Colour, int]:
        """Colour -> class index, or ``IGNORE`` for the colours of ``ignored``."""
        return dict.fromkeys((colour for _, colour in self.ignored), IGNORE) | {
            colour: index for index, colour in enumerate(self.colours)
        }

    def value_codes(self) -> dict[int, int]:
        """Id in a label file -> class index, or ``IGNORE`` for the ids of ``ignored``; empty without ``values``."""
        ignored = (value for value in self.ignored_values if value is not None)
        return dict.fromkeys(ignored, IGNORE) | {value: index for index, value in enumerate(self.values)}

    def by_index(self) -> ClassScheme:
        """The same classes without ``values``: the scheme of masks that hold indices, as those of a workspace do."""
        return dataclasses.replace(self, values=(), ignored_values=())

    def to_indices(self, rgb: npt.NDArray[np.uint8], *, ignored: npt.NDArray[np.bool_] | None = None) -> Mask:
        """RGB (H, W, 3) uint8 -> index mask (H, W) uint8; each unknown colour is named with its count and place.

        Pixels of ``ignored`` (H, W) become ``IGNORE``, whatever their colour.
        """
        codes = pack_colour(*np.moveaxis(rgb.astype(np.int32), -1, 0))
        mask = np.full(codes.shape, IGNORE, np.uint8)
        known = np.zeros(codes.shape, bool) if ignored is None else ignored.copy()
        for colour, index in self.colour_codes().items():
            here = codes == pack_colour(*colour)
            mask[here] = index
            known |= here
        if ignored is not None:
            mask[ignored] = IGNORE
        if not known.all():
            raise self.unknown_colours(codes, ~known)
        return mask

    def unknown_colours(self, codes: npt.NDArray[Any], unknown: npt.NDArray[np.bool_]) -> DataError:
        """The error for pixels (H, W) bool of colours that the scheme lacks; ``codes`` are of :func:`pack_colour`."""
        colours, counts = np.unique(codes[unknown], return_counts=True)
        places = [tuple(int(at) for at in np.argwhere(unknown & (codes == code))[0]) for code in colours[:_NAMED]]
        strays = sorted(zip(places, colours[:_NAMED].tolist(), counts[:_NAMED].tolist(), strict=True))
        texts = [
            f"{(code >> 16, code >> 8 & 255, code & 255)} at row {row}, column {column}"
            + (f" ({count} px)" if len(colours) > 1 else "")
            for (row, column), code, count in strays
        ]
        more = f" and {len(colours) - _NAMED} more colours" if len(colours) > _NAMED else ""
        return DataError(
            f"{int(unknown.sum())} px of unknown colours, first {', then '.join(texts)}{more}",
            expected=f"the colours of {', '.join(self.names + tuple(name for name, _ in self.ignored))}",
            cure="mend the mask, or name the colour in classes.yaml",
        )

    def to_table(self) -> dict[str, Any]:
        """What classes.yaml says: ``classes: [{name, colour}]``, ``ignored`` and ``background``, ``value`` if given."""
        rows: list[dict[str, Any]]
        rows = [{"name": n, "colour": list(c)} for n, c in zip(self.names, self.colours, strict=True)]
        ignored: list[dict[str, Any]] = [{"name": n, "colour": list(c)} for n, c in self.ignored]
        for entries, values in ((rows, self.values), (ignored, self.ignored_values)):
            for entry, value in zip(entries, values, strict=False):
                entry |= {} if value is None else {"value": value}
        return {"classes": rows, "ignored": ignored} | ({"background": self.background} if self.background else {})

    def save(self, path: Path) -> None:
        """Write classes.yaml."""
        save_yaml(path, self.to_table())


def load_classes(path: Path) -> ClassScheme:
    """Read a classes.yaml as :meth:`ClassScheme.save` writes it; anything else raises DataError.

    So do names that ``class_names`` refuses; the scheme of a model file is taken as it is.
    """
    if not path.is_file():
        raise DataError(f"no file {path}", expected="a classes.yaml", cure="run `weakseg data import` or `data ensure`")
    try:
        raw = load_yaml(path)
    except DataError as error:
        raise _no_table(str(path), error) from error
    scheme = parse_classes(raw, str(path))
    try:
        check_names(scheme.names, [name for name, _ in scheme.ignored])
    except DataError as error:
        raise DataError(f"{path}: {error.found}", expected=error.expected, cure=error.cure) from error
    return scheme


def parse_classes(raw: Any, origin: str) -> ClassScheme:
    """The scheme of a table as :meth:`ClassScheme.to_table` makes it; ``origin`` names it in errors (DataError)."""
    try:
        _check_keys(raw, ("classes", "ignored", "background"))
        rows, ignored = ([_entry(row) for row in entries] for entries in (raw["classes"], raw.get("ignored") or []))
        background = _text(raw["background"]) if raw.get("background") is not None else ""
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_table(origin, error) from error
    try:
        return _scheme(rows, ignored, background)
    except DataError as error:
        raise DataError(f"{origin}: {error.found}", expected=error.expected, cure=error.cure) from error


def _no_table(origin: str, error: Exception) -> DataError:
    return DataError(
        f"{origin} is not a class table ({type(error).__name__}: {error})".replace("\n", " "),
        expected="classes: [{name: NAME, colour: [R, G, B]}, ...] and optionally ignored: [...], value: ID in both, "
        "background: NAME",
        cure="mend the file",
    )


def find_classes(name: str) -> ClassScheme:
    """A class scheme by the path of a classes.yaml, or by the name of one that weakseg has, e.g. ``loveda``."""
    path, ready = Path(name), {file.stem: file for file in sorted(READY.glob("*.yaml"))}
    key = name.lower().replace("-", "_").replace(".", "_")
    if path.is_file() or (key not in ready and path.suffix in (".yaml", ".yml")):
        return load_classes(path)
    if key not in ready:
        expected = f"the path of a classes.yaml, or one of {', '.join(ready)}"
        raise DataError(f"classes {name!r}", expected=expected, cure="mend the name")
    return load_classes(ready[key])


_Entry = tuple[str, Colour, int | None]


def _scheme(rows: list[_Entry], ignored: list[_Entry], background: str) -> ClassScheme:
    values = [value for _, _, value in rows if value is not None]
    ids = tuple(value for _, _, value in ignored)
    return ClassScheme(
        tuple(name for name, _, _ in rows),
        tuple(colour for _, colour, _ in rows),
        tuple((name, colour) for name, colour, _ in ignored),
        tuple(values),
        ids if any(value is not None for value in ids) else (),
        background,
    )


def _entry(row: Mapping[str, Any]) -> _Entry:
    _check_keys(row, ("name", "colour", "value"))
    name, colour, value = _text(row["name"]), row["colour"], row.get("value")
    if len(colour) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in colour):
        raise ValueError(f"colour {colour} is not three whole numbers of 0..255")
    if value is not None and type(value) is not int:
        raise ValueError(f"value {value!r} is no whole number")
    red, green, blue = colour
    return name, (red, green, blue), value


def _text(name: Any) -> str:
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise ValueError(f"name {name!r} is no text, put it in quotes")
    # programs write the same letter as one or as two code points: one of them, so that tags and boxes find the class
    return unicodedata.normalize("NFC", str(name))


def _check_keys(row: Mapping[str, Any], known: tuple[str, ...]) -> None:
    strange = [str(key) for key in row.keys() - set(known)]
    if strange:
        raise ValueError(f"unknown key {', '.join(sorted(strange))}")


def _check_name(name: str) -> None:
    """Refuse what no table, tag list or file name can carry; blanks inside, brackets and umlauts are fine."""
    if not name or name != name.strip() or any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise DataError(
            f"class name {name!r}",
            expected="a name without control characters and without blanks at its ends",
            cure="mend classes.yaml",
        )


ISPRS: Final = ClassScheme(
    names=("impervious_surface", "building", "low_vegetation", "tree", "car"),
    colours=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)),
    ignored=(("clutter", (255, 0, 0)), ("boundary", (0, 0, 0))),
)
