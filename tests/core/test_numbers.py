"""Numbers in the words of a command line."""

from __future__ import annotations

import pytest

from weakseg.core.errors import ParamsError
from weakseg.core.numbers import decimals, whole_numbers


def test_numbers_and_commas() -> None:
    assert whole_numbers("4,1,2") == (4, 1, 2)
    assert decimals("0.75,1") == (0.75, 1.0)
    assert whole_numbers(None) == decimals("") == ()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ParamsError, match="'4,x'; expected whole numbers and commas"):
        whole_numbers("4,x")
    with pytest.raises(ParamsError, match="'1;2'; expected numbers and commas"):
        decimals("1;2")
