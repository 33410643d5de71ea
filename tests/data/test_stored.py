"""Arrays of the store that are opened where they are used."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from weakseg.core.errors import DataError
from weakseg.data import stored
from weakseg.data.store import open_stored, save_array

ARRAY = np.arange(24, dtype=np.int32).reshape(4, 6)


def test_it_is_cut_and_compared_like_the_array(tmp_path: Path) -> None:
    save_array(tmp_path, "a", ARRAY)
    found = open_stored(tmp_path, "a")
    assert (found.shape, found.dtype, found.ndim, found.size, len(found)) == ((4, 6), np.int32, 2, 24, 4)
    np.testing.assert_array_equal(np.asarray(found), ARRAY)
    np.testing.assert_array_equal(found[1:3, 2], ARRAY[1:3, 2])
    np.testing.assert_array_equal(found != 7, ARRAY != 7)
    np.testing.assert_array_equal(found == 7, ARRAY == 7)
    np.testing.assert_array_equal(found[ARRAY % 2 == 0], ARRAY[ARRAY % 2 == 0])
    assert np.asarray(found, np.float32).dtype == np.float32
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[2], ARRAY[2])


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    save_array(tmp_path, "a", ARRAY)
    found = open_stored(tmp_path, "a")
    before = found[0, 0]
    save_array(tmp_path, "a", ARRAY + 1)
    assert (before, found[0, 0]) == (0, 1)


def test_few_maps_are_open_however_many_arrays_are_used(tmp_path: Path) -> None:
    stored._opened.cache_clear()
    for number in range(12):
        save_array(tmp_path, str(number), ARRAY + number)
    arrays = [open_stored(tmp_path, str(number)) for number in range(12)]
    assert stored._opened.cache_info().currsize == 0  # nothing is open before it is used
    assert [int(array[0, 0]) for array in arrays] == list(range(12))
    assert stored._opened.cache_info().maxsize == stored.OPEN < 65_530


def test_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no array .*a.npy; expected an output of an earlier stage"):
        open_stored(tmp_path, "a")
