"""Errors: one line with what was found, what was expected and the cure; whole after a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from weakseg.core import errors
from weakseg.core.errors import DataError, ParamsError, StageError, TrackingError, WeaksegError, WeightsError

KINDS = (DataError, ParamsError, WeightsError, StageError, TrackingError)


@pytest.mark.parametrize("kind", KINDS)
def test_message_is_found_expected_cure(kind: type[WeaksegError]) -> None:
    error = kind("mask a.png is 10x12", expected="10x11", cure="export it again")
    assert str(error) == "mask a.png is 10x12; expected 10x11; export it again"
    assert (error.found, error.expected, error.cure) == ("mask a.png is 10x12", "10x11", "export it again")
    assert isinstance(error, WeaksegError)


@pytest.mark.parametrize("kind", KINDS)
def test_pickled_error_is_the_same(kind: type[WeaksegError]) -> None:
    """Loader workers send their errors to the parent by pickle; a default Exception would lose the keywords."""
    back = pickle.loads(pickle.dumps(kind("a", expected="b", cure="c")))
    assert type(back) is kind
    assert (str(back), back.found, back.expected, back.cure) == ("a; expected b; c", "a", "b", "c")


def test_every_error_of_the_module_is_a_weakseg_error() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert set(kinds) == {WeaksegError, *KINDS, errors.ImportProblems}  # the last holds many lines


def test_expected_and_cure_are_compulsory() -> None:
    with pytest.raises(TypeError, match="cure"):
        DataError("a", expected="b")  # type: ignore[call-arg]


def test_names_that_would_end_the_line_or_steer_a_terminal_are_written_out() -> None:
    error = DataError("class 'a\nb\x1b[2J\u2028'", expected="a\rb", cure="mend it")
    assert str(error) == "class 'a\\nb\\x1b[2J\\u2028'; expected a\\rb; mend it"
    assert errors.ImportProblems(["a\nb", "c"]).problems == ("a\\nb", "c")
    assert str(errors.ImportProblems(["a\nb", "c"])) == "a\\nb\nc"
    assert str(DataError("ä é 𝔸 \xa0", expected="b", cure="c")) == "ä é 𝔸 \xa0; expected b; c"


def test_what_was_found_is_cut_where_it_is_endless() -> None:
    assert DataError("x" * 25_000, expected="b", cure="c").found == "x" * 20_000 + " ... and 5000 more letters"
