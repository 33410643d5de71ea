"""Drawn class schemes: names, colours, ids and what is ignored, as a user writes them into classes.yaml."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import yaml
from hypothesis import strategies as st

Colour = tuple[int, int, int]
PLAIN_NAMES = ("road", "water", "forest", "field", "roof", "car")
ODD_NAMES = ("bare soil", "Land (unpaved)", "Größe", "low_vegetation", "a/b", "forêt")


@dataclass(frozen=True)
class Scheme:
    """Classes as drawn.

    Attributes:
        values: id of each class in index masks, as ``value:`` says it; None: their order says it.
        ignored: (name, colour) of what counts nowhere.
        style: how the colours were drawn.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    values: tuple[int, ...] | None
    ignored: tuple[tuple[str, Colour], ...]
    style: str

    @property
    def ids(self) -> tuple[int, ...]:
        """What an index mask holds, per class."""
        return self.values or tuple(range(len(self.names)))

    @property
    def grey(self) -> bool:
        """Whether a grey picture can hold all colours."""
        return all(len(set(colour)) == 1 for colour in (*self.colours, *(c for _, c in self.ignored)))

    def yaml(self) -> str:
        """The text of classes.yaml."""
        rows = [{"name": n, "colour": list(c)} for n, c in zip(self.names, self.colours, strict=True)]
        for row, value in zip(rows, self.values or (), strict=False):
            row["value"] = value
        ignored = [{"name": n, "colour": list(c)} for n, c in self.ignored]
        return yaml.safe_dump({"classes": rows, "ignored": ignored}, sort_keys=False, allow_unicode=True)

    def table(self) -> npt.NDArray[np.uint8]:
        """Colour of every index mask value as weakseg counts them: class index, 255 for the first ignored colour."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.names)] = self.colours
        if self.ignored:
            table[255] = self.ignored[0][1]
        return table


STYLES = ("colours", "black_white", "white_black", "greys", "small_greys")


@st.composite
def schemes(draw: st.DrawFn, *, odd: bool) -> Scheme:
    """Two to six classes; where ``odd``, in greys, with names that need quoting, or with ids beyond 8 bits."""
    style = draw(st.sampled_from(STYLES)) if odd else "colours"
    count = 2 if style in ("black_white", "white_black") else draw(st.integers(2, 6))
    names = draw(st.sampled_from([PLAIN_NAMES, PLAIN_NAMES, ODD_NAMES]))[:count] if odd else PLAIN_NAMES[:count]
    ignored_count = draw(st.integers(0, 2)) if style in ("colours", "greys") else 0
    colours = _colours(style, count + ignored_count, draw(st.integers(0, 99)))
    ignored = tuple((f"ignored{i}", colour) for i, colour in enumerate(colours[count:]))
    return Scheme(names, tuple(colours[:count]), draw(values(count, odd=odd)), ignored, style)


def values(count: int, *, odd: bool) -> st.SearchStrategy[tuple[int, ...] | None]:
    """Ids of the classes: none named, from 1, or any that fit 8 bits; where ``odd``, some beyond them."""
    anywhere = st.lists(st.integers(0, 254), min_size=count, max_size=count, unique=True).map(tuple)
    large = st.lists(st.integers(0, 3000), min_size=count, max_size=count, unique=True).map(tuple)
    from_one = st.just(tuple(range(1, count + 1)))
    return st.one_of(st.none(), st.none(), from_one, anywhere, *([large] if odd else []))


def _colours(style: str, count: int, number: int) -> list[Colour]:
    if style == "black_white":
        return [(0, 0, 0), (255, 255, 255)]
    if style == "white_black":
        return [(255, 255, 255), (0, 0, 0)]
    rng = np.random.default_rng(number)
    if style == "greys":
        return [(int(v),) * 3 for v in rng.permutation(np.linspace(20, 250, count).astype(int))]
    if style == "small_greys":
        return [(int(v),) * 3 for v in rng.permutation(count)]
    found: list[Colour] = []
    while len(found) < count:
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        if (red, green, blue) not in found and not red == green == blue:
            found.append((red, green, blue))
    return found
