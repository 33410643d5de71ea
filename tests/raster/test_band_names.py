"""Which band is which: names of users and of files, and what is refused because it may be two things."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp

from weakseg.core.bands import Bands, known_band
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ImportProblems
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.outcome import ImportReport
from weakseg.raster.band_names import BandChoice, BandFacts, bands_for, name_bands, parse_choice
from weakseg.raster.open import read_image, read_mask
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


def flagged(path: Path, colours: tuple[str, ...], values: tuple[int, ...] = (1, 2, 3)) -> Path:
    """A picture whose bands of one value each are flagged so, without descriptions."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=len(values), dtype="uint8") as file:
        file.write(np.broadcast_to(np.array(values, np.uint8)[:, None, None], (len(values), 8, 8)))
        file.colorinterp = [ColorInterp[colour] for colour in colours]
    return path


RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")


def brought_in(folder: Path, bands: str | None = None) -> ImportReport:
    return import_dataset(
        folder / "images", [], folder / "data", bands=parse_choice(bands), allow_unlabelled=True, progress=False
    )


@pytest.mark.parametrize("bands", [None, "1,2,3", "3,2,1", "blue,green,red", "red,green,blue"])
@pytest.mark.parametrize("first", [RGB, BGR])
def test_pictures_flagged_in_two_orders_are_refused_whatever_is_said_of_both(
    tmp_path: Path, first: tuple[str, ...], bands: str | None
) -> None:
    flagged(tmp_path / "images" / "a.tif", first)
    flagged(tmp_path / "images" / "b.tif", BGR if first == RGB else RGB)
    with pytest.raises(ImportProblems) as caught:
        brought_in(tmp_path, bands)
    name = "b.tif" if first == RGB else "a.tif"
    words = "band 1 blue by its flag, --bands names it red" if bands == "red,green,blue" else "no such order"
    assert any(name in one and words in one for one in caught.value.problems), caught.value.problems
    assert not (tmp_path / "data").exists()


def test_the_cure_of_two_orders_works(tmp_path: Path) -> None:
    flagged(tmp_path / "images" / "a.tif", RGB)
    flagged(tmp_path / "images" / "b.tif", RGB, (3, 2, 1))
    assert brought_in(tmp_path).bands is None


def test_pictures_all_flagged_in_another_order_are_named_by_it(tmp_path: Path) -> None:
    for name in "ab":
        flagged(tmp_path / "images" / f"{name}.tif", BGR)
    found = brought_in(tmp_path).bands
    assert found is not None
    assert found.names == BGR
    other = flagged(tmp_path / "c.tif", ("green", "red", "blue"))
    assert inspect_source(other, None, wanted=found).bands == (3, 1, 2)
    assert inspect_source(flagged(tmp_path / "d.tif", BGR), None, wanted=COLOURS).bands == (3, 2, 1)


def test_infrared_named_by_hand_goes_before_flags_which_know_none(tmp_path: Path) -> None:
    flagged(tmp_path / "images" / "a.tif", BGR)
    found = brought_in(tmp_path, "green,red,nir").bands
    assert found is not None
    assert found.names == ("green", "red", "nir")


def test_a_model_without_names_asks_for_the_order_of_a_picture_in_another_one(tmp_path: Path) -> None:
    for path in (flagged(tmp_path / "a.tif", BGR), write(tmp_path / "b.tif", BGR)):
        with pytest.raises(DataError, match=r"bands blue, green, red by their .*--bands 3,2,1 for red, green, blue"):
            inspect_source(path, None)
        assert inspect_source(path, (3, 2, 1)).bands == (3, 2, 1)
        assert inspect_source(path, (1, 2, 3)).bands == (1, 2, 3)
    assert inspect_source(write(tmp_path / "b.tif", ("nir", "red", "green")), None).bands == (1, 2, 3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("red,green,blue", "band 1 blue by its description, --bands names it red"),
        ("nir,green,red", "band 1 blue by its description, --bands names it nir"),
        ("red=3,green=1,blue=2", "band 1 blue by its description, --bands names it green"),
    ],
)
def test_names_by_hand_that_contradict_descriptions_are_refused(tmp_path: Path, names: str, said: str) -> None:
    path = write(tmp_path / "a.tif", BGR)
    with pytest.raises(DataError, match=f"a.tif: {said}; expected one name for it; mend --bands"):
        inspect_source(path, parse_choice(names), wanted=COLOURS)
    (tmp_path / "images").mkdir()
    path.rename(tmp_path / "images" / "a.tif")
    with pytest.raises(ImportProblems, match=f"a.tif: {said}"):
        brought_in(tmp_path, names)
    rasterio.shutil.copy(tmp_path / "images" / "a.tif", tmp_path / "images" / "b.tif", PROFILE="GeoTIFF")
    (tmp_path / "images" / "a.tif").unlink()
    assert brought_in(tmp_path, names).bands is not None  # the cure


@pytest.mark.parametrize(
    ("names", "by_hand"),
    [
        (("nir_narrow", "red", "green"), "nir,red,green"),
        (("red_edge2", "red", "green"), "red_edge,red,green"),
        (("dsm", "red", "green"), "height,red,green"),
        (("nir", "red", "green"), "my_own,red,green"),
        (("layer_1", "red", "green"), "nir,red,green"),
    ],
)
def test_other_words_for_what_a_file_says_are_no_contradiction(
    tmp_path: Path, names: tuple[str, ...], by_hand: str
) -> None:
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "a.tif", names)
    found = brought_in(tmp_path, by_hand).bands
    assert found is not None
    assert ",".join(found.names) == by_hand


def test_numbers_by_hand_are_one_list_of_bands_for_all_images_that_name_theirs(tmp_path: Path) -> None:
    flagged(tmp_path / "images" / "a.tif", RGB)
    write(tmp_path / "images" / "b.tif", RGB)
    write(tmp_path / "images" / "c.tif", BGR)
    with pytest.raises(ImportProblems, match=r"c.tif: --bands 1,2,3 are blue, green, red by .*expected red, gre"):
        brought_in(tmp_path, "1,2,3")


def test_images_described_in_two_orders_are_brought_to_one_and_the_report_says_so(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "a.tif", RGB)
    with rasterio.open(write(tmp_path / "images" / "b.tif", BGR), "r+") as file:
        file.write(np.full(file.shape, 9, np.uint8), 1)
    report = brought_in(tmp_path)
    assert "1 images have their bands in another order, the first: " in str(report)
    assert str(tmp_path / "images" / "b.tif") in str(report)
    assert read_image(tmp_path / "data" / "images" / "b.tif")[0, 0].tolist() == [7, 7, 9]


def test_a_mask_in_colours_is_read_by_what_it_says_of_their_order(tmp_path: Path) -> None:
    """Blue is a building, red is clutter: bands in another order would exchange the two without a word."""
    for order, values in ((RGB, (0, 0, 255)), (BGR, (255, 0, 0))):
        assert (read_mask(flagged(tmp_path / "a.tif", order, values), ISPRS) == ISPRS.index("building")).all()
    path = write(tmp_path / "b.tif", BGR)
    with rasterio.open(path, "r+") as file:
        file.write(np.broadcast_to(np.array((255, 0, 0), np.uint8)[:, None, None], (3, *file.shape)))
    assert (read_mask(path, ISPRS) == ISPRS.index("building")).all()


@pytest.mark.parametrize(
    "colours", [("hue", "saturation", "lightness"), ("cyan", "magenta", "yellow"), ("Y", "Cb", "Cr")]
)
def test_bands_of_another_colour_space_are_refused(tmp_path: Path, colours: tuple[str, ...]) -> None:
    path = flagged(tmp_path / "images" / "a.tif", colours)
    with pytest.raises(ImportProblems, match=f"a.tif: bands flagged {', '.join(colours)}; expected red, green, blue"):
        brought_in(tmp_path)
    for chosen in (None, (1, 2, 3)):
        with pytest.raises(DataError, match=f"a.tif: bands flagged {', '.join(colours)}; expected red, green, blue"):
            inspect_source(path, chosen)


def test_a_grey_band_whose_white_is_zero_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.tif"
    for photometric in ("MINISBLACK", "MINISWHITE"):
        with rasterio.open(
            path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", photometric=photometric
        ) as file:
            file.write(np.full((1, 8, 8), 7, np.uint8))
        if photometric == "MINISBLACK":
            assert inspect_source(path, parse_choice("pan"), wanted=Bands((known_band("pan"),))).bands == (1,)
    with pytest.raises(
        DataError, match=r"a.tif: a grey band whose white is 0; expected red, .*gdal_translate -scale 0 255"
    ):
        inspect_source(path, parse_choice("pan"), wanted=Bands((known_band("pan"),)))
    with pytest.raises(ImportProblems, match=r"a.tif: a grey band whose white is 0"):
        brought_in(tmp_path, "pan")


@pytest.mark.parametrize("bands", [None, "1,2,3", "red,green,nir"])
def test_descriptions_that_are_no_known_names_are_in_one_order_too(tmp_path: Path, bands: str | None) -> None:
    """Bands called b2, b3, b4 beside b4, b3, b2 were read in the order of each file."""
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "a.tif", ("b4", "b3", "b2"))
    path = write(tmp_path / "images" / "b.tif", ("b2", "b3", "b4"))
    with pytest.raises(
        ImportProblems, match=r"b.tif: bands b2, b3, b4 by their descriptions; expected b4, b3, b2 like"
    ):
        brought_in(tmp_path, bands)
    for names in (("b4", "b3", "b2"), ("tile 7, 1", "tile 7, 2", "tile 7, 3")):
        write(path, names)
        brought_in(tmp_path, bands)
        shutil.rmtree(tmp_path / "data")
