"""Rasters too large for memory: pixels window by window, results band of rows by band of rows.

What is opened is what an import takes too: the formats of ``formats.DRIVERS``, known by their bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import COLOURS, PLAIN, Bands
from weakseg.core.errors import DataError, ParamsError
from weakseg.raster.band_names import KNOWN, BandChoice, bands_for, facts_of
from weakseg.raster.band_values import check_as_stored
from weakseg.raster.formats import check_png_rows, gdal_sentences, raster_driver, reason_of, unreadable
from weakseg.raster.georeference import distance_of, place_of
from weakseg.raster.header import RasterInfo
from weakseg.raster.heights import BESIDE, HeightFiles, window_heights
from weakseg.raster.open import Window
from weakseg.raster.orientation import ambiguous_place, orientation_of, seen_shape, stored_window, turn
from weakseg.raster.palette import Palette, colour_order, read_palette

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Pixels = npt.NDArray[Any]  # uint8 of maps and of three bands; other images have the dtype of their bands
IN_MEMORY: Final = Path("/vsimem")  # GDAL's name for files in memory; those here come from ``uploads``
UPLOAD_DRIVERS: Final[Mapping[str, str]] = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}
MAP_TAGS: Final = ("WEAKSEG_IDENTITY", "CLASS_0")  # metadata of maps that were predicted here; one says all of them
BLOCK: Final = 256  # px, side of the tiles of what is written; a row band is one row of tiles
_CACHE: Final = 128 << 20  # bytes, as rasterio takes them; GDAL's own default is 5 % of the machine's memory


@dataclass(frozen=True)
class Source:
    """A raster to predict, as far as its header tells.

    Attributes:
        bands: those that are read, from 1; of a palette raster, of the red, green and blue of its colours; 0 for one
            that the raster lacks.
        masked: some pixels may be invalid: nodata value, mask, alpha band, transparent colour, NaN or infinity.
        gsd: true metres per px on the ground at the raster's centre, None where the file names no CRS or transform.
        palette: its pixels are indices into a colour table.
        orientation: the EXIF orientation by which pixels are turned as they are read; height and width are those of
            the turned raster.
        stretch: pixel values that become 0 and 255, None where pixels are uint8 and stay as they are.
        profile: crs, transform and ground control points, as rasterio takes them.
        tags: metadata of the file.
        wanted: the bands of the model.
        heights: rasters beside it that hold the heights among them.
    """

    path: Path
    height: int
    width: int
    bands: tuple[int, ...]
    masked: bool
    gsd: float | None
    profile: Mapping[str, Any]
    tags: Mapping[str, str]
    stretch: tuple[float, float] | None = None
    palette: bool = False
    orientation: int = 1
    wanted: Bands = PLAIN
    heights: HeightFiles | None = None

    @property
    def colours(self) -> list[int]:
        """The bands, from 1, that say where it has data: all but heights, where it has others."""
        if self.wanted.plain:
            return list(self.bands)
        chosen = zip(self.bands, self.wanted.members, strict=True)
        present = [(number, band.colour) for number, band in chosen if number]
        return [number for number, colour in present if colour] or [number for number, _ in present]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Names of the model's bands that neither the raster nor one beside it has."""
        names = zip(self.bands, self.wanted.names, strict=True) if not self.wanted.plain else ()
        return tuple(name for number, name in names if not (number or (self.heights and name == BESIDE)))

    def info(self, window: Window) -> RasterInfo:
        """Size and place of a window (row, column, height, width) of it."""
        crs, transform = self.profile.get("crs"), self.profile.get("transform")
        row, column, height, width = window
        there = transform @ type(transform).translation(column, row) if transform else None
        wkt = crs.to_wkt() if crs else None
        return RasterInfo(height, width, len(self.bands), "", wkt, tuple(there)[:6] if there else None)

    def turned(self, orientation: int) -> Source:
        """The same raster with an EXIF orientation that its file names.

        Raises:
            DataError: it has a place on Earth too.
        """
        if orientation != 1 and any(key in self.profile for key in ("transform", "gcps", "rpcs")):
            raise ambiguous_place(self.path, orientation)
        height, width = seen_shape(self.height, self.width, orientation)
        return replace(self, height=height, width=width, orientation=orientation)

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Its reader, see :func:`open_reader`."""
        with open_raster(self.path) as file:
            yield Reader(file, self)

    def state(self) -> tuple[Any, ...]:
        """What its pixels depend on: the file by its path, size and time of its last change, and how it is read."""
        file = self.path.stat() if self.path.exists() else None
        return (
            str(self.path.resolve()),
            file and file.st_size,
            file and file.st_mtime_ns,
            self.bands,
            self.stretch,
            self.masked,
            [repr(self.profile.get(key)) for key in ("crs", "transform")],  # a sidecar may come or change
            *([] if self.heights is None else [self.heights.state()]),
        )


class Reader:
    """An open raster; to be used from one thread at a time."""

    def __init__(self, file: DatasetReader, source: Source) -> None:
        self._file, self._source = file, source
        self._palette = read_palette(file, str(source.path)) if source.palette else None
        self._colours = [1] if source.palette else source.colours
        self._floating = any(file.dtypes[band - 1].startswith("float") for band in self._colours)

    def pixels(self, window: Window) -> Pixels:
        """uint8 (height, width, 3) of a window (row, column, height, width), or the bands that the model wants."""
        if not self._source.wanted.plain:
            return self._deep_pixels(window)
        layers = np.asarray(self._read(self._file.read, window))
        if self._palette is not None:
            values = self._palette.expand(layers[0])[..., [band - 1 for band in self._source.bands]]
        else:
            values = np.moveaxis(layers, 0, -1)
        return values if self._source.stretch is None else stretch_values(values, self._source.stretch)

    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """bool (height, width): None where all of the file is valid.

        Valid is what the file's masks call so in at least one of the three bands (of others: of those that are no
        heights), has a number in all of them, and no transparent colour.
        """
        if not self._source.masked:
            return None
        masks: Pixels = self._read(self._file.read_masks, window)
        found = np.asarray((masks != 0).any(axis=0), bool)
        if self._floating:  # NaN and infinity are no data with and without a nodata tag
            found &= np.isfinite(self._read(self._file.read, window)).all(axis=0)
        if self._palette is not None:
            found &= self._palette.opaque(self._read(self._file.read, window)[0])
        return found

    def _deep_pixels(self, window: Window) -> Pixels:
        """(height, width, K) in the dtype of the model's bands; holes and missing bands have the mean of N1."""
        source, wanted = self._source, self._source.wanted
        present = [index for index, number in enumerate(source.bands) if number]
        layers = np.asarray(self._read(self._file.read, window, [source.bands[index] for index in present]))
        image = np.empty((*window[2:], len(wanted)), wanted.dtype)
        for index in range(len(wanted)):
            if index in present:
                image[..., index] = layers[present.index(index)]
            elif source.heights is not None and wanted.names[index] == BESIDE:
                heights = window_heights(source.heights, window, (source.height, source.width), source.info)
                known = np.where(np.isnan(heights), np.float32(wanted.fill_value(index)), heights)
                image[..., index] = np.rint(known) if image.dtype.kind in "iu" else known
            else:
                image[..., index] = wanted.fill_value(index)
        return wanted.filled(image)

    def _read(self, method: Any, window: Window, bands: Sequence[int] | None = None) -> Any:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Box

        check_png_rows(self._source.path, self._file.driver)
        turned = self._source.orientation
        row, column, height, width = stored_window(window, self._file.height, self._file.width, turned)
        try:
            with gdal_settings():
                return turn(method(list(bands or self._colours), window=Box(column, row, width, height)), turned)
        except RasterioError as error:
            raise unreadable(self._source.path, reason_of(error), window) from error


@contextmanager
def gdal_settings(*, sidecars: bool = True) -> Iterator[None]:
    """A bounded block cache, cut-off JPEGs as errors, and no warning about rasters without a place on Earth.

    ``sidecars``: read (and, for what is written, write) ``.aux.xml`` files; a temporary name must leave none behind.
    """
    import rasterio
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)  # nodata wins over alpha, as everywhere in GDAL
        with rasterio.Env(GDAL_CACHEMAX=_CACHE, GDAL_ERROR_ON_LIBJPEG_WARNING=True, GDAL_PAM_ENABLED=sidecars):
            yield


@contextmanager
def open_reader(source: Source) -> Iterator[Reader]:
    """Open the file for reading windows."""
    with source.opened() as reader:
        yield reader


def stretch_values(values: npt.NDArray[Any], stretch: tuple[float, float]) -> Pixels:
    """Values of any real dtype -> uint8, ``stretch`` to 0..255, what lies outside cut off; NaN becomes 0."""
    low, high = stretch
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)), np.uint8)


def inspect_source(
    path: Path,
    bands: Sequence[int] | BandChoice | None,
    stretch: tuple[float, float] | None = None,
    wanted: Bands = PLAIN,
    heights: HeightFiles | None = None,
) -> Source:
    """Read the header of a raster and check that it can be predicted.

    Args:
        bands: of three bands of 8 bits: three from 1, needed where the raster has not exactly 3; of others see
            ``band_names.bands_for``.
        wanted: the bands of the model.
        heights: rasters beside it, for a model that wants heights.
        stretch: values that become 0 and 255, for rasters of other than 8 bits; the same for all bands, as the
            training images were converted.

    Raises:
        DataError: no such file, not a raster, a map of weakseg, not uint8 and no ``stretch``, not three bands and no
            ``bands``, or both an EXIF orientation and a place on Earth.
        ParamsError: a stretch whose ends are not in order.
    """
    if stretch is not None and not stretch[0] < stretch[1]:
        raise ParamsError(f"stretch {stretch[0]:g},{stretch[1]:g}", expected="LOW,HIGH with LOW < HIGH", cure="mend it")
    choice = bands if isinstance(bands, BandChoice) else BandChoice(tuple(bands or ()))
    if heights is not None and BESIDE not in wanted.names:
        raise ParamsError(f"{heights.surface}", expected="no heights: the model has none", cure="leave them out")
    with open_raster(path) as file:
        if any(tag in file.tags() for tag in MAP_TAGS):
            raise DataError(
                f"{path}: a map that weakseg predicted, or a layer of one",
                expected="an image",
                cure="name the image, and keep maps out of the folder or pattern",
            )
        if not wanted.plain:
            return _deep_source(path, file, choice, stretch, wanted, heights)
        palette = read_palette(file, str(path))
        bands = _plain_numbers(path, file, choice, wanted)
        chosen = _choose_bands(path, file, bands) if palette is None else colour_order(path, bands)
        if palette is None:
            _check_dtype(path, file, chosen, stretch)
            check_as_stored(path, file, chosen, "an image")
        masked = _may_be_invalid(file, palette, chosen)
        source = Source(
            path, file.height, file.width, chosen, masked, distance_of(file, path), place_of(file, path), file.tags(),
            stretch, palette is not None,
        )  # fmt: skip
    return source if path.is_relative_to(IN_MEMORY) else source.turned(orientation_of(path))


def _plain_numbers(path: Path, file: DatasetReader, choice: BandChoice, wanted: Bands) -> tuple[int, ...] | None:
    """Numbers of three 8-bit bands: by names or numbers of the user, else by the file's names if the model has some."""
    facts = facts_of(file, str(path), look=not (choice.names or choice.numbers))
    by_file = facts.described and not choice.numbers and set(wanted.names) <= set(KNOWN)
    if choice.names or by_file:
        return bands_for(path, facts, choice, wanted)
    if facts.described and not choice.numbers and facts.names != COLOURS and set(facts.names) == set(COLOURS):
        places = [facts.names.index(colour) + 1 for colour in COLOURS]
        raise DataError(
            f"{path}: bands {', '.join(map(str, facts.names))} {facts.said}, and those of the model have no names",
            expected="bands in the order of the training images",
            cure=f"say it: --bands {','.join(map(str, places))} for red, green, blue, --bands 1,2,3 as they lie",
        )
    return choice.numbers or ((1, 2, 3) if facts.mask else None)


def _deep_source(
    path: Path,
    file: DatasetReader,
    choice: BandChoice,
    stretch: tuple[float, float] | None,
    wanted: Bands,
    heights: HeightFiles | None,
) -> Source:
    facts = facts_of(file, str(path))
    if stretch is not None or facts.palette:
        raise DataError(
            f"{path}: {'a stretch' if stretch else 'a palette raster'} for a model of {', '.join(wanted.names)}",
            expected="bands as the training images had them",
            cure="leave --stretch out" if stretch else "expand it, gdal_translate -expand rgb",
        )
    chosen = bands_for(path, facts, choice, wanted, BESIDE if heights else "")
    source = Source(
        path, file.height, file.width, chosen, True, distance_of(file, path), place_of(file, path), file.tags(),
        wanted=wanted, heights=heights,
    )  # fmt: skip
    masked = _may_be_invalid(file, None, source.colours)
    source = replace(source, masked=masked)
    return source if path.is_relative_to(IN_MEMORY) else source.turned(orientation_of(path))


def raster_gsd(path: Path) -> float | None:
    """``Source.gsd`` of a raster of any bands and dtype."""
    with open_raster(path) as file:
        return distance_of(file, path)


def raster_tags(path: Path) -> Mapping[str, str]:
    """``Source.tags`` of a raster of any bands and dtype."""
    with open_raster(path) as file:
        return dict(file.tags())


def raster_colours(path: Path) -> dict[int, tuple[int, int, int]]:
    """Value -> (red, green, blue) of the colour table of a raster's first band; empty where it has none."""
    with open_raster(path) as file:
        try:
            table = file.colormap(1)
        except ValueError:  # rasterio's way to say that there is none
            return {}
    return {value: (red, green, blue) for value, (red, green, blue, _) in table.items()}


def _may_be_invalid(file: DatasetReader, palette: Palette | None, bands: Sequence[int]) -> bool:
    from rasterio.enums import MaskFlags

    read = [1] if palette is not None else bands
    masked = any(MaskFlags.all_valid not in file.mask_flag_enums[band - 1] for band in read)
    floating = any(file.dtypes[band - 1].startswith("float") for band in read)
    return masked or floating or (palette is not None and palette.transparent)


def _check_dtype(path: Path, file: DatasetReader, bands: Sequence[int], stretch: tuple[float, float] | None) -> None:
    kinds = {file.dtypes[band - 1] for band in bands}
    if kinds != {"uint8"} and (stretch is None or any(kind.startswith("complex") for kind in kinds)):
        raise DataError(
            f"{path}: dtype {', '.join(sorted(kinds))}",
            expected="uint8 (8 bits per band), scaled as the training images were",
            cure="pass --stretch LOW,HIGH, or convert it with gdal_translate -ot Byte -scale LOW HIGH 0 255",
        )


def _choose_bands(path: Path, file: DatasetReader, bands: Sequence[int] | None) -> tuple[int, int, int]:
    chosen = (1, 2, 3) if bands is None and file.count == 3 else tuple(bands or ())
    if len(chosen) != 3 or not all(1 <= band <= file.count for band in chosen):
        raise DataError(
            f"{path}: {file.count} band(s)" + (f", --bands {','.join(map(str, bands))}" if bands else ""),
            expected=f"3 bands, or three numbers from 1 to {file.count} to choose them",
            cure="name the bands in the order of the training images, e.g. --bands 4,1,2 for IRRG",
        )
    return chosen[0], chosen[1], chosen[2]


@contextmanager
def open_raster(path: Path) -> Iterator[DatasetReader]:
    """Open a raster of any bands and dtype; one that GDAL cannot open raises DataError."""
    with open_file(path) as file, gdal_sentences(path):
        yield file


def open_file(path: Path) -> DatasetReader:
    """:func:`open_raster` for files that another thread closes, which rasterio's ``with`` does not bear."""
    import rasterio
    from rasterio.errors import RasterioError

    driver = UPLOAD_DRIVERS.get(path.suffix, "GTiff") if path.is_relative_to(IN_MEMORY) else raster_driver(path)
    try:
        with gdal_settings():
            return rasterio.open(path.absolute(), driver=driver)  # a relative "GTIFF_DIR:1:a.tif" would be no file
    except RasterioError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)})",
            expected="a whole raster",
            cure="check the file, or convert it with gdal_translate",
        ) from error
