"""Where the things of a procedural scene stand: roads, blocks, traffic, avenues, and what nobody classifies."""

from __future__ import annotations

from typing import Final

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.data.scenes.land_use import BLOCKS, EVERYWHERE, Lots, Streets, park_cars, plant_trees
from weakseg.data.scenes.shapes import (
    BUILDING,
    CAR,
    GRASS,
    IMPERVIOUS,
    TREE,
    Canvas,
    add_car,
    add_container,
    add_court,
    add_paving,
    add_pond,
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


def lay_out(canvas: Canvas, layout: str) -> None:
    """Fill a canvas: grass, roads, the blocks' own things, cars, street trees; later things cover earlier ones."""
    dice, look = canvas.dice, canvas.look
    streets = Streets(canvas, layout)
    numbers, sizes = np.unique(streets.blocks[~streets.road], return_counts=True)
    order = [int(numbers[place]) for place in np.argsort(-sizes, kind="stable")]
    lots = _lawns(canvas, streets)
    kerb = dice.real(0.0, 5.0)
    add_paving(canvas, EVERYWHERE, streets.near(kerb), dice.pick(look.yards))
    for place, half in streets.lines_u + streets.lines_v:
        plane = streets.u if (place, half) in streets.lines_u else streets.v
        add_paving(canvas, EVERYWHERE, np.abs(plane - place) <= half, dice.vary(dice.pick(look.roads), brightness=0.05))
    _markings(canvas, streets)
    uses = LAYOUTS[layout]
    for rank, number in enumerate(order):
        block = (streets.blocks == number) & ~streets.near(kerb + (2.5 if dice.chance(0.2) else 0.0))
        if int(block.sum()) > 500:
            BLOCKS[uses[0] if rank == 0 else dice.pick(uses)](canvas, streets, block, lots)
    _traffic(canvas, streets, dice.whole(6, 12) if layout in ("rural", "village") else dice.whole(10, 24))
    _avenue(canvas, streets, dice.whole(2, 12))
    _clutter(canvas, streets)
    _spare_cars(canvas, streets)


def _lawns(canvas: Canvas, streets: Streets) -> Lots:
    """Grass everywhere, each lot with a tone of its own; returns the lots' numbers (H, W)."""
    dice, look = canvas.dice, canvas.look
    pitch = dice.real(34, 60), dice.real(40, 80)
    lots: Lots = streets.blocks * 7 + np.floor(streets.u / pitch[0]).astype(np.int64) * 3
    lots = (lots + np.floor(streets.v / pitch[1]).astype(np.int64) * 5) % 23
    tones = [dice.vary(dice.pick(look.lawns)) for _ in range(23)]
    shade = 1 + look.rough * (0.5 * canvas.fine + 0.5 * canvas.grain + 0.6 * canvas.blotch) + 0.05 * canvas.broad
    for number, tone in enumerate(tones):
        canvas.paint(EVERYWHERE, lots == number, tone, shade, GRASS, 0.0)
    return lots


def _markings(canvas: Canvas, streets: Streets) -> None:
    """Dashed centre lines on some roads."""
    for place, half in streets.lines_u + streets.lines_v:
        first = (place, half) in streets.lines_u
        side, along = (streets.u, streets.v) if first else (streets.v, streets.u)
        if canvas.dice.chance(0.5):
            dash = (np.abs(side - place) < 0.6) & (np.floor(along / 7) % 2 > 0)
            canvas.albedo[dash] = canvas.albedo[dash] * 0.6 + 76


def _traffic(canvas: Canvas, streets: Streets, count: int) -> None:
    """Cars in their lanes and at the kerb of a few busy roads; one in a while on the grass beside."""
    dice = canvas.dice
    roads = [(True, road) for road in streets.lines_u] + [(False, road) for road in streets.lines_v]
    busy = [dice.pick(roads) for _ in range(2)]
    for index in range(count):
        first, (place, half) = dice.pick(busy)
        plane = streets.u if first else streets.v
        lane = np.abs(np.abs(plane - place) - half * dice.pick((0.45, 0.62))) < 0.7
        for spot in dice.spots(lane & streets.road, 1):
            add_car(canvas, *spot, streets.heading(*spot) if first else streets.axis, on_grass=index % 12 == 11)


def _avenue(canvas: Canvas, streets: Streets, count: int) -> None:
    """An avenue: trees on both sides of one road."""
    side = np.abs(np.abs(streets.u - canvas.dice.pick(streets.lines_u)[0]) - 12) < 2.5
    plant_trees(canvas, side & (canvas.mask != CAR), count, (4.0, 8.5))


def _clutter(canvas: Canvas, streets: Streets) -> None:
    """One or two things that no class names, at least one of them visible in the middle of the scene."""
    dice = canvas.dice
    rows, columns = canvas.mask.shape
    inner = np.zeros(canvas.mask.shape, bool)
    inner[rows // 5 : -rows // 5, columns // 5 : -columns // 5] = True
    for number in range(dice.whole(1, 2)):
        open_ground = (canvas.mask == GRASS) & ~streets.near(10.0) & (inner | (number > 0))
        for place in dice.spots(open_ground, 1):
            _leave(canvas, streets, place, dice.pick(("pond", "site", "court", "containers")))
    if not (canvas.mask[inner] == IGNORE).any():
        for place in dice.spots(inner & ~np.isin(canvas.mask, (BUILDING, TREE, CAR)), 1):
            add_container(canvas, *place, streets.axis)


def _leave(canvas: Canvas, streets: Streets, place: tuple[int, int], kind: str) -> None:
    """Put one kind of clutter at a place; anything but a pond, a site or a court is a group of containers."""
    dice = canvas.dice
    if kind == "pond":
        add_pond(canvas, *place, dice.real(8, 17))
    elif kind == "site":
        add_site(canvas, *place, streets.axis, dice.real(10, 22))
    elif kind == "court":
        add_court(canvas, *place, streets.axis, dice.real(12, 20), dice.pick(((128, 112, 70), (90, 96, 88))))
    else:
        for _ in range(3):
            add_container(canvas, place[0] + dice.real(-14, 14), place[1] + dice.real(-14, 14), streets.axis)


def _spare_cars(canvas: Canvas, streets: Streets) -> None:
    """More cars on the carriageway until the inner scene shows enough of them; 40 px of car is one."""
    rows, columns = canvas.mask.shape
    inner = np.zeros(canvas.mask.shape, bool)
    inner[rows // 6 : -rows // 6, columns // 6 : -columns // 6] = True
    for _ in range(60):
        if int((canvas.mask[inner] == CAR).sum()) >= 40 * MIN_CARS:
            return
        park_cars(canvas, streets, inner & streets.road & (canvas.mask == IMPERVIOUS), 1)
