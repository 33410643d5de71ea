"""Small pictures of objects on textured ground, seen from above: twelve kinds, or two hundred, and the rest.

``write_objects`` makes a data set of images of differing sizes, each with one set of tags, for methods that tell
objects from a background (ImageNet DET and Pascal VOC in the literature). Of the twelve kinds each looks as its name
says; the two hundred are combinations of an outline, a pattern and a hue. Ground, light and wear change from image to
image, and stones, tufts, stains and sheets of plastic lie about that are of no class.

A seed gives the same bytes on every machine, see ``shapes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.data.scenes.kinds import COMBINED, NAMED, Kind, covered, shade_of
from weakseg.data.scenes.painting import expose, write_tiff
from weakseg.data.scenes.shapes import Canvas, Dice, Look, Plane, Tone
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow

SETS: Final = {12: 260, 200: 1000}
"""How many images a set of so many kinds has."""
REST: Final = "rest"
MARGIN: Final = 24  # px drawn around an image and cut off, so that things and shadows cross its border
SIDES: Final = (72, 132)  # px, of an image
EMPTY: Final = 0.08  # share of the images without an object
_TRIES: Final = 30
_STREAM: Final = 12  # of the draws, beside those of the scenes

# tone; how strong fine, grained and blotchy texture is
GROUNDS: Final[tuple[tuple[Tone, float, float, float], ...]] = (
    ((88, 112, 62), 0.10, 0.10, 0.05),  # grass
    ((146, 138, 92), 0.10, 0.08, 0.06),  # dry grass
    ((126, 100, 76), 0.08, 0.05, 0.08),  # soil
    ((190, 174, 142), 0.05, 0.03, 0.04),  # sand
    ((104, 104, 106), 0.06, 0.02, 0.03),  # asphalt
    ((150, 146, 138), 0.12, 0.06, 0.03),  # gravel
    ((92, 84, 66), 0.10, 0.10, 0.10),  # heath
    ((128, 132, 126), 0.04, 0.02, 0.05),  # concrete
)
STONES: Final[tuple[Tone, ...]] = ((60, 60, 58), (170, 166, 156))
TUFTS: Final[tuple[Tone, ...]] = ((72, 96, 48),)
LITTER: Final = (*STONES, *TUFTS, (60, 96, 150), (150, 60, 52), (206, 204, 196))


@dataclass(frozen=True)
class ObjectImage:
    """An image uint8 (H, W, 3) of red, green and blue, and its mask uint8 (H, W): kinds in order, then the rest."""

    name: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]


def kinds_of(count: int) -> tuple[Kind, ...]:
    """The kinds of a set of so many; DataError where there is none."""
    if count not in SETS:
        raise DataError(f"{count} kinds of objects", expected=" or ".join(map(str, SETS)), cure="choose one of them")
    return NAMED if count == len(NAMED) else COMBINED


def object_classes(count: int) -> ClassScheme:
    """The classes of a set: its kinds and the background."""
    names = tuple(kind.name for kind in kinds_of(count))
    # 37 and 101 have no common factor with 256, so colours differ, and neighbours do much
    colours = tuple((37 * n % 256, 101 * n % 256, (59 * n + 128) % 256) for n in range(1, count + 1))
    return ClassScheme((*names, REST), (*colours, (0, 0, 0)), background=REST)


def image_names(count: int) -> tuple[str, ...]:
    """The areas of a set: o001, o002, ..."""
    total = SETS[len(kinds_of(count))]
    return tuple(f"o{number:0{len(str(total))}}" for number in range(1, total + 1))


def make_object_image(count: int, seed: int, number: int) -> ObjectImage:
    """Image ``number``, from 1, of the set of ``count`` kinds."""
    kinds = kinds_of(count)
    dice = Dice(np.random.default_rng([seed, count, number, _STREAM]))
    rows, columns = dice.whole(*SIDES), dice.whole(*SIDES)
    shape = rows + 2 * MARGIN, columns + 2 * MARGIN
    canvas = Canvas(np.zeros((*shape, 3)), np.full(shape, len(kinds), np.uint8), np.zeros(shape), _look(dice), dice)
    _lay_ground(canvas)
    _scatter(canvas)
    for kind in _chosen(dice, len(kinds), number):
        _place(canvas, kinds[kind], kind)
    inner = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    image = np.ascontiguousarray(expose(canvas)[inner])
    return ObjectImage(image_names(count)[number - 1], image, np.ascontiguousarray(canvas.mask[inner]))


def write_objects(folder: Path, count: int, *, seed: int) -> int:
    """Write ``images/``, ``labels/`` (colours), ``tags/tags.csv`` and ``classes.yaml``; how many images these are."""
    scheme = object_classes(count)
    rows = []
    for number, name in enumerate(image_names(count), 1):
        made = make_object_image(count, seed, number)
        write_tiff(folder / "images" / f"{name}.tif", made.image)
        write_tiff(folder / "labels" / f"{name}.tif", scheme.to_colours(made.mask))
        here = [scheme.names[index] for index in np.unique(made.mask)]
        objects = tuple(one for one in here if one != REST)
        height, width = made.mask.shape
        rows.append(TagWindow(name, 0, 0, height, width, objects or (REST,)))
    write_tags(folder / "tags" / "tags.csv", rows, scheme)
    with atomic_path(folder / "classes.yaml") as path:
        scheme.save(path)
    return len(rows)


def _look(dice: Dice) -> Look:
    sideways, shadow = dice.axis(), dice.real(0.35, 0.7)
    return Look(
        sun=(sideways[1], sideways[0]),
        reach=dice.real(0.4, 1.1),
        shadow=(0.9 * shadow, 0.95 * shadow, 1.1 * shadow),
        relief=dice.real(0.1, 0.3),
        roofs=(),
        roads=(),
        yards=(),
        lawns=(),
        crowns=(),
        rough=dice.real(0.6, 1.3),
        crown=dice.real(0.05, 0.2),
    )


def _chosen(dice: Dice, kinds: int, number: int) -> list[int]:
    """The kinds of an image's objects, with repetition: the first in turn, so that every kind has its share."""
    if dice.chance(EMPTY):
        return []
    first = (7 * number + dice.whole(0, 1)) % kinds
    others = [dice.whole(0, kinds - 1) for _ in range(dice.whole(0, 2))]
    return [first, *([first] if dice.chance(0.35) else []), *others]


def _lay_ground(canvas: Canvas) -> None:
    """One or two materials with a ragged border between them, tracks, and stains."""
    dice = canvas.dice
    everywhere = slice(None), slice(None)
    border = canvas.broad + 0.35 * canvas.blotch + dice.real(-1.5, 1.5)
    for part in (np.ones(border.shape, bool), border > 0):
        tone, fine, grain, blotch = dice.pick(GROUNDS)
        rough = canvas.look.rough
        shade = 1 + rough * (fine * canvas.fine + grain * canvas.grain + blotch * canvas.blotch) + 0.05 * canvas.broad
        canvas.paint(everywhere, part, dice.vary(tone), shade, int(canvas.mask[0, 0]), 0.0)
    if dice.chance(0.3):  # the two ruts of a track
        at, _, v = canvas.window(*_middle(canvas), dice.axis(), 1000)
        bent, half = v - dice.real(-30, 30) + 3 * canvas.broad[at], dice.real(4.0, 9.0)
        rut = np.abs(np.abs(bent) - half) < dice.real(1.2, 2.5)
        canvas.albedo[at][rut] *= dice.real(0.7, 0.9)


def _middle(canvas: Canvas) -> tuple[float, float]:
    return canvas.mask.shape[1] / 2, canvas.mask.shape[0] / 2


def _scatter(canvas: Canvas) -> None:
    """What lies about and is of no class: stones, tufts, stains, sheets of plastic."""
    dice, rest = canvas.dice, int(canvas.mask[0, 0])
    everywhere = np.ones(canvas.mask.shape, bool)
    for x, y in dice.spots(everywhere, dice.whole(4, 26)):
        radius = dice.real(1.0, 3.2)
        at, u, v = canvas.window(x, y, dice.axis(), 2 * radius)
        square = (u * u + v * v * dice.real(1.0, 2.2)) / (radius * radius * (1 + 0.2 * canvas.grain[at]))
        dome = np.sqrt(np.maximum(0.0, 1 - square))
        tone = dice.vary(dice.pick(STONES if dice.chance(0.5) else TUFTS))
        canvas.paint(at, square < 1, tone, 0.75 + 0.4 * dome + 0.1 * canvas.fine[at], rest, 0.8 * radius * dome)
    for x, y in dice.spots(everywhere, dice.whole(0, 3)):
        radius = dice.real(5.0, 14.0)
        at, u, v = canvas.window(x, y, dice.axis(), 1.6 * radius)
        inside = u * u + 2 * v * v < radius * radius * (1 + 0.3 * canvas.blotch[at] + 0.1 * canvas.grain[at])
        if dice.chance(0.6):  # a stain
            canvas.albedo[at][inside] *= dice.real(0.65, 1.25)
        else:
            folds = 1 + 0.12 * canvas.blotch[at] + 0.06 * canvas.grain[at]
            canvas.paint(at, inside, dice.vary(dice.pick(LITTER)), folds, rest, 0.5)


def _place(canvas: Canvas, kind: Kind, index: int) -> None:
    """Draw an object where there is room, smaller after every few tries; nothing where there is none."""
    dice, rest = canvas.dice, canvas.mask.max()
    inner = np.zeros(canvas.mask.shape, bool)
    inner[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    for trial, (x, y) in enumerate(dice.spots(inner, _TRIES)):
        length = dice.real(*kind.length) * (1 - 0.3 * trial / _TRIES)
        width = length * dice.real(*kind.aspect)
        axis = dice.axis()
        axis = (-axis[1], axis[0]) if dice.chance(0.5) else axis
        at, u, v = canvas.window(x, y, axis, 1.5 * length + 3)
        rim: Plane = covered(kind.outline, u, v, length, width, canvas.grain[at])
        if bool((canvas.mask[at][rim > -2.5] == rest).all()):
            tone = dice.vary(dice.pick(kind.tones), brightness=0.15, hue=8.0)
            shade = shade_of(kind, canvas, at, (u, v), rim, (length, width), axis)
            height = kind.height * dice.real(0.7, 1.2) * (np.minimum(1.0, rim / (0.6 * width)) if kind.dome else 1.0)
            canvas.paint(at, rim > 0, tone, shade, index, np.broadcast_to(height, rim.shape))
            return
