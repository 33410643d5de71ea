"""Class schemes: names and colours side by side, asked for by name.

Masks are uint8 ``(H, W)`` with class indices ``0..C-1`` and ``IGNORE`` (255) for pixels that count nowhere.
Layer 0: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import yaml

from weakseg.errors import DataError

IGNORE: Final = 255

Colour = tuple[int, int, int]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClassScheme:
    """Class names with their RGB colours, in index order, and the colours that mean "ignore".

    Attributes:
        names: scored classes, index order, 1 to 32 of them (tags travel as bits of an int32).
        colours: one (R, G, B) in 0..255 per name, all different.
        ignored: (name, colour) pairs that become ``IGNORE``, e.g. ISPRS clutter and eroded borders.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignored: tuple[tuple[str, Colour], ...] = ()

    def __post_init__(self) -> None:
        everything = list(self.colours) + [colour for _, colour in self.ignored]
        if not 1 <= len(self.names) <= 31 or len(self.names) != len(self.colours):
            raise DataError(
                f"{len(self.names)} names and {len(self.colours)} colours",
                expected="1 to 31 names and one colour each",
                cure="mend classes.yaml",
            )
        if len(set(everything)) != len(everything) or len(set(self.names)) != len(self.names):
            raise DataError(
                f"repeated name or colour among {self.names} {everything}",
                expected="each once",
                cure="mend classes.yaml",
            )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Index of a class by name; an unknown name raises DataError listing the known ones."""
        if name not in self.names:
            raise DataError(
                f"class {name!r}", expected=f"one of {', '.join(self.names)}", cure="mend the name or classes.yaml"
            )
        return self.names.index(name)

    def to_colours(self, mask: Mask) -> npt.NDArray[np.uint8]:
        """Index mask (H, W) uint8 -> RGB (H, W, 3) uint8; IGNORE takes the first ignored colour, or black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        if self.ignored:
            table[IGNORE] = self.ignored[0][1]
        return table[mask]

    def to_indices(self, rgb: npt.NDArray[np.uint8]) -> Mask:
        """RGB (H, W, 3) uint8 -> index mask (H, W) uint8; an unknown colour raises with its count and place."""
        codes = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
        mask = np.full(codes.shape, IGNORE, np.uint8)
        known = np.zeros(codes.shape, bool)
        pairs = [(colour, index) for index, colour in enumerate(self.colours)]
        pairs += [(colour, IGNORE) for _, colour in self.ignored]
        for (red, green, blue), index in pairs:
            here = codes == (red << 16 | green << 8 | blue)
            mask[here] = index
            known |= here
        if not known.all():
            rows, columns = np.nonzero(~known)
            first = tuple(int(value) for value in rgb[rows[0], columns[0]])
            raise DataError(
                f"{rows.size} px of unknown colours, first {first} at row {rows[0]}, column {columns[0]}",
                expected=f"the colours of {', '.join(self.names + tuple(name for name, _ in self.ignored))}",
                cure="mend the mask, or name the colour in classes.yaml",
            )
        return mask

    def save(self, path: Path) -> None:
        """Write classes.yaml: ``classes: [{name, colour}]`` and ``ignored: [{name, colour}]``."""
        rows = [{"name": n, "colour": list(c)} for n, c in zip(self.names, self.colours, strict=True)]
        ignored = [{"name": n, "colour": list(c)} for n, c in self.ignored]
        path.write_text(yaml.safe_dump({"classes": rows, "ignored": ignored}, sort_keys=False))


def load_classes(path: Path) -> ClassScheme:
    """Read a classes.yaml written by :meth:`ClassScheme.save`; anything else raises DataError."""
    if not path.is_file():
        raise DataError(f"no file {path}", expected="a classes.yaml", cure="run `weakseg data import` or `data ensure`")
    try:
        raw = yaml.safe_load(path.read_text())
        names, colours = _columns(raw["classes"])
        ignored_names, ignored_colours = _columns(raw.get("ignored") or [])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is not a class table ({type(error).__name__}: {error})".replace("\n", " "),
            expected="classes: [{name: NAME, colour: [R, G, B]}, ...] and optionally ignored: [...]",
            cure="mend the file",
        ) from error
    return ClassScheme(names, colours, tuple(zip(ignored_names, ignored_colours, strict=True)))


def _columns(rows: list[dict[str, object]]) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    names, colours = [], []
    for row in rows:
        red, green, blue = (int(value) for value in row["colour"])  # type: ignore[attr-defined]
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError(f"colour {row['colour']} outside 0..255")
        names.append(str(row["name"]))
        colours.append((red, green, blue))
    return tuple(names), tuple(colours)


ISPRS: Final = ClassScheme(
    names=("impervious_surface", "building", "low_vegetation", "tree", "car"),
    colours=((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)),
    ignored=(("clutter", (255, 0, 0)), ("boundary", (0, 0, 0))),
)
