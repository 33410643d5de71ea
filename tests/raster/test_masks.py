"""Label pixels of every kind become the mask that was drawn, or are refused with the choices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.core.classes import IGNORE, ISPRS, ClassScheme
from weakseg.core.errors import DataError
from weakseg.raster.mask_readings import Holds, Table
from weakseg.raster.masks import LabelPixels, MaskOptions, decode_mask

TWO = ClassScheme(("house", "road"), ((10, 0, 0), (0, 20, 0)), (("unlabeled", (0, 0, 0)),))
BINARY = ClassScheme(("background", "building"), ((0, 0, 0), (255, 255, 255)))
GREYS = ClassScheme(("road", "water", "forest"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (("unlabelled", (0, 0, 0)),))
FROM_1 = ClassScheme(
    ("road", "water", "forest"), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), (("none", (0, 0, 0)),), (1, 2, 3), (0,)
)
RAMP: Table = {value: (value, value, value, 255) for value in range(256)}


def decode(
    values: list[int], classes: ClassScheme, table: Table | None = None, dtype: str = "uint8", **options: object
) -> list[int]:
    """The mask of a one-band file of one row."""
    nodata, valid = options.pop("nodata", None), options.pop("valid", None)
    pixels = LabelPixels(
        np.array([values], dtype),
        table,
        nodata,
        None if valid is None else np.array([valid], bool),  # type: ignore[arg-type]
    )
    return list(decode_mask(pixels, classes, MaskOptions(**options)).mask[0].tolist())  # type: ignore[arg-type]


def decode_rgb(rgb: np.ndarray, classes: ClassScheme, **options: object) -> list[list[int]]:
    return list(decode_mask(LabelPixels(rgb), classes, MaskOptions(**options)).mask.tolist())  # type: ignore[arg-type]


def painted(*colours: tuple[int, ...]) -> Table:
    return {value: (*colour[:3], colour[3] if len(colour) > 3 else 255) for value, colour in enumerate(colours)}  # type: ignore[misc]


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, IGNORE]), max_size=12))
def test_colours_and_indices_decode_to_the_mask(values: list[int]) -> None:
    mask = np.array([[1, *values]], np.uint8)  # 1 is no grey colour of ISPRS, so these are indices
    assert decode(mask[0].tolist(), ISPRS) == mask[0].tolist()
    assert decode_rgb(ISPRS.to_colours(mask), ISPRS) == mask.tolist()
    assert decode(mask[0].tolist(), ISPRS, ISPRS.colour_table()) == mask[0].tolist()


def test_further_values_can_mean_ignore() -> None:
    assert decode([0, 1, 2, 255, 7], TWO, ignore_values=(2, 7)) == [0, 1, 255, 255, 255]


def test_values_out_of_range_are_counted_and_placed() -> None:
    with pytest.raises(DataError) as caught:
        decode_mask(LabelPixels(np.array([[0, 1, 1], [0, 5, 2]], np.uint8)), TWO)
    assert caught.value.found == "2 px of values out of range, first 5 at row 1, column 1"
    assert caught.value.expected == "0 to 1 (house, road) or 255 for ignore"
    assert "`value:` gives a class its id" in caught.value.cure
    assert "ignore_values" in caught.value.cure


def test_ignore_values_must_not_be_classes() -> None:
    with pytest.raises(DataError, match=r"ignore values \(1,\) and indices \(1 road\).*give each class its id"):
        decode([0], TWO, ignore_values=(1,))
    assert decode([1, 2, 3, 0], FROM_1, ignore_values=(0,)) == [0, 1, 2, 255]
    with pytest.raises(DataError, match=r"values \(3 forest\)"):
        decode([1, 2, 0], FROM_1, ignore_values=(3,))


# grey bands: indices, ids or grey colours


def test_binary_masks_of_0_and_255_are_colours() -> None:
    assert decode([0, 255, 255], BINARY) == [0, 1, 1]
    assert decode([255, 255], BINARY) == [1, 1]
    assert decode([0, 255], BINARY, RAMP) == [0, 1]  # Pillow's convert("P")
    assert decode([0, 1, 1], BINARY) == [0, 1, 1]  # 1 is no colour: indices
    assert decode([0, 1], BINARY, painted((0, 0, 0), (255, 255, 255))) == [0, 1]  # 1 bit
    with pytest.raises(DataError, match="two ways"):
        decode([0, 255], BINARY, dtype="int32")  # no picture, so 255 may be ignore as well
    assert decode([0, 1, 255], BINARY, holds="indices") == [0, 1, 255]
    assert decode([0, 255], BINARY, ignore_values=(255,)) == [0, 255]
    with pytest.raises(DataError, match=r"1 px of values out of range, first 255 .*as indices\), or 0, 255 \(as col"):
        decode([0, 1, 255], BINARY)


def test_binary_masks_of_an_inverted_scheme_are_not_guessed() -> None:
    inverted = ClassScheme(("building", "background"), ((255, 255, 255), (0, 0, 0)))
    assert decode([0, 255], inverted) == [1, 0]
    for table in (None, painted((0, 0, 0), (255, 255, 255))):
        with pytest.raises(DataError, match=r"two ways, as indices \(0 building.*or as colours \(0 background"):
            decode([0, 0], inverted, table)
    assert decode([0, 1], inverted, painted((0, 0, 0), (255, 255, 255)), holds="colours") == [1, 0]
    assert decode([0, 1], inverted, holds="indices") == [0, 1]


def test_grey_colours_that_look_like_indices_are_not_guessed() -> None:
    assert decode([0, 1, 2, 3], GREYS) == [255, 0, 1, 2]  # 3 is no index
    with pytest.raises(DataError) as caught:
        decode([0, 1, 2], GREYS)
    assert caught.value.found == (
        "values that can be read two ways, as indices (0 road, 1 water, 2 forest) "
        "or as colours (0 ignore, 1 road, 2 water)"
    )
    assert caught.value.cure == "say --masks-hold indices or --masks-hold colours (masks_hold)"
    assert decode([0, 1, 2], GREYS, holds="indices") == [0, 1, 2]
    assert decode([0, 1, 2], GREYS, holds="colours") == [255, 0, 1]
    with pytest.raises(DataError, match="two ways"):
        decode([0, 0], GREYS)
    assert decode([0, 0], ISPRS) == [0, 0]  # the other reading would label nothing
    with pytest.raises(DataError, match="two ways"):
        decode([255, 255], ISPRS)
    with pytest.raises(DataError, match="two ways"):
        decode([0, 255], ISPRS)  # impervious surface and ignore, or boundary and impervious surface


def test_values_are_ids() -> None:
    assert decode([0, 1, 2, 3, 255], FROM_1) == [255, 0, 1, 2, 255]
    assert decode([0, 1, 2], FROM_1, holds="indices") == [0, 1, 2]
    with pytest.raises(DataError, match=r"first 4 at row 0, column 1; expected 0 ignore, 1 road, 2 water, 3 forest"):
        decode([1, 4], FROM_1)
    with pytest.raises(DataError, match=r"write `value:` for each class"):
        decode([1], TWO, holds="values")
    with pytest.raises(DataError, match=r"1 px of values out of range, first 255.*--masks-hold indices or colours"):
        decode([0, 255], ClassScheme(BINARY.names, BINARY.colours, (), (0, 1)))
    inria = ClassScheme(BINARY.names, BINARY.colours, (), (0, 255))
    assert decode([0, 255], inria) == [0, 1]
    corine = ClassScheme(("urban", "sea"), ((9, 9, 0), (0, 9, 9)), (), (111, 523))
    assert decode([111, 523, 111], corine, dtype="int16") == [0, 1, 0]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "int64", "float32", "float64"])
def test_whole_numbers_of_any_dtype_are_taken(dtype: str) -> None:
    assert decode([0, 1, 1, 255], TWO, dtype=dtype) == [0, 1, 1, 255]
    with pytest.raises(DataError, match="1 px of values out of range, first 2 at row 0, column 1"):
        decode([0, 2], TWO, dtype=dtype)


def test_floats_with_fractions_are_refused_and_nan_is_empty() -> None:
    with pytest.raises(DataError, match=r"1 px of values that are no whole numbers, first 0\.5 at row 0, column 1"):
        decode([0, 0.5], TWO, dtype="float32")  # type: ignore[list-item]
    with pytest.raises(DataError, match="no whole numbers, first inf"):
        decode([0, np.inf], TWO, dtype="float32")  # type: ignore[list-item]
    assert decode([1, np.nan], TWO, dtype="float32") == [1, 255]  # type: ignore[list-item]
    lowest = float(np.finfo(np.float32).min)
    assert decode([1, lowest], TWO, dtype="float32", nodata=lowest) == [1, 255]  # type: ignore[list-item]
    assert decode([1, -9999], TWO, dtype="float32", nodata=-9999.0) == [1, 255]


# colour tables


def test_a_renumbered_colour_table_is_read_by_colour() -> None:
    assert decode([0, 1, 2], TWO, painted((0, 20, 0), (10, 0, 0), (0, 0, 0))) == [1, 0, IGNORE]
    assert decode([0, 1, 2], TWO, painted((0, 20, 0), (10, 0, 0), (0, 0, 0)), dtype="uint16") == [1, 0, IGNORE]


def test_stray_colours_of_a_table_are_named_with_count_and_place() -> None:
    table = painted((0, 20, 0), (10, 0, 0), (250, 252, 1), (7, 7, 8))
    with pytest.raises(DataError) as caught:
        decode([0, 1, 2, 2, 3], TWO, table)
    assert caught.value.found == (
        "3 px of unknown colours, first (250, 252, 1) at row 0, column 2 (2 px), "
        "then (7, 7, 8) at row 0, column 4 (1 px)"
    )
    assert decode([0, 1, 2], TWO, table, holds="indices", ignore_values=(2,)) == [0, 1, 255]
    assert decode([0, 1, 2], TWO, table, ignore_values=(2,)) == [1, 0, 255]
    with pytest.raises(DataError, match=r"1 px of unknown colours, first \(250"):
        decode([0, 1, 2], TWO, painted((10, 0, 0), (0, 20, 0), (250, 252, 1)))  # in index order but for the stray


def test_a_colour_table_of_other_colours_is_refused_unless_told() -> None:
    table: Table = {value: (value // 2, 255 - value, 77, 255) for value in range(256)}
    with pytest.raises(DataError, match=r"without any colour of classes\.yaml.*--masks-hold indices to read indices"):
        decode([0, 1, 255], TWO, table)
    assert decode([0, 1, 255], TWO, table, holds="indices") == [0, 1, IGNORE]
    assert decode([0, 1, 255], TWO, RAMP) == [0, 1, IGNORE]  # greys say nothing
    assert decode([0, 1, 3], FROM_1, table) == [255, 0, 2]  # `value:` is the user's word
    with pytest.raises(DataError, match="1 px of unknown colours"):
        decode([7], TWO, table)


def test_a_table_that_contradicts_the_ids_is_not_guessed() -> None:
    permuted = painted((0, 0, 0), (0, 9, 0), (9, 0, 0), (0, 0, 9))
    with pytest.raises(DataError, match=r"as values \(1 road, 2 water\) or as colours \(1 water, 2 road\)"):
        decode([0, 1, 2, 3], FROM_1, permuted)
    assert decode([0, 1, 2, 3], FROM_1, permuted, holds="colours") == [255, 1, 0, 2]
    assert decode([0, 1, 2, 3], FROM_1, permuted, holds="values") == [255, 0, 1, 2]


def test_255_in_a_table_is_ignore_unless_painted_like_a_class() -> None:
    voc = painted((10, 0, 0), (0, 20, 0)) | {255: (224, 224, 192, 255)}
    assert decode([0, 1, 255], TWO, voc) == [0, 1, 255]
    black_and_white = {0: (0, 0, 0, 255), 7: (1, 2, 3, 255), 255: (255, 255, 255, 255)}
    assert decode([0, 255], BINARY, black_and_white) == [0, 1]
    filled = painted((0, 0, 0), (255, 255, 255)) | {255: (0, 0, 0, 255)}  # programs fill tables with black
    with pytest.raises(DataError, match=r"colours \(255 background\) beside the indices of these classes"):
        decode([0, 1, 255], BINARY, filled)
    assert decode([0, 1, 255], BINARY, filled, nodata=255.0) == [0, 1, 255]
    assert decode([0, 1, 255], BINARY, filled, holds="indices") == [0, 1, 255]
    assert decode([0, 1, 255], BINARY, filled, holds="colours") == [0, 1, 0]


def test_transparent_colours_are_empty_and_half_transparent_ones_refused() -> None:
    assert decode([0, 1, 2], TWO, painted((0, 20, 0), (10, 0, 0), (9, 9, 9, 0))) == [1, 0, 255]
    with pytest.raises(DataError, match=r"1 px of 1, which is nodata by the file and house among colours"):
        decode([0, 1], TWO, painted((0, 20, 0), (10, 0, 0, 0)))
    assert decode([0, 1], TWO, painted((0, 20, 0), (10, 0, 0, 0)), nodata_is_class=True) == [1, 0]
    with pytest.raises(DataError, match="half transparent"):
        decode([0, 1], TWO, painted((0, 20, 0), (10, 0, 0, 128)))


# nodata and validity


def test_nodata_is_ignore_and_never_a_class() -> None:
    assert decode([0, 1, 2, 3], FROM_1, nodata=0.0) == [255, 0, 1, 2]
    assert decode([0, 1, 9], TWO, nodata=9.0) == [0, 1, 255]
    with pytest.raises(DataError) as caught:
        decode([0, 0, 1], TWO, nodata=0.0)
    assert caught.value.found == "2 px of 0, which is nodata by the file and house among indices"
    assert "`value:`" in caught.value.cure
    assert "--nodata-is-class" in caught.value.cure
    assert decode([0, 1], TWO, nodata=0.0, nodata_is_class=True) == [0, 1]
    assert decode([1, 1], TWO, nodata=0.0) == [1, 1]  # no such pixel
    with pytest.raises(DataError, match="1 px of 255, which is nodata by the file and building among colours"):
        decode([0, 255], BINARY, nodata=255.0)
    assert decode([0, 255], BINARY, nodata=255.0, holds="indices") == [0, 255]


def test_pixels_outside_the_mask_band_are_ignore_whatever_they_hold() -> None:
    assert decode([1, 0, 77], TWO, valid=[True, False, False]) == [1, 255, 255]
    rgb = TWO.to_colours(np.array([[0, 1, 0]], np.uint8))
    rgb[0, 2] = (5, 5, 5)
    pixels = LabelPixels(rgb, valid=np.array([[True, False, False]]))
    assert decode_mask(pixels, TWO).mask.tolist() == [[0, 255, 255]]


def test_nodata_of_three_bands_is_a_colour() -> None:
    rgb = np.array([[(10, 0, 0), (0, 0, 0), (7, 7, 7)]], np.uint8)
    assert decode_mask(LabelPixels(rgb, nodata=(7, 7, 7)), TWO).mask.tolist() == [[0, 255, 255]]
    with pytest.raises(DataError, match=r"1 px of \(10, 0, 0\), which is nodata by the file and house"):
        decode_mask(LabelPixels(rgb, nodata=(10, 0, 0)), TWO)
    with pytest.raises(DataError, match="1 px of unknown colours"):
        decode_mask(LabelPixels(rgb), TWO)


def test_indices_in_three_equal_bands_only_if_told() -> None:
    rgb = np.repeat(np.array([[[0], [1]]], np.uint8), 3, axis=2)
    with pytest.raises(DataError, match=r"1 px of unknown colours, first \(1, 1, 1\)"):
        decode_rgb(rgb, TWO)
    assert decode_rgb(rgb, TWO, holds="indices") == [[0, 1]]
    assert decode_rgb(TWO.to_colours(np.array([[0, 1]], np.uint8)), TWO, holds="indices") == [[0, 1]]  # colours anyway


def test_unknown_colours_are_counted_and_placed() -> None:
    rgb = TWO.to_colours(np.array([[0, 1], [1, 0]], np.uint8))
    rgb[1, 0] = (1, 2, 3)
    with pytest.raises(DataError, match=r"1 px of unknown colours, first \(1, 2, 3\) at row 1, column 0"):
        decode_rgb(rgb, TWO)


@pytest.mark.parametrize(
    ("values", "classes", "holds"),
    [([0, 1, 2, 3], GREYS, "colours"), ([0, 1], TWO, "indices"), ([1, 2], FROM_1, "values"), ([0, 0], BINARY, None)],
)
def test_what_the_file_held_is_told(values: list[int], classes: ClassScheme, holds: Holds | None) -> None:
    assert decode_mask(LabelPixels(np.array([values], np.uint8)), classes).holds == holds


def test_class_table_paints_classes_and_ignore() -> None:
    table = TWO.colour_table()
    assert table[1] == (0, 20, 0, 255)
    assert table[IGNORE] == (0, 0, 0, 255)
    assert table[2] == (0, 0, 0, 0)
    assert len(table) == 256
