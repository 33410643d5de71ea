"""Where the things of a procedural scene stand: bent roads, blocks between them, and what each block is used for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.classes import IGNORE
from weakseg.data.scene_shapes import (
    BUILDING,
    CAR,
    GRASS,
    IMPERVIOUS,
    TREE,
    Axis,
    Canvas,
    Plane,
    Region,
    add_car,
    add_container,
    add_court,
    add_crown,
    add_paving,
    add_pond,
    add_roof,
    add_site,
)

# The first use holds for the largest block, the others are drawn: every scene has buildings, few have everything.
LAYOUTS: Final[dict[str, tuple[str, ...]]] = {
    "centre": ("dense", "dense", "houses", "dense", "park"),
    "suburb": ("houses", "houses", "houses", "park", "meadow", "halls"),
    "village": ("houses", "meadow", "wood", "houses", "field"),
    "rural": ("houses", "field", "meadow", "field", "wood"),
    "industry": ("halls", "halls", "meadow", "dense", "wood"),
}
MIN_CARS: Final = 6


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


def lay_out(canvas: Canvas, layout: str) -> None:
    """Fill a canvas: grass, roads, the blocks' own things, cars, street trees; later things cover earlier ones."""
    dice, look = canvas.dice, canvas.look
    streets = Streets(canvas, layout)
    everywhere = (slice(None), slice(None))
    numbers, sizes = np.unique(streets.blocks[~streets.road], return_counts=True)
    order = [int(numbers[place]) for place in np.argsort(-sizes, kind="stable")]
    lots = _lawns(canvas, streets)
    kerb = dice.real(0.0, 5.0)
    add_paving(canvas, everywhere, streets.near(kerb), dice.pick(look.yards))
    for place, half in streets.lines_u + streets.lines_v:
        plane = streets.u if (place, half) in streets.lines_u else streets.v
        add_paving(canvas, everywhere, np.abs(plane - place) <= half, dice.vary(dice.pick(look.roads), brightness=0.05))
    _markings(canvas, streets)
    uses = LAYOUTS[layout]
    for rank, number in enumerate(order):
        block = (streets.blocks == number) & ~streets.near(kerb + (2.5 if dice.chance(0.4) else 0.0))
        if int(block.sum()) > 500:
            BLOCKS[uses[0] if rank == 0 else dice.pick(uses)](canvas, streets, block, lots)
    _traffic(canvas, streets, dice.whole(6, 12) if layout in ("rural", "village") else dice.whole(10, 24))
    _street_trees(canvas, streets, dice.whole(4, 14))
    _clutter(canvas, streets)
    _spare_cars(canvas, streets)


def _lawns(canvas: Canvas, streets: Streets) -> npt.NDArray[np.int64]:
    """Grass everywhere, each lot with a tone of its own; returns the lots' numbers (H, W)."""
    dice, look = canvas.dice, canvas.look
    pitch = dice.real(34, 60), dice.real(40, 80)
    lots: npt.NDArray[np.int64] = streets.blocks * 7 + np.floor(streets.u / pitch[0]).astype(np.int64) * 3
    lots = (lots + np.floor(streets.v / pitch[1]).astype(np.int64) * 5) % 23
    tones = [dice.vary(dice.pick(look.lawns)) for _ in range(23)]
    shade = 1 + look.rough * (0.5 * canvas.fine + 0.5 * canvas.grain + 0.6 * canvas.blotch) + 0.05 * canvas.broad
    for number, tone in enumerate(tones):
        canvas.paint((slice(None), slice(None)), lots == number, tone, shade, GRASS, 0.0)
    return lots


def _markings(canvas: Canvas, streets: Streets) -> None:
    """Dashed centre lines on some roads, and the joints between slabs on others."""
    for place, half in streets.lines_u + streets.lines_v:
        first = (place, half) in streets.lines_u
        side, along = (streets.u, streets.v) if first else (streets.v, streets.u)
        if canvas.dice.chance(0.5):
            dash = (np.abs(side - place) < 0.6) & (np.floor(along / 7) % 2 > 0)
            canvas.albedo[dash] = canvas.albedo[dash] * 0.6 + 76


def _houses(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Detached houses along the roads, drives, garden trees, now and then a pool."""
    dice = canvas.dice
    for _ in range(max(12, int(block.sum()) // 110)):
        place = dice.spot(block)
        if place is None:
            return
        axis = _turned(streets.heading(*place), dice.chance(0.5))
        length, width = dice.real(13, 21), dice.real(10.5, 14.5)
        if not _free(canvas, block, place, axis, length + 2, width + 2):
            continue
        _drive(canvas, streets, block, place)
        kind = dice.pick(canvas.look.roofs)
        kind = (kind[0], dice.vary(kind[1]))
        add_roof(canvas, *place, axis, length, width, kind)
        if dice.chance(0.35):
            wing = _turned(axis, True)
            side = dice.pick((-0.4, 0.4)) * length
            add_roof(canvas, place[0] + side * axis[0], place[1] + side * axis[1], wing, width + 5, 0.6 * width, kind)
    _trees(canvas, block, int(block.sum()) // dice.whole(180, 1100), (3.5, 9.5))
    if dice.chance(0.4) and (pool := dice.spot(block & (canvas.mask == GRASS))):
        add_court(canvas, *pool, streets.axis, dice.real(5, 8), (52, 120, 165))


def _dense(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Town houses wall to wall around paved courts; few trees, no lawn to speak of."""
    dice = canvas.dice
    paved = block & (lots % 4 > 0) if dice.chance(0.4) else block
    add_paving(canvas, (slice(None), slice(None)), paved, dice.pick(canvas.look.yards))
    tries = max(30, int(block.sum()) // 40)
    for trial in range(tries):
        place = dice.spot(block)
        if place is None:
            return
        axis = _turned(streets.heading(*place), dice.chance(0.5))
        smaller = 1 - 0.35 * trial / tries  # the later, the tighter the gaps that are left
        length, width = smaller * dice.real(17, 32), smaller * dice.real(13, 17)
        if _free(canvas, block, place, axis, length + 1, width + 1):
            kind = dice.pick(canvas.look.roofs)
            add_roof(canvas, *place, axis, length, width, (kind[0], dice.vary(kind[1])))
    _trees(canvas, block, int(block.sum()) // dice.whole(600, 3000), (4.0, 8.0))
    _parked(canvas, streets, block & (canvas.mask == IMPERVIOUS), dice.whole(2, 8))


def _halls(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Large flat roofs beside parking places with rows of cars; no trees."""
    dice = canvas.dice
    paved = block & (lots % 5 > 0) if dice.chance(0.5) else block
    add_paving(canvas, (slice(None), slice(None)), paved, dice.pick(canvas.look.yards))
    tries = dice.whole(20, 60)
    for trial in range(tries):
        place = dice.spot(block)
        if place is None:
            return
        axis = _turned(streets.heading(*place), dice.chance(0.5))
        smaller = 1 - 0.4 * trial / tries
        length, width = smaller * dice.real(24, 38), smaller * dice.real(17, 28)
        if _free(canvas, block, place, axis, length + 1, width + 1):
            kind = dice.pick(canvas.look.roofs)
            add_roof(canvas, *place, axis, length, width, ("flat", dice.vary(kind[1])))
    _rows(canvas, streets, block & (canvas.mask == IMPERVIOUS))


def _park(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Lawn with scattered large trees and a footpath."""
    dice = canvas.dice
    path = block & (np.abs(streets.u - streets.v * dice.real(-1, 1) - dice.real(-40, 40) - 4 * canvas.broad) < 3.2)
    add_paving(canvas, (slice(None), slice(None)), path, dice.pick(canvas.look.yards))
    _trees(canvas, block, int(block.sum()) // dice.whole(250, 600), (6.0, 14.0))


def _wood(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Crown beside crown, with clearings."""
    where = block & (canvas.broad > canvas.dice.real(-1.2, 0.2))
    _trees(canvas, where, int(where.sum()) // 110, (5.0, 12.0))


def _meadow(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """Grass, mown or not, with hardly a tree."""
    _trees(canvas, block, canvas.dice.whole(0, 2), (5.0, 10.0))


def _field(canvas: Canvas, streets: Streets, block: Region, lots: Plane) -> None:
    """A field in rows, or bare soil, which is low vegetation too and as grey as a road."""
    dice = canvas.dice
    plane = streets.u if dice.chance(0.5) else streets.v
    rows = np.where(np.floor(plane / dice.real(2.5, 5.0)) % 2 > 0, dice.real(0.8, 1.0), 1.0)
    tone = dice.vary(dice.pick((*canvas.look.lawns, (118, 108, 96), (150, 128, 104), (176, 118, 112))), brightness=0.15)
    shade = rows * (1 + canvas.look.rough * (canvas.grain + canvas.blotch) + 0.06 * canvas.broad)
    canvas.paint((slice(None), slice(None)), block, tone, shade, GRASS, 0.0)


BLOCKS: Final[dict[str, Callable[[Canvas, Streets, Region, npt.NDArray[np.int64]], None]]] = {
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


def _free(canvas: Canvas, block: Region, place: tuple[int, int], axis: Axis, length: float, width: float) -> bool:
    """Whether a rectangle lies within the block (or beyond the canvas) and touches no building."""
    at, u, v = canvas.window(*place, axis, length + width)
    inside = (np.abs(u) <= length) & (np.abs(v) <= width)
    return bool((block[at][inside] & (canvas.mask[at][inside] != BUILDING)).all())


def _drive(canvas: Canvas, streets: Streets, block: Region, place: tuple[int, int]) -> None:
    """A paved drive from a house to the road ahead, often with a car on it."""
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


def _trees(canvas: Canvas, where: Region, count: int, radii: tuple[float, float]) -> None:
    """Crowns centred in a region; they overhang its border, roofs and roads, but leave cars to be seen."""
    dice = canvas.dice
    free = where & (canvas.mask != BUILDING)
    for _ in range(count):
        place = dice.spot(free)
        if place is not None:
            _plant(canvas, place, dice.real(*radii))


def _plant(canvas: Canvas, place: tuple[int, int], radius: float) -> None:
    at, u, v = canvas.window(*place, (1.0, 0.0), radius)
    if int(((canvas.mask[at] == CAR) & (u * u + v * v < radius * radius)).sum()) <= 12:
        add_crown(canvas, *place, radius, canvas.dice.vary(canvas.dice.pick(canvas.look.crowns)))


def _parked(canvas: Canvas, streets: Streets, where: Region, count: int) -> None:
    for _ in range(count):
        place = canvas.dice.spot(where)
        if place is not None:
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


def _traffic(canvas: Canvas, streets: Streets, count: int) -> None:
    """Cars in their lanes and at the kerb of a few busy roads; one in a while on the grass beside."""
    dice = canvas.dice
    roads = [(True, road) for road in streets.lines_u] + [(False, road) for road in streets.lines_v]
    busy = [dice.pick(roads) for _ in range(2)]
    for index in range(count):
        first, (place, half) = dice.pick(busy)
        plane = streets.u if first else streets.v
        lane = np.abs(np.abs(plane - place) - half * dice.pick((0.45, 0.62))) < 0.7
        spot = dice.spot(lane & streets.road)
        if spot is not None:
            add_car(canvas, *spot, streets.heading(*spot) if first else streets.axis, on_grass=index % 12 == 11)


def _street_trees(canvas: Canvas, streets: Streets, count: int) -> None:
    """An avenue: trees on both sides of one road."""
    side = np.abs(np.abs(streets.u - canvas.dice.pick(streets.lines_u)[0]) - 12) < 2.5
    _trees(canvas, side & (canvas.mask != CAR), count, (4.0, 8.5))


def _clutter(canvas: Canvas, streets: Streets) -> None:
    """One to three things that no class names, at least one of them visible in the middle of the scene."""
    dice = canvas.dice
    rows, columns = canvas.mask.shape
    inner = np.zeros(canvas.mask.shape, bool)
    inner[rows // 5 : -rows // 5, columns // 5 : -columns // 5] = True
    for number in range(dice.whole(1, 2)):
        open_ground = (canvas.mask == GRASS) & ~streets.near(10.0) & (inner | (number > 0))
        place = dice.spot(open_ground)
        kind = dice.pick(("pond", "site", "court", "containers"))
        if place is None:
            continue
        if kind == "pond":
            add_pond(canvas, *place, dice.real(8, 17))
        elif kind == "site":
            add_site(canvas, *place, streets.axis, dice.real(10, 22))
        elif kind == "court":
            add_court(canvas, *place, streets.axis, dice.real(12, 20), dice.pick(((128, 112, 70), (90, 96, 88))))
        for _ in range(3 if kind == "containers" else 0):
            add_container(canvas, place[0] + dice.real(-14, 14), place[1] + dice.real(-14, 14), streets.axis)
    if not (canvas.mask[inner] == IGNORE).any():
        place = dice.spot(inner & (canvas.mask != BUILDING) & (canvas.mask != CAR) & (canvas.mask != TREE))
        if place is not None:
            add_container(canvas, *place, streets.axis)


def _spare_cars(canvas: Canvas, streets: Streets) -> None:
    """More cars on the carriageway until the inner scene shows enough of them; 40 px of car is one."""
    rows, columns = canvas.mask.shape
    inner = np.zeros(canvas.mask.shape, bool)
    inner[rows // 6 : -rows // 6, columns // 6 : -columns // 6] = True
    for _ in range(60):
        if int((canvas.mask[inner] == CAR).sum()) >= 40 * MIN_CARS:
            return
        _parked(canvas, streets, inner & streets.road & (canvas.mask == IMPERVIOUS), 1)
