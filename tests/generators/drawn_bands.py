"""Drawn deliveries of images of any bands, imported as ``weakseg data import`` does, and compared band by band."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from tests.generators.outcomes import Outcome, crash, refusal

from weakseg.core.bands import DTYPES, load_bands
from weakseg.core.errors import WeaksegError
from weakseg.data.importing.dataset import import_dataset
from weakseg.raster.band_names import parse_choice
from weakseg.raster.open import read_bands

POOL = ("red", "green", "blue", "nir", "red_edge", "swir1", "height")
ODDITIES = ("one bare", "one lacks", "alpha", "one depth", "no word", "numbers")
HEIGHT, WIDTH = 6, 5
PLACE = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)


@dataclass(frozen=True)
class BandFile:
    """One image: its bands by name in the order of the file, whether their names are in it, and its depth."""

    names: tuple[str, ...]
    described: bool
    dtype: str
    alpha: str  # none, mask (0 and 255), grey
    seed: int

    @property
    def layers(self) -> npt.NDArray[Any]:
        """(bands, H, W); a band has the same values wherever it lies in the file."""
        count = len(self.names) + (self.alpha != "none")
        found = np.empty((count, HEIGHT, WIDTH), self.dtype)
        for index, name in enumerate(self.names):
            found[index] = self.layer(name)
        if self.alpha != "none":
            values = [0, 255] if self.alpha == "mask" else [0, 128, 255]
            found[-1] = np.random.default_rng(self.seed).choice(values, (HEIGHT, WIDTH))
        return found

    def layer(self, name: str) -> npt.NDArray[Any]:
        """(H, W) of one band."""
        drawn = np.random.default_rng([self.seed, POOL.index(name)]).integers(1, 250, (HEIGHT, WIDTH))
        return drawn.astype(self.dtype)

    def write(self, path: Path) -> None:
        """A GeoTIFF; its extra band is flagged as alpha."""
        layers = self.layers
        layout = {
            "count": len(layers),
            "height": HEIGHT,
            "width": WIDTH,
            "dtype": self.dtype,
            "photometric": "minisblack",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:25832", transform=PLACE, **layout) as file:
            if self.alpha != "none":
                file.colorinterp = [*[ColorInterp.undefined] * len(self.names), ColorInterp.alpha]
            file.write(layers)
            if self.described:
                file.descriptions = [*self.names, *([None] if self.alpha != "none" else [])]


@dataclass(frozen=True)
class BandCase:
    """A delivery; ``said`` is what --bands says."""

    files: tuple[BandFile, ...]
    said: str | None
    odd: frozenset[str]

    @property
    def plain(self) -> bool:
        """Whether it has to be taken."""
        return not self.odd

    @property
    def traits(self) -> tuple[str, ...]:
        """What the case is counted under."""
        first = self.files[0]
        return (
            f"odd: {', '.join(sorted(self.odd)) or 'nothing'}",
            f"bands: {len(first.names)}",
            f"dtype: {first.dtype}",
            f"names: {'of the user' if self.said else 'of the files' if first.described else 'none'}",
        )


@st.composite
def band_cases(draw: st.DrawFn) -> BandCase:
    """One to three images; half of the cases plainly valid."""
    odd = draw(st.sampled_from([frozenset[str]()] * 6 + [frozenset([one]) for one in ODDITIES]))
    names = draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=6, unique=True).filter(lambda n: n != ["height"]))
    if odd & {"one bare", "no word", "numbers"}:
        names = draw(st.permutations(["red", "green", "blue", "nir"]))[: draw(st.integers(3, 4))]
    dtype = draw(st.sampled_from(("uint8",) if odd & {"alpha", "one bare", "no word"} else DTYPES))
    count = draw(st.integers(2 if odd & {"one bare", "one lacks", "one depth"} else 1, 3))
    by_user = not odd and draw(st.booleans())
    files = []
    for number in range(count):
        mine = list(names) if by_user or odd & {"no word", "numbers"} else draw(st.permutations(names))
        kind, described = dtype, not by_user
        if number == count - 1:
            described &= not odd & {"one bare"}
            mine = mine[:-1] if "one lacks" in odd and len(mine) > 1 else mine
            kind = draw(st.sampled_from(DTYPES)) if "one depth" in odd else dtype
        described &= not odd & {"no word", "numbers"}
        alpha = draw(st.sampled_from(("mask", "grey"))) if "alpha" in odd else "none"
        files.append(BandFile(tuple(mine), bool(described), kind, alpha, draw(st.integers(0, 9))))
    said = ",".join(names) if by_user else None
    if "numbers" in odd:
        said = ",".join(f"{name}={number}" for number, name in enumerate(names, 1))
    return BandCase(tuple(files), said, odd)


def check_bands(case: BandCase) -> Outcome:
    """Write the images and their masks, import them, and compare every band with what was drawn."""
    with tempfile.TemporaryDirectory(prefix="drawn-") as name:
        folder = Path(name)
        for number, file in enumerate(case.files):
            file.write(folder / "images" / f"area{number}.tif")
            mask = BandFile(("red",), False, "uint8", "none", 0)
            path = folder / "labels" / f"area{number}.tif"
            path.parent.mkdir(exist_ok=True)
            layout = {"count": 1, "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "crs": "EPSG:25832"}
            with rasterio.open(path, "w", driver="GTiff", transform=PLACE, **layout) as out:
                out.write(mask.layers % 2)
        try:
            choice = parse_choice(case.said)
            import_dataset(folder / "images", [folder / "labels"], folder / "data", bands=choice, progress=False)
        except WeaksegError as error:
            return refusal(error)
        except Exception as error:  # whatever it is, it is no sentence
            return crash(error)
        different = difference(case, folder / "data")
    return Outcome("silent", different) if different else Outcome("equal")


def difference(case: BandCase, data: Path) -> str:
    """What differs between data/ and what was drawn; empty where nothing does."""
    bands = load_bands(data)
    unnamed = bands.names == ("band_1", "band_2", "band_3")
    wanted = case.files[0].names[:3] if unnamed else tuple(dict.fromkeys(n for f in case.files for n in f.names))
    if unnamed and (len({file.names[:3] for file in case.files}) > 1 or any(file.described for file in case.files)):
        return "bands of several orders, or with names, without a name"
    if not unnamed and set(bands.names) != set(wanted):
        return f"bands {bands.names}, not {wanted}"
    for number, file in enumerate(case.files):
        area = f"area{number}"
        image = read_bands(data / "images" / f"{area}.tif", bands)
        for index, name in enumerate(wanted if unnamed else bands.names):
            if name not in file.names:
                if name not in bands.missing.get(area, ()):
                    return f"{area} lacks {name}, of which bands.yaml says nothing"
                continue
            if not np.array_equal(image[..., index].astype(np.float64), file.layer(name).astype(np.float64)):
                return f"{area}: band {name} is not what was drawn"
    return ""
