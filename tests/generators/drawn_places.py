"""Drawn places on Earth, and every way in which a file tells its own: in its tags, .aux.xml, world files, .prj."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

from hypothesis import strategies as st
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
        carrier: tags (of a GeoTIFF), aux (NAME.SUFFIX.aux.xml), world, world+prj, world+aux.
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
        if self.carrier == "world+prj":
            path.with_suffix(".prj").write_text(wkt)


@st.composite
def places(draw: st.DrawFn, container: str, *, tags: bool, odd: bool) -> Place | None:
    """A place for a file of a format ("tif", "png", "jpg"), told in the tags of a GeoTIFF or, where ``odd``, beside it.

    ``tags``: the writer knows the tags of GeoTIFF.
    """
    if not (tags or odd) or draw(st.integers(0, 2)) == 0:
        return None
    crs, (x, y), size = draw(st.sampled_from(GRIDS))
    column, row = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    kind = draw(st.sampled_from(["north", "north", "south", "turned"])) if odd else "north"
    x, y = x + column * size, y - row * size
    transform = {
        "north": (size, 0.0, x, 0.0, -size, y),
        "south": (size, 0.0, x, 0.0, size, y),
        "turned": (0.75 * size, 0.5 * size, x, 0.5 * size, -0.75 * size, y),
    }[kind]
    carriers = ["aux", "world", "world+prj", "world+aux"]
    carrier = draw(st.sampled_from(carriers)) if odd else "tags"
    if carrier == "world":
        return Place(None, transform, carrier, draw(st.sampled_from(WORLD[container])))
    return Place(crs, transform, carrier, draw(st.sampled_from(WORLD[container])))


def same_crs(found: CRS | None, wanted: str | None) -> bool:
    """Whether a raster names the drawn crs."""
    return (found is None) if wanted is None else found is not None and found == CRS.from_string(wanted)


def same_transform(found: Six, wanted: Six) -> bool:
    """Whether two grids are less than a thousandth of a px apart over a hundred px."""
    size = max(abs(wanted[0]), abs(wanted[1]))
    steps = all(abs(found[i] - wanted[i]) < 1e-5 * size for i in (0, 1, 3, 4))
    return steps and all(abs(found[i] - wanted[i]) < 1e-3 * size + 1e-9 * abs(wanted[i]) for i in (2, 5))
