"""Predict a land-cover map with the model beside this file; needs numpy, onnxruntime and rasterio, nothing else.

python predict.py IN OUT.tif [--bands 4,1,2] [--stretch LOW,HIGH] [--gsd auto] [--window 512] [--overlap 0.25]

IN is a raster of a format in DRIVERS; OUT is a GeoTIFF of class indices on the same grid, 255 where IN has no data.
IN is read window by window and OUT written row by row: memory grows with the width of the raster, not with its height.
"""

# weakseg copies this file into exported bundles as predict.py; it must not import weakseg.
import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_gcps
from rasterio.warp import transform as project
from rasterio.windows import Window

HERE = Path(__file__).resolve().parent
BLOCK = 256  # px, side of the tiles of the map
LIMIT = 1_500_000_000  # bytes of sums under way
DRIVERS = ["GTiff", "PNG", "JPEG", "JP2OpenJPEG", "MBTiles", "GPKG", "ENVI", "EHdr", "VRT"]
KNOWN = ["red", "green", "blue", "nir", "coastal", "red_edge", "red_edge1", "red_edge2", "red_edge3", "nir_narrow"]
KNOWN += ["water_vapour", "swir1", "swir2", "pan", "thermal", "height", "ndsm", "dsm", "dtm"]  # as descriptions say
SAME = 0.05  # share by which two ground sampling distances may differ and count as the same

Places = tuple[int, int, int, int]
"""Rows [top, bottom) and columns [left, right)."""


class Axis:
    """One axis of ``size_in`` px resampled to ``size_out``: the mean where it shrinks, linear where it grows.

    Output px i is the sum over t of weights[i, t] times input px starts[i] + t, and needs none from ends[i] on.
    """

    def __init__(self, size_in: int, size_out: int) -> None:
        self.size, self.same = size_out, size_in == size_out
        places = np.arange(size_out)
        if size_out < size_in:
            edges = np.minimum(np.arange(size_out + 1) * (size_in / size_out), size_in)
            low, high = edges[:-1], edges[1:]
            self.starts = np.floor(low + 1e-6).astype(int)
            self.ends = np.maximum(self.starts + 1, np.ceil(high - 1e-6).astype(int))
            taps = self.starts[:, None] + np.arange((self.ends - self.starts).max())
            covered = np.minimum(high[:, None], taps + 1) - np.maximum(low[:, None], taps)
            covered = np.where(taps < self.ends[:, None], covered, 0)
            self.weights = (covered / covered.sum(1, keepdims=True)).astype(np.float32)
        else:
            centres = np.clip((places + 0.5) * size_in / size_out - 0.5, 0, size_in - 1)
            self.starts = places if self.same else np.minimum(np.floor(centres).astype(int), max(0, size_in - 2))
            self.ends = self.starts + (1 if self.same else min(2, size_in))
            share = centres - self.starts
            self.weights = np.stack([1 - share, share], axis=1).astype(np.float32)

    def needs(self, first: int, last: int) -> tuple[int, int]:
        """The input px [from, to) of the output px [first, last)."""
        return int(self.starts[first]), int(self.ends[last - 1])

    def apply(self, values: np.ndarray, axis: int, first: int, last: int) -> np.ndarray:
        """Output px [first, last) of ``values``, which hold exactly the px along ``axis`` that these need."""
        if self.same:
            return values
        moved = np.moveaxis(values, axis, 0)
        begin, end = self.starts[first:last] - self.starts[first], self.ends[first:last] - self.starts[first]
        shape = (-1, *[1] * (moved.ndim - 1))
        mixed = np.zeros((last - first, *moved.shape[1:]), np.float32)
        for tap in range(self.weights.shape[1]):
            mixed += self.weights[first:last, tap].reshape(shape) * moved[np.minimum(begin + tap, end - 1)]
        return np.moveaxis(mixed, 0, axis)


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Evenly spread starts of windows that cover ``length`` px with at least ``overlap`` in common."""
    if length <= size:
        return [0]
    stride = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [int(start) for start in np.linspace(0, length - size, count).round()]


def blend_weights(height: int, width: int) -> np.ndarray:
    """A pyramid that falls linearly to the rim: where windows overlap they cross-fade."""
    rows = 1 - np.abs(2 * np.arange(height, dtype=np.float32) + 1 - height) / (height + 1)
    columns = 1 - np.abs(2 * np.arange(width, dtype=np.float32) + 1 - width) / (width + 1)
    return np.minimum(rows[:, None], columns[None, :]).astype(np.float32)


class Raster:
    """The bands of an open raster and where they hold data; of a palette, the bands of its colours.

    ``wanted`` are the model's bands as preprocessing.json has them, [] for three of 8 bits; 0 among ``bands`` is one
    that the raster lacks.
    """

    def __init__(self, file: Any, bands: list[int], stretch: list[float], wanted: list[dict[str, Any]]) -> None:
        self.file, self.bands, self.stretch, self.wanted = file, bands, stretch, wanted
        self.palette = palette_of(file)
        colours = [
            number for number, band in zip(bands, wanted, strict=False) if number and "colour" in band["augment"]
        ]
        self.marked = colours or [number for number in bands if number]

    def pixels(self, place: Places) -> np.ndarray:
        """float32 (rows, columns, 3), 0 to 255; of other bands (rows, columns, K), holes filled with the mean."""
        if self.wanted:
            layers = [self._layer(number, band, place) for number, band in zip(self.bands, self.wanted, strict=True)]
            return np.stack(layers, axis=-1)
        if self.palette is None:
            values = np.asarray(np.moveaxis(self._read(self.bands, place), 0, -1), np.float32)
        else:
            values = self._entries(place)[..., [band - 1 for band in self.bands]].astype(np.float32)
        if not self.stretch:
            return values
        low, high = self.stretch
        scaled = np.nan_to_num((values - low) * np.float32(255 / (high - low)), nan=0)
        return np.asarray(np.rint(np.clip(scaled, 0, 255)), np.float32)

    def valid(self, place: Places) -> np.ndarray:
        """bool (rows, columns): data in at least one of the bands, a number in all of them, no transparent colour."""
        if self.palette is not None:
            kept = self.file.read_masks(1, window=_box(place)) != 0
            return np.asarray(kept & (self._entries(place)[..., 3] != 0))
        found = np.asarray((self.file.read_masks(self.marked, window=_box(place)) != 0).any(axis=0))
        if any(self.file.dtypes[band - 1].startswith("float") for band in self.marked):
            found &= np.isfinite(self._read(self.marked, place)).all(axis=0)
        return found

    def round(self, image: np.ndarray) -> np.ndarray:
        """Mixed pixels as the raster could have had them."""
        if not self.wanted:
            return np.asarray(np.clip(np.rint(image), 0, 255))
        return image if self._floats() else np.asarray(np.rint(image))

    def _floats(self) -> bool:
        return len({band["dtype"] for band in self.wanted}) > 1 or self.wanted[0]["dtype"] == "float32"

    def _layer(self, number: int, band: dict[str, Any], place: Places) -> np.ndarray:
        mean = band["statistics"]["mean"]
        mean = mean if self._floats() else round(mean)
        if not number:
            return np.full((place[1] - place[0], place[3] - place[2]), mean, np.float32)
        values = np.asarray(self._read(number, place), np.float32)
        holes = np.isnan(values) if band["nodata"] is None else np.isnan(values) | (values == band["nodata"])
        return np.where(holes, np.float32(mean), values)

    def _read(self, bands: int | list[int], place: Places) -> np.ndarray:
        return np.asarray(self.file.read(bands, window=_box(place)))

    def _entries(self, place: Places) -> np.ndarray:
        """Red, green, blue and alpha of every px of a palette raster."""
        indices = self._read(1, place)
        if self.palette is None or indices.max() >= len(self.palette):
            sys.exit(f"{self.file.name}: palette index {indices.max()} is not in its colour table: export it again")
        return np.asarray(self.palette[indices])


def palette_of(file: Any) -> np.ndarray | None:
    """The colour table uint8 (N, 4) of a raster of one band (or one and alpha), None where it has none."""
    if file.count != 1 and not (file.count == 2 and file.colorinterp[1] == ColorInterp.alpha):
        return None
    try:
        table = file.colormap(1)
    except ValueError:
        return None
    return np.array([table.get(index, (0, 0, 0, 0)) for index in range(max(table) + 1)], np.uint8)


def _box(place: Places) -> Window:
    top, bottom, left, right = place
    return Window(left, top, right - left, bottom - top)


def open_network(threads: int) -> Callable[[list[np.ndarray]], np.ndarray]:
    """A function from float32 (h, w, 3) images of one size, 0 to 255, to probabilities (images, classes, h, w)."""
    settings = json.loads((HERE / "preprocessing.json").read_text())
    mean, std = (np.array(settings[key], np.float32) * np.float32(255) for key in ("mean", "std"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(HERE / "model.onnx", options, providers=["CPUExecutionProvider"])

    def run(images: list[np.ndarray]) -> np.ndarray:
        pixels = ((np.stack(images) - mean) / std).transpose(0, 3, 1, 2)
        return np.asarray(session.run(None, {"image": np.ascontiguousarray(pixels)})[0])

    return run


def predict(
    raster: Raster,
    network: Callable[[list[np.ndarray]], np.ndarray],
    classes: int,
    *,
    scale: float,
    window: int,
    overlap: float,
    batch: int,
) -> Iterator[np.ndarray]:
    """Rows of class indices uint8 (n, W) from top to bottom; ``scale`` is network px per raster px."""
    height, width = raster.file.height, raster.file.width
    rows, columns = (max(1, round(length * scale)) for length in (height, width))
    to_rows, to_columns = Axis(height, rows), Axis(width, columns)
    back_rows, back_columns = Axis(rows, height), Axis(columns, width)
    starts = window_starts(rows, window, overlap)
    weights = blend_weights(min(window, rows), min(window, columns))
    high, wide = weights.shape
    held = high + back_rows.weights.shape[1]  # a few rows above the windows may be needed again
    if 4 * (classes + 1) * held * columns > LIMIT:
        sys.exit(f"{held} rows of {columns} px and {classes} classes do not fit into 1.5 GB: take a smaller --window")
    sums = np.zeros((classes + 1, held, columns), np.float32)  # the last layer is the sum of the weights
    low, done = 0, 0  # the first network row in ``sums``, the raster rows that have left
    for start, end in zip(starts, [*starts[1:], rows], strict=True):
        group: list[tuple[int, np.ndarray]] = []
        lefts = window_starts(columns, window, overlap)
        for left in lefts:
            place = (*to_rows.needs(start, start + high), *to_columns.needs(left, left + wide))
            if raster.valid(place).any():
                image = to_rows.apply(raster.pixels(place), 0, start, start + high)
                group.append((left, raster.round(to_columns.apply(image, 1, left, left + wide))))
            if group and (len(group) == batch or left == lefts[-1]):
                for maps, (at, _) in zip(network([image for _, image in group]), group, strict=True):
                    place_in = sums[:, start - low : start - low + high, at : at + wide]
                    place_in[:-1] += maps * weights
                    place_in[-1] += weights
                group = []
        ready = int(np.searchsorted(back_rows.ends, end, side="right"))
        if ready > done:
            yield _classes_of(sums, low, back_rows, back_columns, (done, ready))
        keep = int(back_rows.starts[ready]) if ready < height else end
        for layer in sums:  # one by one: numpy copies what it moves within an array
            layer[: held - (keep - low)] = layer[keep - low :]
            layer[held - (keep - low) :] = 0
        low, done = keep, ready


def _classes_of(sums: np.ndarray, low: int, rows: Axis, columns: Axis, which: tuple[int, int]) -> np.ndarray:
    """Class indices uint8 (n, W) of some rows of the raster, from the sums of network rows from ``low`` on."""
    top, bottom = rows.needs(*which)
    found = np.zeros((which[1] - which[0], columns.size), np.uint8)
    for left in range(0, columns.size, 1024):  # a strip at a time bounds the copies
        right = min(left + 1024, columns.size)
        first, last = columns.needs(left, right)
        part = sums[:, top - low : bottom - low, first:last]
        maps = part[:-1] / np.maximum(part[-1], np.finfo(np.float32).tiny)
        found[:, left:right] = columns.apply(rows.apply(maps, 1, *which), 2, left, right).argmax(0)
    return found


def crs_of(file: Any) -> Any:
    """The CRS of the file or its sidecars, else that of a .prj beside a raster with a world file."""
    beside = Path(file.name).with_suffix(".prj")
    if file.crs or file.transform.is_identity or not beside.is_file():
        return file.crs
    return CRS.from_wkt(beside.read_text(), morph_from_esri_dialect=True)


def ground_distance(file: Any) -> float | None:
    """True metres per px at the centre, the root of the area of a px; None where the file does not tell."""
    points, crs = file.gcps
    transform = from_gcps(points) if len(points) > 2 else file.transform
    crs = crs if points else crs_of(file)
    if crs is None or transform.is_identity:
        return None
    row, column, reach = file.height / 2, file.width / 2, min(50.0, max(file.height, file.width) / 2)
    ends = [(column - reach, row), (column + reach, row), (column, row - reach), (column, row + reach)]
    try:
        (longitude,), (latitude,) = project(crs, "EPSG:4326", *([value] for value in transform @ (column, row)))
        local = CRS.from_string(f"+proj=laea +lat_0={latitude:.9f} +lon_0={longitude:.9f} +datum=WGS84 +units=m")
        places = np.array(project(crs, local, *zip(*(transform @ end for end in ends), strict=True)))
    except Exception:  # PROJ's refusals have no public class in rasterio
        return None
    area = abs(np.linalg.det((places[:, 1::2] - places[:, ::2]) / (2 * reach)))
    return math.sqrt(area) if math.isfinite(area) and area > 0 else None


def choose_scale(file: Any, policy: str) -> float:
    """Network px per raster px, from the ground sampling distances of the training rasters and of this one."""
    settings = json.loads((HERE / "preprocessing.json").read_text())
    scale, trained = float(settings["scale"]), settings["gsd"]
    here = ground_distance(file)
    if policy == "ignore" or (policy == "auto" and (trained is None or here is None)):
        return scale
    if trained is None or here is None:
        who = "the model" if trained is None else file.name
        sys.exit(f"{who} has no ground sampling distance in metres: reproject with gdalwarp, or pass --gsd ignore")
    if abs(here / trained - 1) <= SAME:
        return scale
    if policy == "refuse":
        sys.exit(f"{file.name} has {here:.4g} m per px, the training {trained:.4g} m: pass --gsd resample or ignore")
    return float(scale * here / trained)


def described_bands(file: Any, names: list[str]) -> list[int]:
    """The numbers of bands of these names by the file's descriptions, 0 for one that it lacks; [] where it has none.

    A file whose fourth band is flagged as alpha has no band for a fourth name.
    """
    said = ["_".join((text or "").lower().replace("-", " ").split()) for text in file.descriptions]
    if any(text in KNOWN or text in names for text in said):
        return [said.index(name) + 1 if name in said else 0 for name in names]
    flagged = [band for band in file.indexes if file.colorinterp[band - 1] == ColorInterp.alpha]
    if flagged and file.count == len(names):
        sys.exit(
            f"{file.name}: band {flagged[0]} is alpha by its flag: --bands takes the numbers of {', '.join(names)}"
        )
    return []


def check_bands(file: Any, bands: list[int], wanted: list[dict[str, Any]]) -> list[int]:
    """The bands to read of other models than of three bands of 8 bits, 0 for one that the raster lacks."""
    names = [band["name"] for band in wanted]
    chosen = bands or described_bands(file, names)
    chosen = chosen or (list(range(1, len(wanted) + 1)) if file.count == len(wanted) else [])
    if len(chosen) != len(wanted) or not 0 <= min(chosen) <= max(chosen) <= file.count:
        sys.exit(f"{file.name} has {file.count} band(s): --bands takes the numbers of {', '.join(names)}, 0 for none")
    for number, band in zip(chosen, wanted, strict=True):
        if not number and "drop" not in band["augment"]:
            sys.exit(f"{file.name} has no {band['name']}, without which the model has not been trained")
        if number and file.dtypes[number - 1] != band["dtype"]:
            sys.exit(f"{file.name}, band {number} ({band['name']}) is {file.dtypes[number - 1]}, not {band['dtype']}")
    return chosen


def check_raster(file: Any, bands: list[int], stretch: list[float], wanted: list[dict[str, Any]]) -> list[int]:
    """The bands to read: three, or those of ``check_bands``."""
    names = [band["name"] for band in model_bands()]
    by_name = [] if bands or wanted or not set(names) <= set(KNOWN) else described_bands(file, names)
    if not all(by_name):
        sys.exit(f"{file.name} has no bands {', '.join(names)} by its descriptions: name them with --bands")
    bands = bands or by_name
    chosen = bands or [1, 2, 3]
    if (turn := file.tags().get("EXIF_Orientation", "1")) not in ("0", "1"):  # GDAL tells that of JPEGs
        sys.exit(f"{file.name} is to be turned (EXIF orientation {turn}): turn it first (magick IN -auto-orient OUT)")
    if wanted:
        return check_bands(file, bands, wanted)
    if palette_of(file) is not None:
        if sorted(chosen) != [1, 2, 3]:
            sys.exit(f"{file.name} is a palette raster: --bands takes its red, green and blue, 1, 2 and 3 in any order")
        return chosen
    if len(chosen) != 3 or (file.count != 3 and not bands) or not 1 <= min(chosen) <= max(chosen) <= file.count:
        sys.exit(f"{file.name} has {file.count} band(s): choose three with --bands, for instance --bands 4,1,2")
    kinds = {file.dtypes[band - 1] for band in chosen}
    if kinds != {"uint8"} and not stretch:
        sys.exit(f"{file.name} is {', '.join(sorted(kinds))}: pass --stretch LOW,HIGH, the values of black and white")
    if stretch and not (len(stretch) == 2 and stretch[0] < stretch[1]):
        sys.exit("--stretch takes two rising numbers, for instance --stretch 0,2047")
    return chosen


def model_bands() -> list[dict[str, Any]]:
    """What the model knows of its bands; [] for three without names."""
    return list(json.loads((HERE / "preprocessing.json").read_text()).get("bands", {}).get("bands", []))


def wanted_bands() -> list[dict[str, Any]]:
    """The model's bands, [] for three of 8 bits."""
    bands = model_bands()
    plain = len(bands) == 3 and all(band["dtype"] == "uint8" and "colour" in band["augment"] for band in bands)
    return [] if plain else list(bands)


def layout_of(file: Any) -> dict[str, Any]:
    """The map's grid and format."""
    layout = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": file.height, "width": file.width}
    layout |= {"nodata": 255, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    points, points_crs = file.gcps
    if points:
        return layout | {"BIGTIFF": "IF_SAFER", "gcps": points, "crs": points_crs}
    place = {"rpcs": file.rpcs} if file.rpcs else {}
    place = place if file.transform.is_identity else {"transform": file.transform}
    return layout | {"BIGTIFF": "IF_SAFER", "crs": crs_of(file)} | place


def write_map(target: Path, raster: Raster, found: Iterator[np.ndarray], table: dict[str, Any]) -> np.ndarray:
    """Write the map, whole or not at all; returns how many px have each value."""
    file, counts = raster.file, np.zeros(256, np.int64)
    half = target.with_name(f".{target.stem}.half.tif")
    try:
        with rasterio.open(half, "w", **layout_of(file)) as out:
            row, waiting = 0, np.zeros((0, file.width), np.uint8)
            for rows in found:
                waiting = np.concatenate([waiting, rows])
                last = row + len(waiting) == file.height
                ready = len(waiting) if last else len(waiting) // BLOCK * BLOCK
                for at in range(0, ready, BLOCK):
                    band = waiting[at : min(at + BLOCK, ready)].copy()
                    band[~raster.valid((row + at, row + at + len(band), 0, file.width))] = 255
                    out.write(band, 1, window=Window(0, row + at, file.width, len(band)))
                    counts += np.bincount(band.ravel(), minlength=256)
                row, waiting = row + ready, waiting[ready:]
                if sys.stderr.isatty():
                    print(f"\r{row} of {file.height} rows", end="\n" if last else "", file=sys.stderr)
            known = [*enumerate(table["classes"]), *((255, kind) for kind in table["ignored"][:1])]
            out.write_colormap(1, {value: (*kind["colour"], 255) for value, kind in known})
            out.update_tags(**{f"CLASS_{index}": kind["name"] for index, kind in enumerate(table["classes"])})
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return counts


def numbers(text: str) -> list[float]:
    """Numbers with commas between."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Read, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT", type=Path)
    parser.add_argument("--bands", type=numbers, default=[], help="numbers from 1, in the order of the training images")
    parser.add_argument("--stretch", type=numbers, default=[], help="values of black and white, for 16 bits or floats")
    policies = ("auto", "resample", "refuse", "ignore")
    parser.add_argument("--gsd", choices=policies, default="auto", help="at another ground sampling distance")
    parser.add_argument("--window", type=int, default=512, help="side of the windows, px")
    parser.add_argument("--overlap", type=float, default=0.25, help="of neighbouring windows, as a share")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    options = parser.parse_args()
    if options.window < 1 or not 0 <= options.overlap < 1 or options.batch < 1:
        sys.exit("--window and --batch take 1 or more, --overlap 0 to below 1")
    warnings.simplefilter("ignore")  # rasters without a place on Earth are welcome
    table, place = json.loads((HERE / "classes.json").read_text()), Path(options.source)
    with (
        rasterio.Env(GDAL_CACHEMAX=128 << 20, GDAL_ERROR_ON_LIBJPEG_WARNING=True),
        rasterio.open(place.absolute() if place.exists() else options.source) as file,  # a file "a!b.tif" is a file
    ):
        if options.target.resolve() == Path(options.source).resolve() or options.target.suffix not in (".tif", ".tiff"):
            sys.exit(f"{options.target}: OUT is a name that ends in .tif, and not IN")
        if file.driver not in DRIVERS:
            sys.exit(
                f"{file.name} is a raster of GDAL's driver {file.driver}: write it as a GeoTIFF with gdal_translate"
            )
        wanted = wanted_bands()
        chosen = check_raster(file, [int(b) for b in options.bands], options.stretch, wanted)
        raster = Raster(file, chosen, options.stretch, wanted)
        cut = {name: getattr(options, name) for name in ("window", "overlap", "batch")}
        scale = choose_scale(file, options.gsd)
        found = predict(raster, open_network(options.threads), len(table["classes"]), scale=scale, **cut)
        counts = write_map(options.target, raster, found, table)
    for index, kind in enumerate(table["classes"]):
        print(f"{index} {kind['name']}: {counts[index] / max(1, counts[:255].sum()):.1%}")


if __name__ == "__main__":
    try:
        main()
    except rasterio.errors.RasterioError as error:
        sys.exit(f"cannot read or write ({error.__cause__ or error}): check both files and the room on disk")
