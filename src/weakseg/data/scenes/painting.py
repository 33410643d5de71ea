"""Procedural infrared-red-green aerial scenes with all ISPRS classes: the data set that comes with the package.

``write_scenes`` makes 33 small scenes named like the ISPRS Vaihingen areas, in the layout of ``weakseg data import``
so that everything runs without a download. A pixel stands for about 0.3 m. Colour alone does not solve them: grey
roofs are as grey as roads, trees as red as grass, cars come in roof colours, and shadows darken all of them. Light,
season, materials and land use change from scene to scene, so that three labelled scenes do not cover the others.

A seed gives the same bytes on every machine (``shapes`` says how), so that a tracked hash can vouch for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from weakseg.core.bands import FILE
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.data.scenes.elevation import draw_heights, scene_bands
from weakseg.data.scenes.placing import LAYOUTS, lay_out
from weakseg.data.scenes.shapes import GRASS, Canvas, Dice, Kind, Look, Plane, Tone, cast_shadows
from weakseg.raster.whole import whole_raster

AREAS: Final = tuple(
    f"area{number}"
    for number in (
        *(1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 20),
        *(21, 22, 23, 24, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 37, 38),
    )
)
MIN_SIDE: Final = 128
MARGIN: Final = 24  # px drawn around a scene and cut off, so that things and shadows cross its border

ROOFS: Final[tuple[Kind, ...]] = (
    ("flat", (104, 109, 110)),
    ("flat", (158, 164, 164)),
    ("flat", (72, 77, 80)),
    ("flat", (138, 98, 96)),
    ("gable", (136, 122, 84)),
    ("gable", (108, 94, 76)),
    ("gable", (64, 69, 74)),
    ("gable", (96, 122, 128)),
    ("hip", (128, 110, 80)),
    ("hip", (112, 114, 112)),
    ("hip", (146, 132, 100)),
)
ROADS: Final[tuple[Tone, ...]] = ((74, 79, 82), (98, 103, 105), (118, 122, 122), (140, 144, 143))
YARDS: Final[tuple[Tone, ...]] = ((92, 96, 97), (122, 118, 108), (150, 152, 148), (128, 110, 92), (108, 112, 112))
LUSH: Final[Tone] = (172, 78, 90)
DRY: Final[Tone] = (148, 120, 108)
CROWNS: Final[tuple[Tone, ...]] = ((166, 70, 80), (112, 52, 62), (186, 86, 94), (142, 76, 78), (152, 104, 84))


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        area: its name, one of ``AREAS``.
        image: uint8 (H, W, 3): near infrared, red, green.
        mask: uint8 (H, W): ISPRS class index, 255 for clutter.
        heights: float32 (H, W): metres above ground, NaN where there are none; see ``elevation``.
    """

    area: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    heights: npt.NDArray[np.float32]

    @property
    def colours(self) -> npt.NDArray[np.uint8]:
        """The mask as ISPRS ground truth, RGB (H, W, 3) uint8, clutter red."""
        return ISPRS.to_colours(self.mask)


def make_scene(seed: int, area: str, *, size: tuple[int, int] | None = None) -> Scene:
    """Make one scene.

    Args:
        seed: any integer >= 0; with the area it fixes every byte.
        area: one of ``AREAS``.
        size: height and width in px, each at least 128; by default about 224 x 256, a little different per scene.

    Raises:
        DataError: unknown area, negative seed or too small a size.
    """
    _check(seed, area, size)
    number = int(area.removeprefix("area"))
    dice = Dice(np.random.default_rng([seed, number]))
    drawn = dice.whole(216, 232), dice.whole(246, 266)
    rows, columns = size or drawn
    shape = rows + 2 * MARGIN, columns + 2 * MARGIN
    layout = dice.pick(tuple(LAYOUTS))
    canvas = Canvas(np.zeros((*shape, 3)), np.full(shape, GRASS, np.uint8), np.zeros(shape), _look(dice), dice)
    lay_out(canvas, layout)
    image = expose(canvas)
    inner = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    heights = np.ascontiguousarray(draw_heights(canvas.height, seed, number)[inner])
    return Scene(area, np.ascontiguousarray(image[inner]), np.ascontiguousarray(canvas.mask[inner]), heights)


def write_scenes(folder: Path, *, seed: int, areas: Sequence[str] = AREAS, heights: bool = False) -> None:
    """Write ``images/AREA.tif``, ``labels/AREA.tif`` (ISPRS colours) and ``classes.yaml``, replacing such files.

    ``heights``: as a fourth band of the images, which are float32 then, and ``bands.yaml``.
    """
    for area in areas:
        scene = make_scene(seed, area)
        image = np.dstack([scene.image.astype(np.float32), scene.heights]) if heights else scene.image
        write_tiff(folder / "images" / f"{area}.tif", image)
        write_tiff(folder / "labels" / f"{area}.tif", scene.colours)
    with atomic_path(folder / "classes.yaml") as path:
        ISPRS.save(path)
    (folder / FILE).unlink(missing_ok=True)
    if heights:
        scene_bands().save(folder / FILE)


def _check(seed: int, area: str, size: tuple[int, int] | None) -> None:
    if area not in AREAS:
        raise DataError(f"area {area!r}", expected=f"one of {', '.join(AREAS)}", cure="mend the name")
    if seed < 0:
        raise DataError(f"seed {seed}", expected="an integer >= 0", cure="choose another seed")
    if size is not None and min(size) < MIN_SIDE:
        raise DataError(
            f"scene size {size[0]} x {size[1]}",
            expected=f"at least {MIN_SIDE} px a side",
            cure="ask for a larger scene",
        )


def _look(dice: Dice) -> Look:
    """Draw light, season and materials: the differences between scenes that a network must learn to bridge."""
    sideways = dice.axis()
    dryness = dice.real(0.0, 1.0)
    shadow = dice.real(0.28, 0.6)
    lawns = []
    for _ in range(3):
        share = min(1.0, max(0.0, dryness + dice.real(-0.3, 0.3)))
        lawns.append(dice.vary(_blend(LUSH, DRY, share), brightness=0.12))
    autumn = dice.real(0.0, 0.35)
    return Look(
        sun=(sideways[1], sideways[0]),  # in the southern half of the sky, south being down
        reach=dice.real(0.5, 1.25),
        shadow=(0.75 * shadow, 0.95 * shadow, 1.1 * shadow),
        relief=dice.real(0.1, 0.34),
        roofs=tuple((roof[0], dice.vary(roof[1])) for roof in (dice.pick(ROOFS) for _ in range(3))),
        roads=tuple(dice.vary(dice.pick(ROADS)) for _ in range(2)),
        yards=tuple(dice.vary(dice.pick(YARDS)) for _ in range(2)),
        lawns=tuple(lawns),
        crowns=tuple(dice.vary(_blend(dice.pick(CROWNS), DRY, autumn)) for _ in range(2)),
        rough=dice.real(0.02, 0.13),
        crown=dice.real(0.05, 0.2),
    )


def _blend(first: Tone, second: Tone, share: float) -> Tone:
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def expose(canvas: Canvas) -> npt.NDArray[np.uint8]:
    """Albedo to uint8 image (H, W, 3): shadows, uneven light, blur, gain, curve and haze per band, noise."""
    dice, look = canvas.dice, canvas.look
    dark = cast_shadows(canvas.height, look.sun, look.reach)
    shape = (canvas.mask.shape[0], canvas.mask.shape[1])
    light = 1 + dice.real(0.0, 0.05) * dice.noise(shape, 40)
    gain, curve, haze = dice.real(0.85, 1.3), dice.real(-0.3, 0.3), dice.real(0, 34)
    soft, spread = dice.real(0.2, 0.8), dice.real(2.0, 6.5)
    image = np.empty((*shape, 3), np.uint8)
    for band in range(3):
        plane: Plane = canvas.albedo[..., band] * (1 - dark * (1 - look.shadow[band])) * light
        plane = (1 - soft) * plane + soft * uniform_filter(plane, 3, mode="nearest")
        plane = np.minimum(plane * gain * dice.real(0.88, 1.12) / 255, 1.0)
        plane = plane + curve * plane * (1 - plane)  # a gamma near 1, without the power
        level = (haze + dice.real(0, 10)) / 255
        plane = 255 * (level + (1 - level) * plane) + spread * dice.noise(shape, 0)
        image[..., band] = np.rint(np.minimum(np.maximum(plane, 0.0), 255.0)).astype(np.uint8)
    return image


def write_tiff(path: Path, image: npt.NDArray[Any]) -> None:
    """Write uint8 (H, W, 3), or float32 (H, W, 4), as an uncompressed TIFF without georeference.

    Uncompressed, because compressors give other bytes from one release to the next and the data hash vouches for
    bytes; the layout options are spelt out for the same reason (GDAL 3.10 and 3.12 then write the same file). The
    scenes lie nowhere on Earth, which rasterio warns about.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    rows, columns = image.shape[:2]
    shape = {"height": rows, "width": columns, "count": image.shape[2], "dtype": image.dtype.name}
    photometric = "RGB" if image.dtype == np.uint8 else "MINISBLACK"
    options = {"compress": "none", "photometric": photometric, "interleave": "pixel", "tiled": False, "blockysize": 16}
    with warnings.catch_warnings(), whole_raster(path) as temporary:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", driver="GTiff", **shape, **options) as file:
            file.write(np.moveaxis(image, -1, 0))
