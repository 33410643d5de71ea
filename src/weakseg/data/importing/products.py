"""Sentinel-2 products as rasters that an import takes: each stacked into a file of its own, which goes afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weakseg.core.errors import DataError
from weakseg.raster.band_names import SKIP, BandChoice
from weakseg.raster.formats import FURTHER_SUFFIXES, RASTER_SUFFIXES
from weakseg.raster.safe import is_product, open_product, stack_product


def find_products(images: Path) -> list[Path]:
    """The product that a path is, or those in a folder; [] where there are none.

    Raises:
        DataError: products beside other rasters, of which one kind would be left out.
    """
    if is_product(images):
        return [images]
    if not images.is_dir():
        return []
    found = sorted(path for path in images.iterdir() if is_product(path))
    others = [path.name for path in images.iterdir() if path.suffix.lower() in RASTER_SUFFIXES | FURTHER_SUFFIXES]
    if found and others:
        raise DataError(
            f"{images}: Sentinel-2 products beside {others[0]}",
            expected="a folder of one or the other",
            cure="move the products into a folder of their own",
        )
    return found


@contextmanager
def as_rasters(images: Path, choice: BandChoice, scratch: Path) -> Iterator[Path]:
    """``images`` as it is; of Sentinel-2 products a folder in ``scratch`` with a GeoTIFF for each, until the end.

    Raises:
        DataError: products without names of bands, or two of one tile and time.
    """
    products = find_products(images)
    if not products:
        yield images
        return
    opened = [open_product(path, names_of(choice, path)) for path in products]
    if len({product.area for product in opened}) < len(opened):
        raise DataError(
            f"{images}: two products of one tile and time", expected="one of each", cure="keep the newer baseline"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".products-") as folder:
        for product in opened:
            stack_product(product, Path(folder) / f"{product.area}.tif")
        yield Path(folder)


def names_of(choice: BandChoice, product: Path) -> tuple[str, ...]:
    """The names of a choice that has names alone."""
    if choice.numbers or not choice.names or SKIP in choice.names:
        raise DataError(
            f"{product}: a Sentinel-2 product without names of bands",
            expected="names such as blue,green,red,nir",
            cure="take all twelve with --portal sentinel2-l2a, or name some with --bands",
        )
    return choice.names
