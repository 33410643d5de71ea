"""Drawn label masks: the class of every pixel is known, and the file says it by ids, colours, greys or a palette."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp
from tests.generators.drawn_images import (
    save_pillow,
    suffixes,
    turn_to_stored,
    with_table,
    write_rasterio,
    write_tifffile,
)
from tests.generators.drawn_places import Place
from tests.generators.drawn_schemes import Scheme

IGNORE = 255
Mask = npt.NDArray[np.uint8]
# how the file says the class -> who can write it
WRITERS: dict[str, tuple[str, ...]] = {
    "ids": ("pillow.png", "pillow.tif", "tifffile.tif", "rasterio.tif", "rasterio.png"),
    "ids_low_bits": ("png.png",),
    "ids_jpeg": ("pillow.jpg",),
    "ids_jpeg_in_tiff": ("rasterio.tif",),
    "ids_from_one_no_value": ("rasterio.tif",),
    "ids_first_page": ("tifffile.tif",),
    "ids_odd_nodata": ("tifffile.tif",),
    "colours": ("pillow.png", "pillow.tif", "tifffile.tif", "rasterio.tif"),
    "colours_jpeg": ("pillow.jpg",),
    "colours_opaque": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "colours_alpha": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "greys": ("pillow.png", "pillow.tif", "tifffile.tif", "rasterio.tif"),
    "greys_white_is_zero": ("tifffile.tif",),
    "greys_jpeg": ("pillow.jpg",),
    "one_bit": ("pillow.png", "pillow.tif"),
    "palette": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "palette_renumbered": ("pillow.png", "pillow.tif", "rasterio.tif"),
    "palette_clear": ("pillow.png",),
    "palette_foreign": ("pillow.png", "rasterio.tif"),
    "two_bands": ("rasterio.tif",),
}
DTYPES = ("uint8", "uint8", "uint8", "uint16", "int16", "int32", "float32")
ODD_NODATA = ("-9999", "nan", "256", "1e38")  # in the header of a file of 8 bits: no px can have it


@dataclass(frozen=True)
class LabelSpec:
    """A label as drawn.

    Attributes:
        encoding: how the file says the class.
        ignore: how it says "ignore": none, 255, nodata (tag), option (--ignore), colour (an ignored one), alpha, nan,
            mask (band).
        ignore_id: the value that means ignore in masks of ids.
        stray: some px hold an id or colour that means nothing: there is no right answer but a refusal.
        dtype: of masks of ids.
    """

    scheme: Scheme = field(repr=False)
    encoding: str
    writer: str
    suffix: str
    height: int
    width: int
    seed: int
    ignore: str = "none"
    ignore_id: int = IGNORE
    stray: bool = False
    dtype: str = "uint8"
    orientation: int = 1
    place: Place | None = None

    @cached_property
    def truth(self) -> Mask:
        """uint8 (H, W): the class index of every px, 255 for ignore."""
        rng = np.random.default_rng(self.seed)
        side = int(rng.integers(1, 6))
        cells = rng.integers(0, len(self.scheme.names), (-(-self.height // side), -(-self.width // side)))
        mask = np.kron(cells, np.ones((side, side)))[: self.height, : self.width].astype(np.uint8)
        if self.ignore != "none":
            mask[rng.random(mask.shape) < 0.15] = IGNORE
            mask[0, 0] = IGNORE
        return mask

    @cached_property
    def astray(self) -> npt.NDArray[np.bool_]:
        """bool (H, W): px that mean nothing; one, beside others that mean something. One bit has no third value."""
        astray = np.zeros((self.height, self.width), bool)
        middle = self.height // 2, self.width // 2
        astray[middle] = self.stray and self.encoding != "one_bit" and astray.size > 1 and self.truth[middle] != IGNORE
        return astray

    def write(self, path: Path) -> None:
        """The file, and its sidecars."""
        who, _, form = self.writer.partition(".")
        layers, options = self._layers()
        layers = turn_to_stored(layers, self.orientation)
        if who == "png":
            write_grey_png(path, layers, 4)
        elif who == "pillow":
            save_pillow(self._picture(layers), path, form, self.orientation, options)
        elif who == "tifffile":
            options = {"photometric": "rgb" if layers.ndim == 3 else "minisblack"} | options
            pages = [layers, np.roll(layers, 1, 0)] if self.encoding == "ids_first_page" else [layers]
            write_tifffile(path, pages, self.orientation, options, self.place)
        else:
            planes = layers if layers.ndim == 3 else layers[..., None]
            alpha = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            four = self.encoding in ("colours_alpha", "colours_opaque")
            options |= {"mask": self.truth != IGNORE} if self.ignore == "mask" else {}
            write_rasterio(path, planes, form, self.place, options, alpha if four else None)
        if self.place is not None:
            self.place.write_beside(path)

    def _layers(self) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """What the file holds, upright, and the options of its writer."""
        if self.encoding.startswith("ids"):
            return self._ids()
        if self.encoding.startswith("palette"):
            return self._palette_indices()
        rgb = self._rgb()
        if self.encoding.startswith("greys") or self.encoding == "one_bit":
            grey = np.ascontiguousarray(rgb[..., 0])
            # the file stores white as 0, so that a viewer shows what was drawn
            return (255 - grey, {"photometric": "miniswhite"}) if self.encoding == "greys_white_is_zero" else (grey, {})
        if self.encoding in ("colours_alpha", "colours_opaque"):
            return np.dstack([rgb, self._alpha()]), {}
        if self.ignore == "nodata":
            rgb[self.truth == IGNORE] = 0
            return rgb, {"nodata": 0}
        return (rgb[..., :2], {}) if self.encoding == "two_bands" else (rgb, {})

    def _alpha(self) -> npt.NDArray[np.uint8]:
        return np.where((self.truth == IGNORE) & (self.ignore == "alpha"), 0, 255).astype(np.uint8)

    def _ids(self) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        ids = np.array([*self.scheme.ids])
        if self.encoding == "ids_from_one_no_value":
            ids = np.arange(1, len(self.scheme.names) + 1)
        values = np.where(self.truth == IGNORE, self.ignore_id, ids[np.minimum(self.truth, len(ids) - 1)])
        values[self.astray] = next(v for v in range(254, 0, -1) if v not in (*ids, self.ignore_id))
        if self.ignore == "mask":
            values[self.truth == IGNORE] = ids[0]
        layers = values.astype(self.dtype)
        if self.ignore == "nan":
            layers[self.truth == IGNORE] = np.nan
        options: dict[str, Any] = {"nodata": self.ignore_id} if self.ignore == "nodata" else {}
        if self.ignore == "nodata" and self.writer == "tifffile.tif":
            options = {"extratags": [(42113, "s", 0, str(self.ignore_id), True)]}
        if self.encoding == "ids_odd_nodata":
            options = {"extratags": [(42113, "s", 0, ODD_NODATA[self.seed % len(ODD_NODATA)], True)]}
        if self.encoding == "ids_jpeg_in_tiff":
            options |= {"compress": "jpeg"}
        return layers, options

    def _rgb(self) -> npt.NDArray[np.uint8]:
        rgb = self.scheme.table()[self.truth]
        rgb[self.astray] = self._unknown()
        return rgb

    def _unknown(self) -> tuple[int, ...]:
        """A colour that means nothing, as near to one that does as can be."""
        known = {*self.scheme.colours, *(colour for _, colour in self.scheme.ignored)}
        grey = next((v, v, v) for v in range(77, 256) if (v, v, v) not in known)
        near = tuple(v ^ 1 for v in self.scheme.colours[0])
        return grey if self.scheme.grey or near in known else near

    def _palette_indices(self) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Indices whose table is that of the classes, or renumbered, or of colours that are none of the classes."""
        if self.encoding == "palette_renumbered":
            rgb = self._rgb()
            table = np.unique(rgb.reshape(-1, 3), axis=0)
            table = table[np.random.default_rng(self.seed).permutation(len(table))]
            return (rgb[:, :, None] == table).all(-1).argmax(-1).astype(np.uint8), {"table": table}
        table = self.scheme.table()
        if self.encoding == "palette_foreign":
            table = np.random.default_rng(self.seed).integers(1, 255, (256, 3)).astype(np.uint8)
        indices = self.truth.copy()
        indices[self.astray] = 200
        table[200] = self._unknown()
        return indices, {"table": table}

    def _picture(self, layers: npt.NDArray[Any]) -> Image.Image:
        if self.encoding.startswith("palette"):
            _, options = self._palette_indices()
            picture = with_table(layers, options["table"])
            if self.encoding == "palette_clear":
                picture.info["transparency"] = IGNORE
            return picture
        picture = Image.fromarray(layers)
        return picture.convert("1") if self.encoding == "one_bit" else picture


def write_grey_png(path: Path, values: npt.NDArray[np.uint8], bits: int) -> None:
    """A grey PNG of few bits per px, which Pillow does not write."""
    packed = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]).tobytes() for row in values]
    body = zlib.compress(b"".join(b"\0" + row for row in packed))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")):
            file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))


@dataclass(frozen=True)
class LabelKind:
    """What the labels of one delivery share; ``told``: what --masks-hold says of them."""

    encoding: str
    writer: str
    suffix: str
    ignore: str
    ignore_id: int
    dtype: str
    orientation: int
    told: str | None = None


PLAIN_ENCODINGS = ("ids", "colours", "palette", "palette_renumbered")


@st.composite
def label_kinds(draw: st.DrawFn, scheme: Scheme, *, odd: bool, odd_file: bool) -> LabelKind:
    """A way of writing labels of this scheme that its drawer would call right (or that can only be refused)."""
    encodings = [name for name in (WRITERS if odd else PLAIN_ENCODINGS) if _fits(name, scheme)]
    encoding = draw(st.sampled_from(encodings))
    writer, dtype = draw(st.sampled_from(WRITERS[encoding])), "uint8"
    if encoding == "ids" and odd and writer in ("tifffile.tif", "rasterio.tif"):
        dtype = draw(st.sampled_from(DTYPES))
    if encoding == "ids" and max(scheme.ids) > 255 and dtype == "uint8":
        wide = [("rasterio.tif", "uint16"), ("pillow.png", "uint16"), ("tifffile.tif", "int32")]
        writer, dtype = draw(st.sampled_from(wide))
    ignore, ignore_id = draw(st.sampled_from(_ignores(encoding, writer, scheme, dtype))), IGNORE
    if ignore in ("nodata", "option") and encoding.startswith("ids"):
        wide = {"int16": (-1, -9999), "int32": (-1, 70000), "uint16": (65535,), "float32": (-9999, -1)}.get(dtype, ())
        ignore_id = draw(st.sampled_from([v for v in (0, 0, 0, 99, 255, 254, *wide) if v not in scheme.ids]))
    if encoding == "ids_from_one_no_value":
        ignore_id = 0
    turned = odd_file and not writer.startswith(("rasterio", "png"))
    orientation = draw(st.integers(1, 8)) if turned else 1
    suffix = draw(suffixes(writer.split(".")[1], odd=odd_file))
    told = None
    if odd and draw(st.booleans()) and encoding not in ("ids_from_one_no_value", "two_bands"):
        ids_are = "values" if scheme.values else "indices"
        told = ids_are if encoding.startswith("ids") or encoding == "palette_foreign" else "colours"
    return LabelKind(encoding, writer, suffix, ignore, ignore_id, dtype, orientation, told)


def _fits(encoding: str, scheme: Scheme) -> bool:
    small = max(scheme.ids) <= 255
    if encoding == "ids_low_bits":
        return max(scheme.ids) < 16
    if encoding == "ids_from_one_no_value":
        return scheme.values is None
    if encoding.startswith("ids"):
        return small or encoding == "ids"
    if encoding == "one_bit":
        return scheme.style in ("black_white", "white_black")
    if encoding.startswith("greys"):
        return scheme.grey
    if encoding in ("palette", "palette_clear", "palette_foreign"):
        return scheme.values is None
    return True


def _ignores(encoding: str, writer: str, scheme: Scheme, dtype: str) -> list[str]:
    if encoding == "ids_from_one_no_value":
        return ["nodata"]
    if encoding in ("ids_low_bits", "ids_odd_nodata", "ids_first_page"):
        return ["none"]
    if encoding == "palette_clear":
        return ["255"]
    if encoding == "colours" and writer == "rasterio.tif" and (0, 0, 0) not in scheme.colours:
        return ["none", "nodata", "mask", *(["colour"] if scheme.ignored else [])]
    if encoding.startswith("ids"):
        found = ["none", "option"]
        # masks of 0 and 255 are black and white where these are the classes
        white_class = scheme.grey and (255, 255, 255) in scheme.colours
        found += ["255"] if IGNORE not in scheme.ids and not white_class else []
        found += ["nodata", "nodata", "nodata"] if writer in ("tifffile.tif", "rasterio.tif") else []
        found += ["mask"] if writer == "rasterio.tif" and encoding == "ids" else []
        return [*found, "nan"] if dtype == "float32" else found
    if encoding == "colours_alpha":
        return ["alpha"]
    if encoding in ("palette", "palette_foreign"):
        return ["none", "255"]
    return ["none", "colour"] if scheme.ignored else ["none"]
