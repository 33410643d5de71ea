"""A finished map as the file that its users open: on the grid they ask for, cloud optimized, with its legend."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from weakseg.maps.cog import is_cog, write_cog
from weakseg.maps.legend import read_legend, write_legend
from weakseg.maps.stac import write_map_item
from weakseg.maps.warp import warp_map


@dataclass(frozen=True)
class Delivery:
    """What becomes of a map after it is predicted.

    Attributes:
        cog: make it a Cloud Optimized GeoTIFF.
        crs, res, area: another grid, as :func:`weakseg.maps.warp.warp_map` takes them.
    """

    cog: bool = True
    crs: str | None = None
    res: float | None = None
    area: Path | None = None

    @property
    def moves(self) -> bool:
        """Whether the map leaves the grid of the raster it was made from."""
        return self.crs is not None or self.res is not None or self.area is not None


def deliver_map(path: Path, delivery: Delivery, *, layers: tuple[Path, ...] = ()) -> None:
    """Turn a map of classes, and the ``layers`` predicted with it, into what ``delivery`` says, in place.

    A map that is cloud optimized already stays as it is. Legend and STAC item are written anew.
    """
    for raster in (path, *layers):
        _deliver_raster(raster, delivery, classes=raster == path)
    scheme = read_legend(path)
    legend = write_legend(path, scheme)
    write_map_item(path, scheme, legend=legend, layers=layers)


def _deliver_raster(path: Path, delivery: Delivery, *, classes: bool) -> None:
    if not delivery.moves:
        if delivery.cog and not is_cog(path):
            write_cog(path, path, classes=classes)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        moved = Path(folder) / path.name
        warp_map(path, moved, classes=classes, crs=delivery.crs, res=delivery.res, area=delivery.area)
        if delivery.cog:
            write_cog(moved, path, classes=classes)
        else:
            moved.replace(path)
