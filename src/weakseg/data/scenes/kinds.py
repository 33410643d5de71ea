"""The kinds of objects: an outline, a pattern, tones and a height each; twelve named, two hundred combined."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np

from weakseg.data.scenes.shapes import Axis, Canvas, Plane, Tone, Window

HALF: Final = 0.7071067811865476  # sine and cosine of 45 degrees
COS30: Final = 0.8660254037844386


@dataclass(frozen=True)
class Kind:
    """One class of objects.

    Attributes:
        outline: of :func:`covered`. pattern: of :func:`shade_of`.
        tones: red, green and blue that it comes in.
        length: half of its longer side, px, from and to. aspect: width by length, from and to.
        height: px; it throws a shadow. dome: it falls off to the rim.
    """

    name: str
    outline: str
    pattern: str
    tones: tuple[Tone, ...]
    length: tuple[float, float] = (10.0, 19.0)
    aspect: tuple[float, float] = (0.8, 1.0)
    height: float = 4.0
    dome: bool = False


_CARS: Final = ((196, 198, 200), (60, 62, 66), (150, 40, 38), (46, 74, 130), (120, 122, 124))
NAMED: Final = (
    Kind("pool", "box", "water", ((58, 150, 186), (70, 172, 196)), (9, 16), (0.5, 0.75), 0.0),
    Kind("tank", "disc", "lid", ((206, 206, 202), (176, 180, 182)), (9, 18), (1.0, 1.0), 11.0),
    Kind("tree", "blob", "leaves", ((62, 92, 44), (84, 108, 50), (46, 74, 46)), (9, 19), (0.9, 1.0), 10.0, dome=True),
    Kind("car", "rounded", "glass", _CARS, (9, 13), (0.44, 0.5), 4.0),
    Kind("boat", "leaf", "deck", ((214, 214, 208), (190, 202, 208), (156, 60, 50)), (11, 20), (0.3, 0.4), 3.0),
    Kind("solar_panel", "box", "grid", ((36, 46, 84), (30, 36, 58)), (10, 20), (0.4, 0.8), 2.0),
    Kind("tent", "box", "gable", ((206, 122, 48), (96, 112, 70), (204, 200, 188)), (9, 15), (0.7, 0.95), 6.0),
    Kind("parasol", "octagon", "sectors", ((196, 58, 50), (58, 104, 160), (214, 176, 62)), (8, 13), (1.0, 1.0), 8.0),
    Kind("container", "box", "ribs", ((152, 66, 46), (52, 92, 124), (110, 124, 70)), (12, 20), (0.34, 0.42), 7.0),
    Kind("bale", "disc", "rings", ((188, 160, 96), (168, 146, 94)), (7, 12), (0.9, 1.0), 6.0, dome=True),
    Kind("plane", "plane", "plain", ((216, 216, 214), (184, 188, 194)), (14, 22), (0.95, 1.1), 5.0),
    Kind("court", "box", "lines", ((164, 86, 62), (72, 124, 86), (62, 98, 146)), (14, 22), (0.5, 0.6), 0.0),
)

OUTLINES: Final = ("disc", "box", "octagon", "cross", "corner", "ring", "triangle", "leaf", "half", "plane")
PATTERNS: Final = ("plain", "striped", "checked", "spotted", "rimmed")
HUES: Final[dict[str, tuple[Tone, ...]]] = {
    "red": ((176, 62, 50), (150, 48, 56), (196, 92, 62)),
    "blue": ((56, 92, 152), (70, 124, 168), (48, 66, 116)),
    "yellow": ((206, 174, 72), (190, 150, 60), (214, 194, 110)),
    "grey": ((196, 198, 198), (120, 122, 126), (70, 72, 78)),
}
COMBINED: Final = tuple(
    Kind(f"{hue}_{pattern}_{outline}", outline, pattern, tones, (10.0, 19.0), (0.75, 1.0), 3.0)
    for outline, pattern, (hue, tones) in itertools.product(OUTLINES, PATTERNS, HUES.items())
)


def covered(outline: str, u: Plane, v: Plane, a: float, b: float, grain: Plane) -> Plane:
    """How far inside an outline of half length ``a`` and half width ``b`` each place (u, v) is, px; outside below 0."""
    disc = (1 - np.sqrt((u / a) * (u / a) + (v / b) * (v / b))) * b
    box = np.minimum(a - np.abs(u), b - np.abs(v))
    if outline == "disc":
        return disc
    if outline == "blob":  # ragged, as a crown is
        return disc + 0.09 * b * grain
    if outline == "box":
        return box
    if outline == "rounded":
        return np.minimum(box, 0.62 * (a + b) - HALF * (np.abs(u) + np.abs(v)))
    if outline == "octagon":
        return np.minimum(np.minimum(b - np.abs(u), b - np.abs(v)), b - HALF * (np.abs(u) + np.abs(v)))
    if outline == "cross":
        arm = 0.32 * b
        return np.maximum(np.minimum(a - np.abs(u), arm - np.abs(v)), np.minimum(arm - np.abs(u), b - np.abs(v)))
    if outline == "corner":
        return np.minimum(box, 0.8 * b - np.minimum(u + a, v + b))
    if outline == "ring":
        return np.minimum(disc, 0.55 * b - disc)
    if outline == "triangle":
        return np.minimum(0.55 * b - v, np.minimum(*(0.55 * b + 0.5 * v - side * COS30 * u for side in (-1, 1))))
    if outline == "leaf":
        return b * (1 - (u / a) * (u / a)) - np.abs(v)
    if outline == "half":
        return np.minimum(disc, v + 0.25 * b)
    return _plane(u, v, a, b)


def _plane(u: Plane, v: Plane, a: float, b: float) -> Plane:
    """A fuselage along u, wings that are swept back, a tail."""
    fuselage = 0.13 * a * (1 - (u / a) * (u / a)) - np.abs(v)
    wing = np.minimum(0.16 * a - np.abs(u - 0.12 * a + 0.35 * np.abs(v)), b - np.abs(v))
    tail = np.minimum(0.09 * a - np.abs(u + 0.8 * a + 0.3 * np.abs(v)), 0.36 * b - np.abs(v))
    return np.maximum(fuselage, np.maximum(wing, tail))


def shade_of(
    kind: Kind,
    canvas: Canvas,
    at: Window,
    place: tuple[Plane, Plane],
    rim: Plane,
    size: tuple[float, float],
    axis: Axis,
) -> Plane:
    """Brightness of a kind's tone at each pixel of a window: pattern, light from the side, wear."""
    (u, v), (a, b), dice, look = place, size, canvas.dice, canvas.look
    along = look.sun[0] * axis[0] + look.sun[1] * axis[1]
    aside = look.sun[1] * axis[0] - look.sun[0] * axis[1]
    wear = 0.03 * canvas.fine[at] + 0.04 * canvas.blotch[at]
    pattern = _marks(kind.pattern, u, v, rim, a, b, dice.real(0.0, 1.0))
    if kind.pattern == "gable":
        pattern = pattern + np.sign(v) * 1.6 * look.relief * aside
    if kind.pattern == "leaves":
        pattern = pattern + 0.16 * canvas.grain[at] + 0.08 * canvas.fine[at]
    if kind.dome:
        pattern = pattern * (0.75 + 0.35 * np.minimum(1.0, np.maximum(rim, 0.0) / (0.7 * b)))
        pattern = pattern + look.relief * (u * along + v * aside) / a
    return np.maximum(pattern + wear, 0.12)


def _marks(pattern: str, u: Plane, v: Plane, rim: Plane, a: float, b: float, drawn: float) -> Plane:
    """The pattern alone, around 1; ``drawn``, 0 to 1, is how wide it is."""
    one: Plane = np.ones_like(u)
    pitch = b * (0.3 + 0.12 * drawn)
    odd_u, odd_v = np.floor(u / pitch) % 2, np.floor(v / pitch) % 2
    if pattern in ("striped", "ribs"):
        return np.where(odd_u > 0, *((1.3, 0.7) if pattern == "striped" else (1.08, 0.86)))
    if pattern == "checked":
        return np.where(odd_u == odd_v, 1.35, 0.65)
    if pattern == "spotted":
        step = 1.5 * pitch
        x, y = (plane - step * (np.floor(plane / step) + 0.5) for plane in (u, v))
        return np.where(x * x + y * y < 0.22 * pitch * pitch, 0.5, 1.1)
    if pattern == "rimmed":
        return np.where(rim < 2.2, 1.45, 0.85)
    if pattern == "water":
        return np.where(rim < 1.5, 1.35, 1.0) + 0.04 * np.where(np.floor((u + 0.4 * v) / 2.5) % 2 > 0, 1.0, -1.0)
    if pattern == "lid":
        hub = np.where(np.sqrt(u * u + v * v) < 0.12 * a, -0.1, 0.0)
        ladder = np.where((np.abs(v) < 0.8) & (u > 0), -0.15, 0.0)
        return np.where(rim < 1.3, 0.8, 1.0) + ladder + hub
    if pattern == "glass":
        glass = (np.abs(u - 0.28 * a) < 0.13 * a) | (np.abs(u + 0.58 * a) < 0.1 * a)
        return np.where(glass & (np.abs(v) < b - 1.0), 0.45, 1.0)
    if pattern == "deck":
        cabin = (np.abs(u + 0.15 * a) < 0.22 * a) & (np.abs(v) < 0.45 * b)
        return np.where(cabin, 0.55, np.where(rim < 1.2, 1.1, 0.92))
    if pattern == "grid":
        lines = (u / (0.33 * a) - np.floor(u / (0.33 * a)) < 0.14) | (v / (0.5 * b) - np.floor(v / (0.5 * b)) < 0.14)
        return np.where(lines, 1.9, 1.0)
    if pattern == "gable":
        return np.where(np.abs(v) < 0.8, 1.15, 1.0)
    if pattern == "sectors":
        swap = (np.abs(u) > np.abs(v)) == (u * v > 0)
        return np.where(swap, 1.3, 0.8)
    if pattern == "rings":
        return np.where(np.floor(np.sqrt(u * u + v * v) / 1.8) % 2 > 0, 1.1, 0.88)
    if pattern == "lines":
        edge = (rim > 1.5) & (rim < 2.7)
        middle = (np.abs(u) < 0.7) | (np.abs(np.abs(u) - 0.55 * a) < 0.6) | ((np.abs(v) < 0.6) & (np.abs(u) < 0.55 * a))
        return np.where(edge | (middle & (rim > 2)), 1.7, 1.0)
    return one
