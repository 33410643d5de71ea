"""Drawn images: what a person sees in them is known, and Pillow, tifffile or rasterio writes them in many ways."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import tifffile
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from tests.generators.drawn_places import Place, places

Pixels = npt.NDArray[Any]
# kind of image -> who can write it; the format is the last part
WRITERS: dict[str, tuple[str, ...]] = {
    "rgb": ("pillow.png", "pillow.tif", "tifffile.tif", "rasterio.tif", "rasterio.png"),
    "jpeg": ("pillow.jpg", "rasterio.jpg"),
    "jpeg_in_tiff": ("rasterio.tif",),
    "rgba_opaque": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "rgba_holes": ("pillow.png", "pillow.tif", "rasterio.tif", "tifffile.tif"),
    "nodata": ("rasterio.tif",),
    "mask_band": ("rasterio.tif",),
    "transparent_colour": ("pillow.png",),
    "palette": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "palette_transparent": ("pillow.png",),
    "grey": ("pillow.png", "pillow.tif", "pillow.jpg"),
    "grey_alpha": ("pillow.png",),
    "first_page": ("tifffile.tif",),
    "mask_file": ("rasterio.tif",),
    "four_bands": ("rasterio.tif", "tifffile.tif"),
    "uint16": ("rasterio.tif", "tifffile.tif"),
    "float32": ("rasterio.tif",),
    "nan": ("rasterio.tif", "tifffile.tif"),
    "infinity": ("rasterio.tif", "tifffile.tif"),
    "float_nodata": ("rasterio.tif",),
    "uint16_nodata": ("rasterio.tif",),
    "cmyk": ("pillow.jpg", "pillow.tif"),
    "lab": ("pillow.tif",),
}
FLOATS = ("float32", "nan", "infinity", "float_nodata")
WIDE = ("uint16", "uint16_nodata")
HOLES = (
    "nan",
    "infinity",
    "float_nodata",
    "uint16_nodata",
    "rgba_holes",
    "nodata",
    "mask_band",
    "transparent_colour",
    "palette_transparent",
    "grey_alpha",
)
LOSSY = ("jpeg", "jpeg_in_tiff", "cmyk", "lab")


@dataclass(frozen=True)
class ImageSpec:
    """An image as drawn: ``kind`` is what is in it, ``writer`` who writes which format, ``suffix`` its file's ending.

    Attributes:
        orientation: EXIF or TIFF tag 274, 1 to 8.
        options: further choices of the writer, (name, value).
    """

    kind: str
    writer: str
    suffix: str
    height: int
    width: int
    seed: int
    orientation: int = 1
    place: Place | None = None
    options: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def valid(self) -> npt.NDArray[np.bool_]:
        """bool (H, W): where there is image data."""
        here = np.ones((self.height, self.width), bool)
        if self.kind in HOLES:
            rng = np.random.default_rng(self.seed)
            here[:, : rng.integers(0, self.width)] = False
            here[rng.integers(0, self.height) :, self.width // 2 :] = False
        return here

    @cached_property
    def seen(self) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3): what a person sees; black where there is no image data."""
        rng = np.random.default_rng(self.seed + 1)
        size = (self.height, self.width)
        if self.kind in ("grey", "grey_alpha"):
            rgb = np.repeat(rng.integers(0, 256, (*size, 1)), 3, 2)
        elif self.kind.startswith("palette"):
            rgb = self.colour_table[rng.integers(1, len(self.colour_table), size)]
        elif self.kind in LOSSY:
            # one hue, so that decoders need not agree on how they blend the hues of neighbours
            light = np.kron(rng.integers(-60, 60, (-(-size[0] // 4), -(-size[1] // 4))), np.ones((4, 4)))
            rgb = rng.integers(60, 196, 3) + light[: size[0], : size[1], None]
        else:
            rgb = rng.integers(0, 256, (*size, 3))
        rgb = rgb.astype(np.uint8)
        if self.kind in ("nodata", "transparent_colour", "uint16_nodata"):
            rgb[(rgb == 0).all(-1)] = (0, 0, 1)  # one band at the nodata value does not make a px invalid
            rgb[rng.random(size) < 0.1, :2] = 0
            rgb[..., 2] = np.maximum(rgb[..., 2], 1)
        rgb[~self.valid] = 0
        return rgb

    @cached_property
    def colour_table(self) -> npt.NDArray[np.uint8]:
        """uint8 (colours, 3) of a palette; the first is the transparent one where there is one."""
        rng = np.random.default_rng(self.seed + 2)
        table = rng.integers(1, 256, (int(rng.integers(3, 200)), 3)).astype(np.uint8)
        table[0] = 0
        return np.unique(table, axis=0)

    @property
    def bands(self) -> tuple[int, ...] | None:
        """What --bands has to say."""
        return {"four_bands": (4, 1, 2), "rgba_opaque": (1, 2, 3), "rgba_holes": (1, 2, 3)}.get(self.kind)

    def write(self, path: Path) -> None:
        """The file, and its sidecars."""
        who, _, form = self.writer.partition(".")
        {"pillow": self._write_pillow, "tifffile": self._write_tifffile, "rasterio": self._write_rasterio}[who](
            path, form
        )
        if self.place is not None:
            self.place.write_beside(path)

    def as_shown(self, path: Path) -> npt.NDArray[np.uint8]:
        """What a person sees in the file: as drawn, or as Pillow decodes it where the format is lossy."""
        if self.kind not in LOSSY:
            return self.seen
        with Image.open(path) as file:
            return turn_to_seen(np.asarray(file.convert("RGB")), self.orientation)

    def _stored(self) -> npt.NDArray[np.uint8]:
        return turn_to_stored(self.seen, self.orientation)

    def _write_pillow(self, path: Path, form: str) -> None:
        rgb, options = self._stored(), dict(self.options)
        alpha = turn_to_stored(self.valid.astype(np.uint8) * 255, self.orientation)
        if self.kind in ("rgba_opaque", "rgba_holes"):
            picture = Image.fromarray(np.dstack([rgb, alpha]))
        elif self.kind in ("palette", "palette_transparent"):
            picture = with_table(_indices(rgb, self.colour_table), self.colour_table)
        elif self.kind == "grey":
            picture = Image.fromarray(rgb[..., 0])
        elif self.kind == "grey_alpha":
            picture = Image.fromarray(np.dstack([rgb[..., 0], alpha]))
        else:
            picture = Image.fromarray(rgb)
        if self.kind == "cmyk":
            picture = picture.convert("CMYK")
        if self.kind == "lab":
            from PIL import ImageCms

            to_lab = ImageCms.buildTransform(
                ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
            )
            picture = ImageCms.applyTransform(picture, to_lab)
        if self.kind in ("transparent_colour", "palette_transparent"):
            options["transparency"] = (0, 0, 0) if self.kind == "transparent_colour" else 0
        save_pillow(picture, path, form, self.orientation, options)

    def _write_tifffile(self, path: Path, form: str) -> None:
        layers = self._stored()
        options: dict[str, Any] = {"photometric": "rgb", **dict(self.options)}
        if self.kind == "rgba_holes":
            layers = np.dstack([layers, turn_to_stored(self.valid.astype(np.uint8) * 255, self.orientation)])
            options["extrasamples"] = ["unassalpha"]
        elif self.kind == "four_bands":
            layers, options["extrasamples"] = _four_bands(layers), ["unspecified"]
        layers = self._widened(layers)
        if options.pop("separate", False):
            layers, options["planarconfig"] = np.moveaxis(layers, -1, 0), "separate"
        layers = np.ascontiguousarray(layers)
        pages = [layers, 255 - layers] if self.kind == "first_page" else [layers]
        write_tifffile(path, pages, self.orientation, options, self.place)

    def _widened(self, layers: Pixels) -> Pixels:
        """Values of 16 bits (257 times what is seen) or floats (as seen), with what marks px without data."""
        if self.kind in WIDE:
            return layers.astype(np.uint16) * 257
        if self.kind not in FLOATS:
            return layers
        floats = layers.astype(np.float32)
        mark = {"nan": np.nan, "infinity": np.inf, "float_nodata": -9999}.get(self.kind, 0)
        floats[~turn_to_stored(self.valid, self.orientation)] = mark
        return floats

    @property
    def stretch(self) -> tuple[float, float] | None:
        """What --stretch has to say."""
        return (0, 65535) if self.kind in WIDE else (0, 255) if self.kind in FLOATS else None

    def _write_rasterio(self, path: Path, form: str) -> None:
        layers: Pixels = self._stored()
        options, colours = dict(self.options), None
        if self.kind in ("rgba_opaque", "rgba_holes"):
            layers = np.dstack([layers, turn_to_stored(self.valid.astype(np.uint8) * 255, self.orientation)])
            colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        elif self.kind == "four_bands":
            layers = _four_bands(layers)
        elif self.kind in (*FLOATS, *WIDE):
            layers = self._widened(layers)
            options |= {"nodata": {"float_nodata": -9999, "uint16_nodata": 0}[self.kind]} if "_" in self.kind else {}
        elif self.kind == "palette":
            layers, options["table"] = _indices(layers, self.colour_table)[..., None], self.colour_table
        elif self.kind == "nodata":
            options["nodata"] = 0
        elif self.kind == "jpeg_in_tiff":
            options |= {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 95}
        elif self.kind in ("mask_band", "mask_file"):
            options["mask"] = turn_to_stored(self.valid, self.orientation)
        options["beside"] = self.kind == "mask_file"
        write_rasterio(path, layers, form, self.place, options, colours)


def turn_to_stored(seen: Pixels, orientation: int) -> Pixels:
    """Pixels as a file of this EXIF orientation stores what is seen."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](seen)
    return np.ascontiguousarray(turned)


def turn_to_seen(stored: Pixels, orientation: int) -> Pixels:
    """Inverse of :func:`turn_to_stored`."""
    return turn_to_stored(stored, {6: 8, 8: 6}.get(orientation, orientation))


def save_pillow(picture: Image.Image, path: Path, form: str, orientation: int, options: dict[str, Any]) -> None:
    """A picture as a file of a format, whatever the suffix says, with EXIF or the TIFF tag where it is turned."""
    if orientation != 1 and form == "tif":
        options["tiffinfo"] = {274: orientation}
    elif orientation != 1:
        options["exif"] = Image.Exif()
        options["exif"][274] = orientation
    if form == "jpg":
        options = {"quality": 95} | options
    picture.save(path, format={"tif": "TIFF", "png": "PNG", "jpg": "JPEG"}[form], **options)


def write_tifffile(
    path: Path, pages: Sequence[Pixels], orientation: int, options: dict[str, Any], place: Place | None
) -> None:
    """A TIFF of one or several pages as tifffile writes it."""
    options = dict(options)
    tags = [(274, "H", 1, orientation, True)] if orientation != 1 else []
    tags += options.pop("extratags", [])
    tags += place.geotiff_tags() if place is not None else []
    opening = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    with tifffile.TiffWriter(path, **opening) as file:
        for page in pages:
            file.write(page, metadata=None, extratags=tags, **options)


def write_rasterio(
    path: Path, layers: Pixels, form: str, place: Place | None, options: dict[str, Any], colours: Any = None
) -> None:
    """A raster as GDAL writes it; ``options`` may hold a table of colours and a mask besides creation options."""
    options = dict(options)
    mask, table, beside = (options.pop(key, None) for key in ("mask", "table", "beside"))
    driver = {"tif": "GTiff", "png": "PNG", "jpg": "JPEG"}[form]
    profile = {
        "height": layers.shape[0],
        "width": layers.shape[1],
        "count": layers.shape[2],
        "dtype": layers.dtype.name,
    }
    if place is not None and place.carrier == "tags":
        profile |= {"crs": place.crs, "transform": rasterio.Affine(*place.transform)}
    if place is not None and place.carrier == "gcps":
        profile |= {"crs": place.crs, "gcps": place.control_points(layers.shape[0], layers.shape[1])}
    settings = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not beside, GDAL_PAM_ENABLED=False)
    with placeless(), settings, rasterio.open(path, "w", driver=driver, **profile, **options) as file:
        if colours is not None:
            file.colorinterp = colours
        file.write(np.moveaxis(layers, -1, 0))
        if table is not None:
            file.write_colormap(1, {i: (*(int(v) for v in colour), 255) for i, colour in enumerate(table)})
        if mask is not None:
            file.write_mask(mask)


@contextmanager
def placeless() -> Iterator[None]:
    """Without rasterio's warning about rasters that lie nowhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _four_bands(irrg: Pixels) -> Pixels:
    """Red, green, blue, near infrared of which --bands 4,1,2 is the image that is seen."""
    blue = np.random.default_rng(irrg.size).integers(0, 256, irrg.shape[:2]).astype(np.uint8)
    return np.dstack([irrg[..., 1], irrg[..., 2], blue, irrg[..., 0]])


def _indices(rgb: Pixels, table: Pixels) -> npt.NDArray[np.uint8]:
    return (rgb[:, :, None] == table).all(-1).argmax(-1).astype(np.uint8)


def with_table(indices: Pixels, table: Pixels) -> Image.Image:
    """Indices uint8 (H, W) with the colours uint8 (N, 3) of a table, as a palette picture."""
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette([int(v) for v in table.ravel()])
    return picture


SUFFIXES = {"tif": (".tif", ".tif", ".tiff", ".TIF"), "png": (".png", ".png", ".PNG"), "jpg": (".jpg", ".jpeg", ".JPG")}
LIES = (".tif", ".png", ".jpg")


PLAIN_KINDS = ("rgb", "jpeg", "four_bands")


@st.composite
def suffixes(draw: st.DrawFn, form: str, *, odd: bool) -> str:
    """The ending of a file of a format; where ``odd``, now and then that of another one."""
    lie = odd and draw(st.integers(0, 3)) == 3
    return draw(st.sampled_from(LIES if lie else SUFFIXES[form]))


@st.composite
def images(draw: st.DrawFn, kind: str, *, odd_file: bool, odd_place: bool) -> ImageSpec:
    """An image of 1 to 24 px a side; where ``odd_file``, turned by EXIF or with another format's ending."""
    writer = draw(st.sampled_from(WRITERS[kind]))
    form = writer.split(".")[1]
    turned = odd_file and not writer.startswith("rasterio")
    orientation = draw(st.integers(1, 8)) if turned else 1
    place = draw(places(form, writer, odd=odd_place)) if orientation == 1 else None
    options: dict[str, Any] = {}
    if writer == "tifffile.tif":
        options["byteorder"] = draw(st.sampled_from(["<", ">"]))
        options["bigtiff"] = draw(st.booleans())
        options["separate"] = draw(st.booleans())
    elif writer == "rasterio.tif" and kind != "jpeg_in_tiff":
        options["compress"] = draw(st.sampled_from(["none", "lzw", "deflate"]))
        options["interleave"] = draw(st.sampled_from(["pixel", "band"]))
    elif writer == "pillow.jpg" and kind == "jpeg":
        options["progressive"] = draw(st.booleans())
    suffix = draw(suffixes(form, odd=odd_file))
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    seed = draw(st.integers(0, 10**6))
    return ImageSpec(kind, writer, suffix, height, width, seed, orientation, place, tuple(options.items()))
