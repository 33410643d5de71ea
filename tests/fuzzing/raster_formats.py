"""Rasters: headers and pixels of GeoTIFF, PNG, JPEG and JPEG 2000, files beside them, virtual rasters; read by GDAL."""

from __future__ import annotations

import io
import json
import math
import zlib
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

import numpy as np
import rasterio
import tifffile
from PIL import Image
from tests.fuzzing.harness import Format, same, sure
from tests.fuzzing.mutations import change_bytes, change_text

from weakseg.core.classes import ISPRS
from weakseg.raster.header import read_info
from weakseg.raster.open import read_image, read_label, read_valid
from weakseg.raster.stream import inspect_source, open_reader
from weakseg.raster.uploads import open_upload

PLACE: Final = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
RNG: Final = np.random.default_rng(0)
IMAGE: Final = np.kron(RNG.integers(1, 256, (8, 10, 3)), np.ones((4, 4, 1), int)).astype(np.uint8)
MASK: Final = np.kron(RNG.integers(0, 5, (8, 10)), np.ones((4, 4), int)).astype(np.uint8)


def save(path: Path, array: Any, driver: str, **more: Any) -> bytes:
    """The bytes of a raster that GDAL writes."""
    layers = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    shape = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    with rasterio.open(path, "w", driver=driver, **shape, **more) as file:
        file.write(layers)
    for beside in path.parent.glob(f"{path.name}.aux.xml"):
        beside.unlink()
    return path.read_bytes()


class RasterFormat(Format):
    """One format: read whole as an image and as a label, by windows, and as an upload."""

    inputs = 2500
    sample = 25
    head: ClassVar[int] = 400

    def draw(self, rng: Random) -> bytes:
        return change_bytes(rng, rng.choice(self.seeds), self.seeds, head=self.head)

    def read(self, path: Path, content: bytes) -> None:
        info = read_info(path)
        if info.dtype == "uint8" and info.bands != 3:
            label = read_label(path, ISPRS)
            same(label.mask.shape, (info.height, info.width), "the mask")
            sure(set(np.unique(label.mask).tolist()) <= {*range(5), 255}, "classes of the mask")
            return
        image = read_image(path)
        same(image.shape, (info.height, info.width, 3), "the image")
        valid = read_valid(path)
        same(None if valid is None else valid.shape, None if valid is None else image.shape[:2], "valid")
        self.check(image, content)
        with open_upload(content, "upload") as source, open_reader(source) as reader:
            window = reader.pixels((0, 0, source.height, source.width))
        sure(np.array_equal(window, image) or self.name == "jpeg", "upload and file differ")

    def check(self, image: Any, content: bytes) -> None:
        """Compare with another decoder."""


class TiffFormat(RasterFormat):
    name = "geotiff"
    inputs = 4000
    suffix = ".tif"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "seed.tif"
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        self.seeds = [
            save(path, IMAGE, "GTiff", **PLACE),
            save(path, IMAGE, "GTiff", **PLACE, **tiled, compress="deflate", predictor=2, nodata=0),
            save(path, IMAGE, "GTiff", compress="lzw", interleave="pixel"),
            save(path, IMAGE, "GTiff", BIGTIFF="YES", compress="packbits"),
            save(path, MASK, "GTiff", **PLACE, nodata=255),
        ]

    def check(self, image: Any, content: bytes) -> None:
        try:
            with tifffile.TiffFile(io.BytesIO(content)) as file:
                page = file.pages.first
                if (
                    page.compression.name not in ("NONE", "ADOBE_DEFLATE", "LZW", "PACKBITS")
                    or page.photometric.name != "RGB"
                ):
                    return
                if 0 in page.dataoffsets:
                    return  # a block that is left out, by GDAL's convention
                other = page.asarray()
        except Exception:  # stricter than GDAL about tags that change no pixel: nothing to compare with
            return
        if other.shape == image.transpose(2, 0, 1).shape and page.planarconfig.name == "SEPARATE":
            other = np.moveaxis(other, 0, -1)
        turned = page.tags.get("Orientation")
        if other.shape == image.shape and (turned is None or turned.value == 1):
            sure(np.array_equal(other, image), "tifffile reads other pixels")


class PngFormat(RasterFormat):
    name = "png"
    suffix = ".png"
    head = 120

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "seed.png"
        self.seeds = [save(path, IMAGE, "PNG"), save(path, MASK, "PNG"), save(path, IMAGE, "PNG", interlace="YES")]

    def draw(self, rng: Random) -> bytes:
        content = super().draw(rng)
        return content if rng.random() < 0.4 else _right_checksums(content)

    def check(self, image: Any, content: bytes) -> None:
        with Image.open(io.BytesIO(content)) as file:
            if file.mode == "RGB":
                sure(np.array_equal(np.asarray(file), image), "Pillow reads other pixels")


def _right_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have right checksums, so that what is in them is looked at."""
    found, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        found += content[at:end] + zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(found)


class JpegFormat(RasterFormat):
    name = "jpeg"
    suffix = ".jpg"
    head = 700

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for options in ({}, {"progressive": True}, {"subsampling": 0}, {"exif": _exif()}):
            saved = io.BytesIO()
            Image.fromarray(IMAGE).save(saved, "JPEG", quality=90, **options)  # type: ignore[arg-type]
            self.seeds.append(saved.getvalue())

    def check(self, image: Any, content: bytes) -> None:
        try:
            with Image.open(io.BytesIO(content)) as file:
                if file.mode != "RGB" or file.getexif().get(274, 1) != 1:
                    return
                other = np.asarray(file).astype(int)
        except OSError:  # tables that only one of two decoders bears: JPEG has no checksums
            return
        same(other.shape, image.shape, "Pillow's size")
        if np.isin(other, (0, 255)).mean() > 0.03:
            return  # tables of other factors: each decoder cuts off what is above white in its own way
        far = np.abs(other - image).mean()
        sure(far < 40, f"Pillow reads other pixels, {far:.1f} of 255 apart")


def _exif() -> Any:
    exif = Image.Exif()
    exif[274] = 6
    return exif


class Jp2Format(RasterFormat):
    name = "jpeg 2000"
    inputs = 2000
    suffix = ".jp2"
    head = 250

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
        self.seeds = [save(folder / "seed.jp2", IMAGE, "JP2OpenJPEG", **lossless, **PLACE)]

    def read(self, path: Path, content: bytes) -> None:
        info = read_info(path)
        if info.bands == 3 and info.dtype == "uint8":
            same(read_image(path).shape, (info.height, info.width, 3), "the image")
        inspect_source(path, None)


class SidecarFormat(Format):
    """World files, ``.prj`` and ``.aux.xml`` beside a PNG."""

    name = "sidecars"
    is_file = False
    inputs = 2500
    sample = 25
    tokens = (
        "1", "0", "-1", "nan", "inf", "1e400", "0.5,", "\n", "\0", "<", ">", "&amp;", "&x;", "<SRS>", "</SRS>",
        "EPSG:25832",
        "EPSG:99999", "EPSG:x", "PROJCS[", "]", '"', "<GeoTransform>", "<!DOCTYPE a>", "<!-- -->", "+proj=utm", "{",
        "é", "9" * 400,
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        save(folder / "seed.png", IMAGE, "PNG")
        wkt = rasterio.crs.CRS.from_epsg(25832).to_wkt()
        aux = f"<PAMDataset><SRS>{wkt}</SRS><GeoTransform>400000, 0.5, 0, 5000000, 0, -0.5</GeoTransform></PAMDataset>"
        world = "0.5\n0\n0\n-0.5\n400000.25\n4999999.75\n"
        self.parts = {
            "in.pgw": world,
            "in.prj": wkt,
            "in.aux.xml": aux.replace('"', "&quot;"),
            "in.png.aux.xml": aux.replace('"', "&quot;"),
        }
        self.seeds = [json.dumps({name: self.parts[name]}) for name in self.parts if name != "in.prj"]

    def draw(self, rng: Random) -> bytes:
        beside = rng.choice((("in.pgw",), ("in.pgw", "in.prj"), ("in.aux.xml",), ("in.png.aux.xml",)))
        texts = {name: self.parts[name] for name in beside}
        spoilt = rng.choice(beside)
        texts[spoilt] = change_text(rng, texts[spoilt], self.tokens)
        return json.dumps(texts).encode()

    def read(self, path: Path, content: bytes) -> None:
        place = self.folder / "in"
        place.mkdir(exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        (place / "in.png").write_bytes((self.folder / "seed.png").read_bytes())
        texts = json.loads(content)
        for name, text in texts.items():
            (place / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        info = read_info(place / "in.png")
        inspect_source(place / "in.png", None)
        if info.transform is not None:
            sure(all(map(math.isfinite, info.transform)), f"transform {info.transform}")
            a, b, _, d, e, _ = info.transform
            sure(a * e - b * d != 0, f"transform {info.transform}")
        if info.crs is not None:
            rasterio.crs.CRS.from_wkt(info.crs)


class VrtFormat(Format):
    """A virtual raster beside its file: it opens no other."""

    name = "vrt"
    inputs = 1500
    sample = 15
    suffix = ".vrt"
    tokens = (
        "seed.tif", "../seed.tif", "/etc/passwd", "input.vrt", "1", "0", "-1", "99999999", "<", ">", '"', "&amp;",
        "Int16", "Byte", "1e9",
        "<ComplexSource>", "</SimpleSource>", "<!DOCTYPE a>", 'relativeToVRT="0"', "VRTDerivedRasterBand", "\0",
        "<MaskBand>",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        save(folder / "seed.tif", IMAGE, "GTiff", **PLACE)
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource>'
            '<SourceFilename relativeToVRT="1">seed.tif</SourceFilename>'
            f'<SourceBand>{n}</SourceBand><SrcRect xOff="0" yOff="0" xSize="40" ySize="32"/>'
            f'<DstRect xOff="0" yOff="0" xSize="40" ySize="32"/></SimpleSource></VRTRasterBand>'
            for n in (1, 2, 3)
        )
        place = "<SRS>EPSG:25832</SRS><GeoTransform>400000, 0.5, 0, 5000000, 0, -0.5</GeoTransform>"
        self.seeds = [f'<VRTDataset rasterXSize="40" rasterYSize="32">{place}{bands}</VRTDataset>']

    def draw(self, rng: Random) -> bytes:
        return change_text(rng, self.seeds[0], self.tokens).encode("utf-8", "surrogatepass")

    def read(self, path: Path, content: bytes) -> None:
        info = read_info(path)
        image = read_image(path)
        same(image.shape, (info.height, info.width, 3), "the image")


RASTER_FORMATS = (TiffFormat, PngFormat, JpegFormat, Jp2Format, SidecarFormat, VrtFormat)
