"""Which crop a picture shows, by its name."""

from __future__ import annotations

import pytest

from weakseg.core.errors import DataError
from weakseg.labels.picture_names import chip_name, crop_of

SIZES = {"t1": (64, 80), "field 2": (10, 10), "a__0_0_2_2": (5, 5), "a": (5, 5), "Höhe": (8, 8)}
CROP = ("t1", (0, 16, 32, 48))


@pytest.mark.parametrize(
    "name",
    [
        "t1__0_16_32_48.png",
        "chips/t1__0_16_32_48.png",
        "C:\\chips\\t1__0_16_32_48.png",
        "/data/upload/3/3f2a1b2c-t1__0_16_32_48.png",
        "/data/local-files/?d=work/chips/t1__0_16_32_48.png",
        "s3://bucket/chips/t1__0_16_32_48.png",
        "https://host/t1__0_16_32_48.png?token=a",
        "t1__0_16_32_48_png.rf.0123abcd.jpg",
        "t1__0_16_32_48",
    ],
)
def test_a_chip_is_known_whatever_a_program_has_put_around_its_name(name: str) -> None:
    assert chip_name(CROP) == "t1__0_16_32_48"
    assert crop_of(name, SIZES) == CROP


def test_names_of_areas_mean_the_whole_of_them() -> None:
    assert crop_of("t1_rgb.jpg", SIZES) == ("t1", (0, 0, 64, 80))
    assert crop_of("/data/upload/1/0a1b2c3d-field_2.png", SIZES) == ("field 2", (0, 0, 10, 10))
    assert crop_of("/data/upload/1/0a1b2c3d-field_2__0_0_5_5.png", SIZES) == ("field 2", (0, 0, 5, 5))
    assert crop_of("Ho\u0308he__0_0_8_8.png", SIZES) == ("Höhe", (0, 0, 8, 8))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a__0_0_2_2.png", "may be a__0_0_2_2 at row 0, column 0 or a at row 0, column 0; expected one crop"),
        ("other.png", "other.png shows no crop of data/images; expected a name such as AREA__ROW"),
        ("t1__0_40_32_48.png", "window at row 0, column 40, 32x48 px; expected a rectangle inside 64x80 px"),
        ("t1__0_0_0_5.png", "window at row 0, column 0, 0x5 px"),
        ("http://[x/t1.png", "picture 'http://.x/t1.png'; expected a file name or an address"),
    ],
)
def test_names_that_mean_no_crop_or_two_are_refused(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        crop_of(name, SIZES)
