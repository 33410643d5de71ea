"""What the blocks of a procedural scene are used for: the streets around them, houses, halls, parks, woods, fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.data.scenes.shapes import (
    BUILDING,
    CAR,
    GRASS,
    IMPERVIOUS,
    Axis,
    Canvas,
    Kind,
    Region,
    add_car,
    add_court,
    add_crown,
    add_paving,
    add_roof,
)

EVERYWHERE: Final = (slice(None), slice(None))

Lots = npt.NDArray[np.int64]
Building = tuple[tuple[int, int], Axis, float, float, Kind]


class Streets:
    """Two bent families of parallel roads, and the blocks between them.

    ``u`` and ``v`` (H, W) are coordinates in px across the first and the second family; ``blocks`` (H, W) int64 numbers
    the blocks; ``road`` (H, W) is the carriageway.
    """

    def __init__(self, canvas: Canvas, layout: str) -> None:
        dice = canvas.dice
        rows, columns = canvas.mask.shape
        self.axis: Axis = dice.axis()
        across, down = np.arange(columns) - columns / 2, np.arange(rows)[:, None] - rows / 2
        self.bend = dice.real(-0.001, 0.001)
        self.v = down * self.axis[0] - across * self.axis[1]
        self.u = across * self.axis[0] + down * self.axis[1] + self.bend * self.v * self.v
        gap = {"rural": (170.0, 260.0), "village": (120.0, 190.0)}.get(layout, (90.0, 150.0))
        self.lines_u = self._lines(canvas, 50, gap)
        self.lines_v = self._lines(canvas, 110, (gap[0] + 20, gap[1] + 40))
        self.blocks = np.zeros(canvas.mask.shape, np.int64)
        for plane, lines, weight in ((self.u, self.lines_u, 1), (self.v, self.lines_v, 100)):
            for place, _ in lines:
                self.blocks += weight * (plane > place)
        self.road = self.near(0.0)

    def _lines(self, canvas: Canvas, shift: float, gap: tuple[float, float]) -> list[tuple[float, float]]:
        """(place, half width) of the roads of one family, the first within ``shift`` px of the centre."""
        dice = canvas.dice
        first = dice.real(-shift, shift)
        places = [first]
        for sign in (-1, 1):
            place = first + sign * dice.real(*gap)
            while abs(place) < 260:
                places.append(place)
                place += sign * dice.real(*gap)
        return [(place, dice.real(7.0, 11.5)) for place in places]

    def near(self, margin: float) -> Region:
        """Pixels (H, W) no further than ``margin`` px from a carriageway."""
        near = np.zeros(self.u.shape, bool)
        for plane, lines in ((self.u, self.lines_u), (self.v, self.lines_v)):
            for place, half in lines:
                near |= np.abs(plane - place) <= half + margin
        return near

    def heading(self, x: int, y: int) -> Axis:
        """Direction of the first family's roads at a pixel."""
        slope = -2 * self.bend * float(self.v[y, x])
        scale = float(np.sqrt(1 + slope * slope))
        along, aside = slope / scale, 1 / scale
        return along * self.axis[0] - aside * self.axis[1], along * self.axis[1] + aside * self.axis[0]


def _houses(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Detached houses along the roads, drives, garden trees, now and then a pool."""
    dice, size = canvas.dice, int(block.sum())
    for house in _build(canvas, streets, block, max(12, size // 110), ((13, 21), (10.5, 14.5)), 2.0):
        if dice.chance(0.35):
            (x, y), axis, length, width, kind = house
            side = dice.pick((-0.4, 0.4)) * length
            wing = x + side * axis[0], y + side * axis[1]
            add_roof(canvas, *wing, _turned(axis, True), width + 5, 0.6 * width, kind)
        _drive(canvas, streets, house[0])
    plant_trees(canvas, block, size // dice.whole(220, 1400), (3.5, 9.5))
    if dice.chance(0.4):
        for pool in dice.spots(block & (canvas.mask == GRASS), 1):
            add_court(canvas, *pool, streets.axis, dice.real(5, 8), (52, 120, 165))


def _dense(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Town houses wall to wall around paved courts; few trees, no lawn to speak of."""
    dice, size = canvas.dice, int(block.sum())
    paved = block & (lots % 4 > 0) if dice.chance(0.4) else block
    add_paving(canvas, EVERYWHERE, paved, dice.pick(canvas.look.yards))
    _build(canvas, streets, block, max(30, size // 40), ((17, 32), (13, 17)), 1.0)
    plant_trees(canvas, block, size // dice.whole(600, 3000), (4.0, 8.0))
    park_cars(canvas, streets, block & (canvas.mask == IMPERVIOUS), dice.whole(2, 8))


def _halls(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Large flat roofs beside parking places with rows of cars; no trees."""
    dice = canvas.dice
    paved = block & (lots % 5 > 0) if dice.chance(0.5) else block
    add_paving(canvas, EVERYWHERE, paved, dice.pick(canvas.look.yards))
    _build(canvas, streets, block, dice.whole(20, 60), ((24, 38), (17, 28)), 1.0, flat=True)
    _rows(canvas, streets, block & (canvas.mask == IMPERVIOUS))


def _park(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Lawn with scattered large trees and a footpath."""
    dice = canvas.dice
    path = block & (np.abs(streets.u - streets.v * dice.real(-1, 1) - dice.real(-40, 40) - 4 * canvas.broad) < 3.2)
    add_paving(canvas, EVERYWHERE, path, dice.pick(canvas.look.yards))
    plant_trees(canvas, block, int(block.sum()) // dice.whole(250, 600), (6.0, 14.0))


def _wood(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Crown beside crown, with clearings."""
    where = block & (canvas.broad > canvas.dice.real(-1.2, 0.2))
    plant_trees(canvas, where, int(where.sum()) // 110, (5.0, 12.0))


def _meadow(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """Grass, mown or not, with hardly a tree."""
    plant_trees(canvas, block, canvas.dice.whole(0, 2), (5.0, 10.0))


def _field(canvas: Canvas, streets: Streets, block: Region, lots: Lots) -> None:
    """A field in rows, or bare soil, which is low vegetation too and as grey as a road."""
    dice = canvas.dice
    plane = streets.u if dice.chance(0.5) else streets.v
    rows = np.where(np.floor(plane / dice.real(2.5, 5.0)) % 2 > 0, dice.real(0.8, 1.0), 1.0)
    tone = dice.vary(dice.pick((*canvas.look.lawns, (118, 108, 96), (150, 128, 104), (176, 118, 112))), brightness=0.15)
    shade = rows * (1 + canvas.look.rough * (canvas.grain + canvas.blotch) + 0.06 * canvas.broad)
    canvas.paint(EVERYWHERE, block, tone, shade, GRASS, 0.0)


BLOCKS: Final[dict[str, Callable[[Canvas, Streets, Region, Lots], None]]] = {
    "houses": _houses,
    "dense": _dense,
    "halls": _halls,
    "park": _park,
    "wood": _wood,
    "meadow": _meadow,
    "field": _field,
}


def _turned(axis: Axis, quarter: bool) -> Axis:
    return (-axis[1], axis[0]) if quarter else axis


def _build(
    canvas: Canvas,
    streets: Streets,
    block: Region,
    tries: int,
    sizes: tuple[tuple[float, float], tuple[float, float]],
    gap: float,
    *,
    flat: bool = False,
) -> list[Building]:
    """Place roofs at random where they lie in the block and keep ``gap`` px from others; sizes are halves of sides."""
    dice, built = canvas.dice, []
    for trial, place in enumerate(dice.spots(block, tries)):
        if canvas.mask[place[1], place[0]] == BUILDING:
            continue
        axis = _turned(streets.heading(*place), dice.chance(0.5))
        smaller = 1 - 0.35 * trial / tries  # the later, the tighter the gaps that are left
        length, width = smaller * dice.real(*sizes[0]), smaller * dice.real(*sizes[1])
        at, u, v = canvas.window(*place, axis, length + width)
        inside = (np.abs(u) <= length + gap) & (np.abs(v) <= width + gap)
        if bool((block[at][inside] & (canvas.mask[at][inside] != BUILDING)).all()):
            shape, tone = dice.pick(canvas.look.roofs)
            kind = ("flat" if flat else shape, dice.vary(tone))
            add_roof(canvas, *place, axis, length, width, kind)
            built.append((place, axis, length, width, kind))
    return built


def _drive(canvas: Canvas, streets: Streets, place: tuple[int, int]) -> None:
    """A paved drive beside a house towards the road, often with a car on it."""
    dice = canvas.dice
    axis = streets.heading(*place)
    axis = _turned(axis, True) if dice.chance(0.7) else axis
    axis = (-axis[0], -axis[1]) if dice.chance(0.5) else axis
    at, u, v = canvas.window(*place, axis, 46)
    strip = (u > 0) & (u < 46) & (np.abs(v - 8) < dice.real(3.5, 6.5)) & (canvas.mask[at] == GRASS)
    near = streets.blocks[at] == streets.blocks[place[1], place[0]]
    add_paving(canvas, at, strip & near, dice.vary(dice.pick(canvas.look.yards)))
    if dice.chance(0.5):
        ahead = dice.real(26, 34)
        add_car(canvas, place[0] + ahead * axis[0] - 8 * axis[1], place[1] + ahead * axis[1] + 8 * axis[0], axis)


def plant_trees(canvas: Canvas, where: Region, count: int, radii: tuple[float, float]) -> None:
    """Crowns centred in a region; they overhang its border, roofs and roads, but leave cars to be seen."""
    dice = canvas.dice
    free = where & (canvas.mask != BUILDING)
    for place in dice.spots(free, count):
        _plant(canvas, place, dice.real(*radii))


def _plant(canvas: Canvas, place: tuple[int, int], radius: float) -> None:
    at, u, v = canvas.window(*place, (1.0, 0.0), radius)
    if int(((canvas.mask[at] == CAR) & (u * u + v * v < radius * radius)).sum()) <= 12:
        add_crown(canvas, *place, radius, canvas.dice.vary(canvas.dice.pick(canvas.look.crowns)))


def park_cars(canvas: Canvas, streets: Streets, where: Region, count: int) -> None:
    """Try ``count`` places in a region, cars along or across the roads; a place without room stays empty."""
    for place in canvas.dice.spots(where, count):
        add_car(canvas, *place, _turned(streets.heading(*place), canvas.dice.chance(0.5)))


def _rows(canvas: Canvas, streets: Streets, where: Region) -> None:
    """Parking rows: bays 7 px wide in strips 13 px deep, every other strip a lane; bay lines and cars."""
    dice = canvas.dice
    bay, strip = np.floor(streets.v / 7), np.floor(streets.u / 13)
    striped = where & (strip % 2 == 0) & (canvas.broad > dice.real(-1.5, 0.3))
    line = striped & (streets.v - 7 * bay < 0.9)
    canvas.albedo[line] = canvas.albedo[line] * 0.7 + 50
    centre = striped & (np.abs(streets.v - 7 * bay - 3.9) < 0.5) & (np.abs(streets.u - 13 * strip - 6.5) < 0.5)
    full = dice.real(0.2, 0.8)
    for row, column in zip(*np.nonzero(centre), strict=True):
        if dice.chance(full):
            add_car(canvas, int(column), int(row), _turned(streets.heading(int(column), int(row)), True))
