"""Which band is which: names of users and of files, and what is refused because it may be two things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from weakseg.core.bands import Bands, known_band
from weakseg.core.errors import DataError
from weakseg.raster.band_names import BandChoice, BandFacts, bands_for, name_bands, parse_choice
from weakseg.raster.stream import inspect_source


def described(names: tuple[str, ...], *, alpha: tuple[int, ...] = ()) -> BandFacts:
    return BandFacts(
        ("uint8",) * len(names), names, alpha, False, scalings=((1.0, 0.0),) * len(names), units=("",) * len(names)
    )


def test_a_band_that_is_infrared_by_name_and_alpha_by_flag_is_refused_until_it_is_named() -> None:
    """GDAL flags the fourth band of a file written without a word as alpha: its pixels are no transparency."""
    facts = described(("red", "green", "blue", "nir"), alpha=(4,))
    with pytest.raises(DataError, match=r"band 4 is nir by its description and alpha by its flag.*--bands"):
        name_bands("a.tif", facts, BandChoice())
    named = name_bands("a.tif", facts, parse_choice("red,green,blue,nir"))
    assert [name for _, name in named] == ["red", "green", "blue", "nir"]


def test_bands_that_are_all_named_otherwise_are_never_taken_in_order() -> None:
    wanted = Bands(tuple(known_band(name, dtype=np.dtype("uint8")) for name in ("red", "green", "blue", "nir")))
    with pytest.raises(DataError, match=r"no band red, green, blue.*red_edge"):
        bands_for("a.tif", described(("red_edge", "swir1", "swir2", "thermal")), BandChoice(), wanted)
    assert bands_for("a.tif", described(("nir", "blue", "green", "red")), BandChoice(), wanted) == (4, 3, 2, 1)


@pytest.mark.parametrize(
    ("names", "chosen", "found"),
    [
        (("blue", "green", "red"), (), (3, 2, 1)),
        (("red", "green", "blue"), (), (1, 2, 3)),
        (("blue", "green", "red"), (1, 2, 3), (1, 2, 3)),
    ],
    ids=["another order", "the same", "numbers of the user"],
)
def test_a_model_of_named_colours_finds_them_by_name(
    tmp_path: Path, names: tuple[str, ...], chosen: tuple[int, ...], found: tuple[int, ...]
) -> None:
    path = write(tmp_path / "a.tif", names)
    assert inspect_source(path, chosen, wanted=COLOURS).bands == found


def test_colours_of_an_unnamed_model_stay_in_order(tmp_path: Path) -> None:
    assert inspect_source(write(tmp_path / "a.tif", ("blue", "green", "red")), None).bands == (1, 2, 3)


def test_an_infrared_picture_is_no_picture_in_colours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no band blue"):
        inspect_source(write(tmp_path / "a.tif", ("nir", "red", "green")), None, wanted=COLOURS)


def test_alpha_is_never_the_fourth_band_of_a_model_without_a_word(tmp_path: Path) -> None:
    """GDAL flags the fourth band of 8 bits as alpha: it may be transparency, or infrared of a file without names."""
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=4, height=3, count=4, dtype="uint8") as file:
        file.write(np.full((4, 3, 4), 7, np.uint8))
    wanted = Bands(tuple(known_band(name) for name in ("red", "green", "blue", "nir")))
    with pytest.raises(DataError, match=r"band 4 is alpha by its flag.*--bands red,green,blue,nir if that is all"):
        inspect_source(path, None, wanted=wanted)
    assert inspect_source(path, parse_choice("red,green,blue,nir"), wanted=wanted).bands == (1, 2, 3, 4)
    assert inspect_source(path, parse_choice("1,2,3,4"), wanted=wanted).bands == (1, 2, 3, 4)


def test_a_band_flagged_as_alpha_that_is_no_mask_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for value, mask in ((255, True), (0, True), (254, False)):
        with rasterio.open(path, "w", driver="GTiff", width=4, height=3, count=4, dtype="uint8") as file:
            file.write(np.full((4, 3, 4), 7, np.uint8))
            file.write(np.full((3, 4), value, np.uint8), 4)
        if mask:
            assert inspect_source(path, None).bands == (1, 2, 3)
        else:
            with pytest.raises(DataError, match=r"4 band.*--bands 4,1,2"):
                inspect_source(path, None)


COLOURS = Bands(tuple(known_band(name, dtype=np.dtype("uint8")) for name in ("red", "green", "blue")))


def write(path: Path, names: tuple[str, ...]) -> Path:
    with rasterio.open(path, "w", driver="GTiff", width=4, height=3, count=3, dtype="uint8") as file:
        file.write(np.full((3, 3, 4), 7, np.uint8))
        file.descriptions = names
    return path
