"""What the things in a procedural scene look like: roofs, crowns, cars, pavings, clutter, and the shadows they cast.

Every pixel value here comes from ``Generator.random``, from ``+ - * /``, comparisons and ``np.sqrt`` on float64 and
from box blurs. IEEE 754 fixes their results, so that a scene has the same bytes on every machine. Exponentials, powers
and trigonometry have no fixed last bit (it depends on the instruction set): hence directions by a rational formula and
texture by blurred uniform noise. Matrix products and long float sums are avoided for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from weakseg.core.classes import IGNORE, ISPRS

Plane = npt.NDArray[np.float64]
Region = npt.NDArray[np.bool_]
Tone = tuple[float, float, float]
Axis = tuple[float, float]
Window = tuple[slice, slice]
Kind = tuple[str, Tone]  # of a roof: gable, hip or flat, and its material
T = TypeVar("T")

IMPERVIOUS: Final = ISPRS.index("impervious_surface")
BUILDING: Final = ISPRS.index("building")
GRASS: Final = ISPRS.index("low_vegetation")
TREE: Final = ISPRS.index("tree")
CAR: Final = ISPRS.index("car")

CAR_TONES: Final[tuple[Tone, ...]] = (
    (190, 200, 200),
    (150, 157, 158),
    (106, 110, 111),
    (52, 56, 60),
    (40, 43, 46),
    (150, 120, 62),
    (70, 78, 120),
    (120, 128, 128),
    (84, 110, 104),
)


class Dice:
    """All draws of a scene, each made from ``Generator.random`` alone: the stream that numpy does not change."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def real(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self.rng.random())

    def whole(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        return low + int(float(self.rng.random()) * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]

    def axis(self) -> Axis:
        """A unit vector (x, y) with x >= 0: the rational points of the half circle, no sine needed."""
        t = self.real(-1.0, 1.0)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)

    def spots(self, where: Region, count: int) -> list[tuple[int, int]]:
        """Pixels (x, y) of the region, ``count`` of them with repetition, or none where it is empty."""
        places = np.flatnonzero(where)
        if places.size == 0:
            return []
        drawn = (int(places[self.whole(0, places.size - 1)]) for _ in range(count))
        return [(place % where.shape[1], place // where.shape[1]) for place in drawn]

    def vary(self, tone: Tone, *, brightness: float = 0.1, hue: float = 5.0) -> Tone:
        """A tone of the same material: brighter or darker by a factor, each band shifted by up to ``hue``."""
        gain = self.real(1 - brightness, 1 + brightness)
        red, green, blue = (band * gain + self.real(-hue, hue) for band in tone)
        return red, green, blue

    def noise(self, shape: tuple[int, int], radius: int) -> Plane:
        """Texture (H, W) of mean 0 and spread 1, uniform noise blurred by two boxes of the radius in px."""
        side = 2 * radius + 1
        kept = (2 * side * side + 1) / (3 * side**3)  # per axis, the squared weights of two boxes in a row
        plane = self.rng.random(shape) - 0.5
        for _ in range(2 if radius else 0):
            plane = uniform_filter(plane, side, mode="reflect")
        return plane / (0.288675 * kept)


@dataclass(frozen=True)
class Look:
    """What one scene's materials, season and light have in common.

    Attributes:
        sun: unit vector (x, y) from the scene towards the sun.
        reach: length of a shadow per height, both in px.
        shadow: brightness left in shadow, for infrared, red and green.
        relief: how much slopes differ between their sunny and their dark side, 0..0.5.
        roofs: (shape, tone) of the roofs in use; shape is gable, hip or flat.
        roads, yards, lawns, crowns: tones of the materials in use (infrared, red, green; 0..255).
        rough: amplitude of the texture of grass; crown: of tree crowns; both as a share of brightness.
    """

    sun: Axis
    reach: float
    shadow: Tone
    relief: float
    roofs: tuple[Kind, ...]
    roads: tuple[Tone, ...]
    yards: tuple[Tone, ...]
    lawns: tuple[Tone, ...]
    crowns: tuple[Tone, ...]
    rough: float
    crown: float


@dataclass
class Canvas:
    """A scene under way: albedo (H, W, 3) float64 0..255, mask (H, W) uint8, height (H, W) float64 in px, textures."""

    albedo: Plane
    mask: npt.NDArray[np.uint8]
    height: Plane
    look: Look
    dice: Dice
    fine: Plane = field(init=False)
    grain: Plane = field(init=False)
    blotch: Plane = field(init=False)
    broad: Plane = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.mask.shape[0], self.mask.shape[1])
        self.fine, self.grain, self.blotch, self.broad = (self.dice.noise(shape, radius) for radius in (0, 1, 3, 11))

    def window(self, x: float, y: float, axis: Axis, reach: float) -> tuple[Window, Plane, Plane]:
        """The square of ``reach`` px around (x, y), cut at the border; coordinates along and across the axis."""
        rows, columns = self.mask.shape
        size = int(reach) + 2
        top, left = max(0, int(y) - size), max(0, int(x) - size)
        bottom, right = max(top, min(rows, int(y) + size + 1)), max(left, min(columns, int(x) + size + 1))
        across, down = np.arange(left, right) - x, np.arange(top, bottom)[:, None] - y
        along, aside = across * axis[0] + down * axis[1], down * axis[0] - across * axis[1]
        return (slice(top, bottom), slice(left, right)), along, aside

    def paint(self, at: Window, inside: Region, tone: Tone, shade: Plane, index: int, height: Plane | float) -> None:
        """Cover the inside of a window with ``tone * shade`` of a class; it rises to ``height`` px."""
        for band in range(3):
            plane = self.albedo[at][..., band]
            plane[inside] = (tone[band] * shade)[inside]
        self.mask[at][inside] = index
        self.height[at][inside] = height[inside] if isinstance(height, np.ndarray) else height


def add_paving(canvas: Canvas, at: Window, inside: Region, tone: Tone) -> None:
    """Asphalt or stone where ``inside``: fine grain, stains and patches of repair."""
    shade = 1 + 0.03 * canvas.fine[at] + 0.03 * canvas.blotch[at] + 0.05 * canvas.broad[at]
    shade = shade * np.where(canvas.broad[at] + 0.5 * canvas.blotch[at] > 1.9, 0.86, 1.0)
    canvas.paint(at, inside, tone, shade, IMPERVIOUS, 0.0)


def add_roof(canvas: Canvas, x: float, y: float, axis: Axis, length: float, width: float, kind: Kind) -> None:
    """A roof of half ``length`` and half ``width`` px, ridge along the axis; its slopes take the light differently."""
    shape, tone = kind
    dice, look = canvas.dice, canvas.look
    at, u, v = canvas.window(x, y, axis, length + width)
    inside = (np.abs(u) <= length) & (np.abs(v) <= width)
    eave, rim = dice.real(9, 17), np.minimum(length - np.abs(u), width - np.abs(v))
    if shape == "flat":
        shade = 1 + 0.03 * canvas.fine[at] + 0.04 * canvas.blotch[at] + np.where(rim < 1.5, dice.real(-0.18, 0.3), 0.0)
        height: Plane | float = eave
    else:
        aside = look.relief * (look.sun[1] * axis[0] - look.sun[0] * axis[1])
        along = look.relief * (look.sun[0] * axis[0] + look.sun[1] * axis[1])
        end = (np.abs(u) - length > np.abs(v) - width) & (shape == "hip")
        tiles = np.where(np.floor(v / 1.5) % 2 > 0, dice.real(0.0, 0.07), 0.0)
        shade = 1 + np.where(end, np.sign(u) * along, np.sign(v) * aside) + tiles + 0.03 * canvas.grain[at]
        shade = shade + np.where((np.abs(v) < 0.8) & ~end, 0.1, 0.0)
        height = eave + 0.6 * (rim if shape == "hip" else width - np.abs(v))
    canvas.paint(at, inside, tone, shade, BUILDING, height)
    _roof_furniture(canvas, at, inside, u, v, length, width, shape)


def _roof_furniture(
    canvas: Canvas, at: Window, inside: Region, u: Plane, v: Plane, length: float, width: float, shape: str
) -> None:
    """Chimneys, skylights, plant boxes and solar panels: still building, but as bright or dark as a car."""
    dice = canvas.dice
    for _ in range(dice.whole(1, 5) if shape == "flat" else dice.whole(0, 3)):
        size_u, size_v = dice.real(1.0, 3.2), dice.real(1.0, 2.6)
        near = np.maximum(
            np.abs(u - dice.real(-0.8, 0.8) * length) / size_u, np.abs(v - dice.real(-0.8, 0.8) * width) / size_v
        )
        tone = dice.vary(dice.pick(CAR_TONES[:5]))
        canvas.paint(at, inside & (near < 1), tone, np.ones_like(u), BUILDING, canvas.height[at] + dice.real(0.5, 3))
    if dice.chance(0.15):
        panel = (np.abs(u) < 0.7 * length) & (v > 0.2 * width) & (v < 0.75 * width)
        lines = np.where(np.floor(u / 4) % 2 > 0, 1.0, 1.18)
        canvas.paint(at, inside & panel, (44, 50, 66), lines, BUILDING, canvas.height[at])


def add_crown(canvas: Canvas, x: float, y: float, radius: float, tone: Tone) -> None:
    """A tree crown: ragged round dome, sunny and dark side, lumps of leaves; it hides whatever is below it."""
    dice, look = canvas.dice, canvas.look
    at, u, v = canvas.window(x, y, (1.0, 0.0), 1.4 * radius)
    edge = np.maximum(radius * (1 + 0.08 * canvas.grain[at] + 0.08 * canvas.blotch[at]), 1.0)
    square = (u * u + v * v) / (edge * edge)
    dome = np.sqrt(np.maximum(0.0, 1 - square))
    light = (u * look.sun[0] + v * look.sun[1]) / radius
    lumps = look.crown * (0.7 * canvas.grain[at] + 0.4 * canvas.fine[at])
    shade = np.maximum((0.74 + 0.3 * dome) * (1 + 0.8 * look.relief * light + lumps), 0.15)
    height = np.maximum(
        canvas.height[at], radius * dice.real(1.0, 1.7) * (0.45 + 0.55 * dome + 0.05 * canvas.grain[at])
    )
    canvas.paint(at, square < 1, tone, shade, TREE, height)


def add_car(canvas: Canvas, x: float, y: float, axis: Axis, *, on_grass: bool = False) -> bool:
    """A car of about 10 x 5 px along the axis, if the place is free and paved (or grass); False where it is not."""
    dice = canvas.dice
    length, width = dice.real(4.3, 5.5), dice.real(2.1, 2.6)
    at, u, v = canvas.window(x, y, axis, length + 2)
    ground = canvas.mask[at]
    room = (np.abs(u) <= length + 1) & (np.abs(v) <= width + 1)
    wanted = (ground == IMPERVIOUS) | (ground == GRASS) & on_grass
    if not room.any() or not wanted[room].all():
        return False
    body = (np.abs(u) <= length) & (np.abs(v) <= width) & (np.abs(u) / length + np.abs(v) / width < 1.75)
    glass = (np.abs(u - 0.28 * length) < 0.9) | (np.abs(u + 0.62 * length) < 0.7)
    shade = np.where(glass & (np.abs(v) < width - 0.4), dice.real(0.45, 0.75), 1.0) + np.where(
        np.abs(u) < 1.2, 0.08, 0.0
    )
    canvas.paint(at, body, dice.vary(dice.pick(CAR_TONES)), shade, CAR, 4.5)
    return True


def add_pond(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """Standing water, which is clutter: dark and smooth like a shadow."""
    at, u, v = canvas.window(x, y, (1.0, 0.0), 1.8 * radius)
    inside = (u * u * 0.6 + v * v) < radius * radius * (1 + 0.18 * canvas.broad[at] + 0.06 * canvas.blotch[at])
    tone = canvas.dice.pick(((24, 44, 56), (38, 60, 62), (30, 34, 40)))
    canvas.paint(at, inside & (canvas.mask[at] == GRASS), tone, 1 + 0.02 * canvas.blotch[at], IGNORE, 0.0)


def add_court(canvas: Canvas, x: float, y: float, axis: Axis, length: float, tone: Tone) -> None:
    """A swimming pool or a sports court, which is clutter: one flat colour with a pale rim."""
    at, u, v = canvas.window(x, y, axis, 1.5 * length)
    rim = np.maximum(np.abs(u) - length, np.abs(v) - 0.55 * length)
    shade = np.where(rim > -1.2, 1.3, 1.0) + 0.02 * canvas.fine[at]
    canvas.paint(at, (rim <= 0) & (canvas.mask[at] == GRASS), tone, shade, IGNORE, 0.0)


def add_site(canvas: Canvas, x: float, y: float, axis: Axis, radius: float) -> None:
    """A building site, which is clutter: churned soil with heaps and containers."""
    dice = canvas.dice
    at, u, v = canvas.window(x, y, axis, 1.5 * radius)
    inside = np.maximum(np.abs(u), np.abs(v) * 1.3) < radius * (1 + 0.06 * canvas.blotch[at])
    free = (canvas.mask[at] == GRASS) | (canvas.mask[at] == IMPERVIOUS)
    heaps = np.maximum(0.0, 1.5 * canvas.blotch[at])
    tone = dice.vary(dice.pick(((150, 140, 120), (112, 104, 92), (176, 172, 160))))
    canvas.paint(at, inside & free, tone, 1 + 0.1 * canvas.blotch[at] + 0.05 * canvas.fine[at], IGNORE, heaps)
    for _ in range(dice.whole(2, 5)):
        add_container(canvas, x + dice.real(-0.6, 0.6) * radius, y + dice.real(-0.6, 0.6) * radius, axis)


def add_container(canvas: Canvas, x: float, y: float, axis: Axis) -> None:
    """A freight container or skip, which is clutter: a box somewhat larger than a car."""
    dice = canvas.dice
    length, width = dice.real(5.5, 9.0), dice.real(2.6, 3.4)
    at, u, v = canvas.window(x, y, axis, length)
    inside = (np.abs(u) <= length) & (np.abs(v) <= width) & (canvas.mask[at] != BUILDING) & (canvas.mask[at] != CAR)
    ribs = np.where(np.floor(u / 1.5) % 2 > 0, 0.93, 1.05)
    canvas.paint(at, inside, dice.vary(dice.pick(CAR_TONES)), ribs, IGNORE, 8.0)


def cast_shadows(height: Plane, sun: Axis, reach: float) -> Plane:
    """Share of shadow (H, W), 0..1, with a soft rim.

    A pixel is dark where a thing towards the sun rises above the ray that grazes it: heights and lengths in px,
    ``reach`` being the length of the shadow per height.
    """
    dark = np.zeros(height.shape, bool)
    furthest = int(float(height.max()) * reach) + 1
    padded = np.pad(height, furthest)
    rows, columns = height.shape
    for step in range(1, furthest + 1):
        top, left = furthest + round(step * sun[1]), furthest + round(step * sun[0])
        dark |= padded[top : top + rows, left : left + columns] - step / reach > height + 0.7
    soft: Plane = uniform_filter(dark.astype(np.float64), 3, mode="nearest")
    return soft
