"""Sentinel-2 products of level 2A as ESA delivers them: folders NAME.SAFE with a JPEG 2000 file per band.

Bands have 10, 20 and 60 m per px. :func:`stack_product` brings those that are wanted to the finest grid among them, as
one GeoTIFF that says of every band which file it is and how it was resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.raster.band_names import SOURCE_TAG
from weakseg.raster.formats import reason_of, unreadable
from weakseg.raster.header import opened

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

CODES: Final = {
    **{"coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "red_edge1": "B05", "red_edge2": "B06"},
    **{"red_edge3": "B07", "nir": "B08", "nir_narrow": "B8A", "water_vapour": "B09", "swir1": "B11", "swir2": "B12"},
}
_FILE: Final = re.compile(r"(?:L2A_)?(T\d{2}[A-Z]{3}_\d{8}T\d{6})_(B\d[\dA])_(\d\d)m\.jp2")
_OFFSET: Final = re.compile(rb"<BOA_ADD_OFFSET[^>]*>\s*(-?\d+)\s*<")
_METADATA: Final = "MTD_MSIL2A.xml"
_EMPTY: Final = 0  # ESA's value of px without data, which the files themselves do not name
_ROWS: Final = 1024  # the side of ESA's tiles


@dataclass(frozen=True)
class Layer:
    """One band of a product: its name here, ESA's code, its finest file and that file's m per px."""

    name: str
    code: str
    path: Path
    metres: int


@dataclass(frozen=True)
class Product:
    """A product folder.

    Attributes:
        area: tile and time of the sensing, such as T32UMC_20220601T103629.
        layers: the bands that are wanted, in that order.
        offset: what has to be added to the numbers, as its metadata say: 0, or since baseline 04.00 -1000.
    """

    folder: Path
    area: str
    layers: tuple[Layer, ...]
    offset: int

    @property
    def metres(self) -> int:
        """The finest grid among the bands."""
        return min(layer.metres for layer in self.layers)


def is_product(path: Path) -> bool:
    """Whether a path is a product folder, by its name."""
    return path.suffix.upper() == ".SAFE" and path.is_dir()


def open_product(folder: Path, names: Sequence[str]) -> Product:
    """The files of a product for these bands.

    Raises:
        DataError: names that are none of Sentinel-2's, bands without a file, another level, several granules.
    """
    strange = [name for name in names if name not in CODES]
    if strange or not names:
        raise DataError(
            f"{folder}: bands {', '.join(strange) or 'without names'}",
            expected=f"some of {', '.join(CODES)}",
            cure="name them with --bands, or take all with --portal sentinel2-l2a",
        )
    files: dict[str, Layer] = {}
    areas = set()
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/R*m/*.jp2")):
        found = _FILE.fullmatch(path.name)
        name = next((name for name, code in CODES.items() if found and code == found[2]), None)
        if found is None or name is None:
            continue
        areas.add(found[1])
        layer = Layer(name, found[2], path, int(found[3]))
        if name not in files or layer.metres < files[name].metres:
            files[name] = layer
    lost = [f"{name} ({CODES[name]})" for name in names if name not in files]
    if lost or len(areas) != 1:
        raise DataError(
            f"{folder}: no file of {', '.join(lost)}" if len(areas) <= 1 else f"{folder}: {len(areas)} granules",
            expected="a whole Sentinel-2 product of level 2A with one granule: GRANULE/*/IMG_DATA/R10m, R20m, R60m",
            cure="download or unpack it again, or leave bands out of --bands",
        )
    return Product(folder, areas.pop(), tuple(files[name] for name in names), _offset(folder))


def _offset(folder: Path) -> int:
    try:
        content = (folder / _METADATA).read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder}: no {_METADATA} ({error.strerror})",
            expected="the metadata, which say what is to be taken off the numbers (1000 since baseline 04.00)",
            cure="unpack the whole product",
        ) from error
    found = {int(value) for value in _OFFSET.findall(content)}
    if len(found) > 1:
        raise DataError(
            f"{folder}: offsets {sorted(found)} of the bands", expected="one for all", cure="report this product"
        )
    return found.pop() if found else 0


def stack_product(product: Product, target: Path) -> None:
    """Write the bands as one GeoTIFF, uint16, on the finest grid among them, whole or not at all.

    Coarser bands are brought there bilinearly between centres of px; px without data (0) have no part in it and stay 0,
    the nodata value. The offset of the metadata is added, what would fall below 1 becomes 1: so products of all
    baselines mean the same by a number, 10000 being a reflectance of 1.
    """
    import rasterio

    finest = min(product.layers, key=lambda layer: layer.metres)
    with ExitStack() as stack:
        grid = stack.enter_context(opened(finest.path, None))
        readers = [stack.enter_context(_on_grid(layer, grid)) for layer in product.layers]
        layout: dict[str, Any] = {"crs": grid.crs, "transform": grid.transform, "dtype": "uint16", "nodata": _EMPTY}
        layout |= {"count": len(readers), "height": grid.height, "width": grid.width}
        layout |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
        temporary = stack.enter_context(atomic_path(target))
        out = stack.enter_context(rasterio.open(temporary, "w", driver="GTiff", BIGTIFF="IF_SAFER", ZLEVEL=1, **layout))
        for number, (layer, reader) in enumerate(zip(product.layers, readers, strict=True), 1):
            for window in _strips(grid):
                out.write(_shifted(_read(layer.path, reader, window), product.offset), number, window=window)
            out.set_band_description(number, layer.name)
            out.update_tags(number, **{SOURCE_TAG: describe_layer(layer, product)})


def describe_layer(layer: Layer, product: Product) -> str:
    """What a band of the stack was made of, for people."""
    how = f", bilinear to {product.metres} m" if layer.metres != product.metres else ""
    return f"Sentinel-2 {layer.code}, {layer.metres} m{how}" + (f", {product.offset:+d}" if product.offset else "")


@contextmanager
def _on_grid(layer: Layer, grid: DatasetReader) -> Iterator[DatasetReader]:
    """The file of a band, as if it lay on the pixels of ``grid``."""
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    with opened(layer.path, None) as file:
        if file.count != 1 or file.dtypes[0] != "uint16" or file.crs is None:
            raise DataError(
                f"{layer.path}: {file.count} band(s) of {file.dtypes[0]}" + ("" if file.crs else " without a CRS"),
                expected="one of uint16 with a place, as ESA delivers it",
                cure="download or unpack the product again",
            )
        if file.shape == grid.shape and file.transform == grid.transform and file.crs == grid.crs:
            yield file
            return
        place = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
        how = {"resampling": Resampling.bilinear, "src_nodata": _EMPTY, "nodata": _EMPTY}
        with WarpedVRT(file, **place, **how) as warped:
            yield warped


def _strips(grid: DatasetReader) -> Iterator[Any]:
    from rasterio.windows import Window

    for row in range(0, grid.height, _ROWS):
        yield Window(0, row, grid.width, min(_ROWS, grid.height - row))


def _read(path: Path, reader: DatasetReader, window: Any) -> npt.NDArray[np.uint16]:
    from rasterio.errors import RasterioError

    try:
        values: npt.NDArray[np.uint16] = reader.read(1, window=window)
    except RasterioError as error:
        where = (window.row_off, window.col_off, window.height, window.width)
        raise unreadable(path, reason_of(error), where) from error
    return values


def _shifted(values: npt.NDArray[np.uint16], offset: int) -> npt.NDArray[np.uint16]:
    if not offset:
        return values
    moved = np.clip(values.astype(np.int32) + offset, 1, np.iinfo(np.uint16).max)
    return np.where(values == _EMPTY, _EMPTY, moved).astype(np.uint16)
