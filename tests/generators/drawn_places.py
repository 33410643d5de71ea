"""Drawn places on Earth, and every way in which a file tells its own: in its tags, .aux.xml, world files, .prj."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyproj
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

Six = tuple[float, float, float, float, float, float]
GRIDS = (
    ("EPSG:25832", (500000.0, 5300000.0), 0.5),
    ("EPSG:25832", (691234.25, 5334567.75), 0.09),
    ("EPSG:32733", (399960.0, 8300040.0), 10.0),
    ("EPSG:3857", (1001875.0, 6800125.0), 0.25),
    ("EPSG:4326", (11.5, 48.25), 2**-17),
    ("EPSG:31468", (4468000.0, 5333000.0), 0.2),
    ("EPSG:2263", (980000.0, 200000.0), 1.0),  # feet
)
WORLD = {"tif": (".tfw", ".tifw", ".wld"), "png": (".pgw", ".pngw", ".wld"), "jpg": (".jgw", ".jpgw", ".wld")}


@dataclass(frozen=True)
class Place:
    """Where a raster lies, and how its file tells.

    Attributes:
        transform: (a, b, c, d, e, f) of the upper left corners of pixels.
        carrier: tags, gcps (ground control points), geokeys, geokeys_point (written by hand; all four of a GeoTIFF),
            aux (NAME.SUFFIX.aux.xml), world, world+prj, world+esri, world+aux.
        world_suffix: of the world file.
    """

    crs: str | None
    transform: Six
    carrier: str
    world_suffix: str = ".wld"

    def moved(self, columns: float, rows: float) -> Place:
        """The same grid shifted by so many px."""
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a, b, c + a * columns + b * rows, d, e, f + d * columns + e * rows))

    def write_beside(self, path: Path) -> None:
        """The sidecars of a raster file."""
        wkt = CRS.from_string(self.crs).to_wkt() if self.crs else ""
        a, b, c, d, e, f = self.transform
        if self.carrier in ("aux", "world+aux"):
            geo = (
                f"<GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>"
                if self.carrier == "aux"
                else ""
            )
            text = f"<PAMDataset>\n<SRS>{escape(wkt)}</SRS>\n{geo}\n</PAMDataset>\n"
            path.with_name(path.name + ".aux.xml").write_text(text)
        if self.carrier.startswith("world"):
            middle = (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)
            path.with_suffix(self.world_suffix).write_text("".join(f"{value!r}\n" for value in middle))
        if self.carrier in ("world+prj", "world+esri"):
            esri = pyproj.CRS(self.crs).to_wkt("WKT1_ESRI") if self.carrier == "world+esri" else wkt
            path.with_suffix(".prj").write_text(esri)

    def control_points(self, height: int, width: int) -> list[GroundControlPoint]:
        """Where the four corners and the middle of a raster lie."""
        a, b, c, d, e, f = self.transform
        places = [(0, 0), (0, width), (height, width), (height, 0), (height / 2, width / 2)]
        return [GroundControlPoint(row, col, a * col + b * row + c, d * col + e * row + f) for row, col in places]

    def geotiff_tags(self) -> list[tuple[Any, ...]]:
        """Tags of a GeoTIFF for tifffile: scale, tie point and keys; for pixels that are areas, or points."""
        if not self.carrier.startswith("geokeys"):
            return []
        size, _, x, _, _, y = self.transform
        point = self.carrier == "geokeys_point"
        tie = (0.0, 0.0, 0.0, x + size / 2 * point, y - size / 2 * point, 0.0)
        code = int(str(self.crs)[5:])
        kind, key = (2, 2048) if pyproj.CRS(self.crs).is_geographic else (1, 3072)
        keys = (1, 1, 0, 3, 1024, 0, 1, kind, 1025, 0, 1, 1 + point, key, 0, 1, code)
        return [
            (33550, "d", 3, (size, size, 0.0), True),
            (33922, "d", 6, tie, True),
            (34735, "H", len(keys), keys, True),
        ]


@st.composite
def places(draw: st.DrawFn, container: str, writer: str, *, odd: bool) -> Place | None:
    """A place for a file of a format ("tif", "png", "jpg"), told in its tags or, where ``odd``, beside it."""
    tags = writer in ("rasterio.tif", "tifffile.tif")
    if not (tags or odd) or draw(st.integers(0, 2)) == 0:
        return None
    crs, (x, y), size = draw(st.sampled_from(GRIDS))
    column, row = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    carriers = ["aux", "world", "world+prj", "world+esri", "world+aux"] if odd else []
    if writer == "tifffile.tif":
        carriers += ["geokeys", "geokeys_point"]
    elif writer == "rasterio.tif":
        carriers += ["gcps"] if odd else ["tags"]
    carrier = draw(st.sampled_from(carriers))
    kind = draw(st.sampled_from(["north", "north", "south", "turned"])) if odd else "north"
    kind = "north" if carrier.startswith("geokeys") else kind
    x, y = x + column * size, y - row * size
    transform = {
        "north": (size, 0.0, x, 0.0, -size, y),
        "south": (size, 0.0, x, 0.0, size, y),
        "turned": (0.75 * size, 0.5 * size, x, 0.5 * size, -0.75 * size, y),
    }[kind]
    return Place(None if carrier == "world" else crs, transform, carrier, draw(st.sampled_from(WORLD[container])))


def same_crs(found: CRS | None, wanted: str | None) -> bool:
    """Whether a raster names the drawn crs, by whatever name."""
    if found is None or wanted is None:
        return found is None and wanted is None
    return found == CRS.from_string(wanted) or found.to_epsg() == int(wanted[5:])


def same_transform(found: Six, wanted: Six) -> bool:
    """Whether two grids are less than a thousandth of a px apart over a hundred px."""
    size = max(abs(wanted[0]), abs(wanted[1]))
    steps = all(abs(found[i] - wanted[i]) < 1e-5 * size for i in (0, 1, 3, 4))
    return steps and all(abs(found[i] - wanted[i]) < 1e-3 * size + 1e-9 * abs(wanted[i]) for i in (2, 5))
