"""Bands as a named list: what the file says and refuses, what is shown, what stands in holes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weakseg.core.bands import PLAIN, Band, Bands, Statistics, known_band, load_bands, parse_bands
from weakseg.core.errors import DataError

DEEP = Bands(
    (
        known_band("nir", dtype="uint16", low=100, high=4100),
        known_band("red", dtype="uint16", low=0, high=2000),
        known_band("green", dtype="uint16", low=0, high=2000, source="image, band 3"),
        known_band("height", dtype="float32", low=0, high=20, nodata=-9999),
    ),
    {"a2": ("height",)},
)


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    counted = DEEP.with_statistics(Statistics(float(n), 1.5, (0.0, 1.0, 2.0, 3.0, 4.0)) for n in range(4))
    for bands in (DEEP, counted, PLAIN):
        bands.save(tmp_path / "bands.yaml")
        assert load_bands(tmp_path) == bands
    assert load_bands(tmp_path / "nowhere") is PLAIN


def test_heights_are_metres_that_no_colour_jitter_touches_and_may_be_missing() -> None:
    height, red = known_band("ndsm"), known_band("red")
    assert (height.unit, height.colour, height.drop) == ("m", False, True)
    assert (red.unit, red.colour, red.drop) == ("", True, False)


def test_the_dtype_of_all_is_their_own_or_float32_where_they_differ() -> None:
    assert PLAIN.dtype == np.uint8
    assert Bands(DEEP.members[:3]).dtype == np.uint16
    assert DEEP.dtype == np.float32


def test_three_optical_bands_of_8_bits_are_plain_whatever_their_names() -> None:
    assert PLAIN.plain
    assert Bands((known_band("nir"), known_band("red"), known_band("green"))).plain
    assert not Bands((known_band("red"), known_band("green"), known_band("height"))).plain
    assert not Bands(DEEP.members[:3]).plain


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("blue", "green", "red", "nir"), (2, 1, 0)),
        (("nir", "red", "green", "height"), (0, 1, 2)),
        (("height", "nir", "red"), (1, 2, 1)),
        (("pan", "height"), (0, 0, 0)),
        (("height",), (0, 0, 0)),
    ],
)
def test_which_bands_people_see(names: tuple[str, ...], shown: tuple[int, int, int]) -> None:
    assert Bands(tuple(known_band(name, dtype="uint16") for name in names)).shown == shown


def test_a_picture_is_three_bands_between_low_and_high() -> None:
    image = np.array([[[4100, 1000, 2500, 3.5], [100, 0, np.nan, 7]]], np.float32)
    assert DEEP.picture(image).tolist() == [[[255, 128, 255], [0, 0, 0]]]  # 127.5 rounds to even
    plain = np.zeros((2, 2, 3), np.uint8)
    assert PLAIN.picture(plain) is plain
    four = Bands(tuple(known_band(name) for name in ("blue", "green", "red", "nir")))
    assert four.picture(np.array([[[1, 2, 3, 4]]], np.uint8)).tolist() == [[[3, 2, 1]]]


def test_holes_get_the_mean_of_n1() -> None:
    counted = DEEP.with_statistics(Statistics(float(n) + 0.4, 1.0, (0.0,) * 5) for n in range(4))
    image = np.array([[[5, 6, 7, -9999], [5, np.nan, 7, 2]]], np.float32)
    assert counted.filled(image).tolist() == [[[5, 6, 7, np.float32(3.4)], [5, np.float32(1.4), 7, 2]]]
    whole = replace(counted, members=counted.members[:3], missing={})
    assert whole.fill_value(2) == 2  # whole numbers
    clean = np.zeros((1, 1, 3), np.uint16)
    assert whole.filled(clean) is clean
    with pytest.raises(DataError, match="no statistics of band nir"):
        DEEP.fill_value(0)


def test_filling_leaves_the_array_it_was_given() -> None:
    counted = DEEP.with_statistics(Statistics(1.0, 1.0, (0.0,) * 5) for _ in range(4))
    image = np.full((2, 2, 4), -9999, np.float32)
    view = image[:1]
    assert counted.filled(view)[0, 0, 3] == 1
    assert (image == -9999).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "uint32"}, "dtype uint32; expected uint8 | uint16"),
        ({"range": [5, 5]}, "range 5 to 5"),
        ({"augment": ["hue"]}, "augment"),
        ({"colour": "red"}, "name and some of unit"),
        ({"name": 3}, "name and some of unit"),
    ],
)
def test_files_that_say_something_else_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_bands({"bands": [{"name": "red", **entry}]}, "bands.yaml")
    assert message in str(caught.value)


def test_bands_are_1_to_16_with_names_of_their_own_and_only_some_may_be_missing() -> None:
    for members in ((), (Band("red"), Band("red")), tuple(Band(f"b{n}") for n in range(17))):
        with pytest.raises(DataError, match="1 to 16 bands, each name once"):
            Bands(members)
    with pytest.raises(DataError, match=r"areas that lack red.*none but height"):
        Bands((known_band("red"), known_band("height")), {"a": ("red",)})
    with pytest.raises(DataError, match="no list of bands"):
        parse_bands(["red"], "bands.yaml")


STATISTICS = {"mean": 1.0, "std": 2.0, "percentiles": {"2": 1, "25": 2, "50": 3, "75": 4, "98": 5}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"range": 5}, "range 5; expected two numbers"),
        ({"range": ["a", 5]}, "range a to 5"),
        ({"range": [0, float("inf")]}, "range 0 to inf"),
        ({"range": [False, True]}, "range False to True"),
        ({"nodata": "0"}, "nodata '0'; expected a number"),
        ({"unit": 0}, "unit and source [0, '']; expected texts"),
        ({"augment": [["drop"]]}, "augment [['drop']]"),
        ({"statistics": {**STATISTICS, "std": -1}}, "statistics"),
        ({"statistics": {**STATISTICS, "mean": float("nan")}}, "statistics"),
        ({"statistics": {"mean": 1, "std": 1, "percentiles": {}}}, "statistics"),
    ],
)
def test_values_of_another_kind_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_bands({"bands": [{"name": "red", **entry}]}, "bands.yaml")
    assert message in str(caught.value)
    assert parse_bands({"bands": [{"name": "red", "statistics": STATISTICS, "nodata": float("nan")}]}, "x") is not None


def test_missing_is_lists_of_names() -> None:
    for missing in (["a"], {"a": "ndsm"}, {"a": [1]}):
        with pytest.raises(DataError, match="missing"):
            parse_bands({"bands": [{"name": "red"}], "missing": missing}, "bands.yaml")
