"""A sample of `make fuzz` in every run of the suite: each format in this process, some inputs of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.fuzzing.formats import MODULES, NAMES, find_format
from tests.fuzzing.harness import RIGHT, Format, WrongError, input_of, one, run
from tests.fuzzing.mutations import change_bytes, change_tree


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_accepted_rightly_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    form = find_format(name)(tmp_path)
    path = tmp_path / f"input{form.suffix}"
    assert {one(form, content, path)[0] for content in form.whole()} == {"accepted"}
    for number in range(form.sample):
        end, note = one(form, input_of(form, 0, number), path)
        assert end in RIGHT, f"input {number} is {end}: {note}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_inputs_of_a_format(name: str, tmp_path: Path) -> None:
    tally = run(name, 0, find_format(name).inputs, tmp_path)
    assert not tally.failed, tally.notes


@pytest.mark.slow
def test_atheris_reads_as_many_inputs_as_were_asked_for(tmp_path: Path) -> None:
    """Half of them changed by it, half drawn by the format; a reader that it traces says the same."""
    pytest.importorskip("atheris", reason="not locked: `make fuzz_guided` installs it")
    tally = run("classes.yaml", 0, 120, tmp_path, by="guided")
    assert tally.ends.total() == 120
    assert not tally.failed, tally.notes
    assert set(tally.ends) == set(RIGHT)


def test_there_are_fifty_thousand_inputs() -> None:
    assert sum(find_format(name).inputs for name in NAMES) >= 50_000
    assert len(MODULES) == 5


def test_changes_depend_on_their_seed_alone() -> None:
    tree = {"a": [1, 2, {"b": "x"}], "c": None}
    assert change_tree(Random(3), tree) == change_tree(Random(3), tree)
    assert tree == {"a": [1, 2, {"b": "x"}], "c": None}
    found = {change_bytes(Random(n), b"0123456789" * 9) for n in range(50)}
    assert len(found) > 40


class Odd(Format):
    """A reader that does all that it should not."""

    name = "odd"

    def read(self, path: Path, content: bytes) -> None:
        if content == b"wrong":
            raise WrongError("5 for 6")
        if content == b"large":
            bytearray(300 << 20)
        if content == b"crash":
            raise KeyError("x")


@pytest.mark.parametrize(
    ("content", "end"), [(b"fine", "accepted"), (b"wrong", "wrong"), (b"large", "memory"), (b"crash", "traceback")]
)
def test_what_goes_wrong_is_seen(tmp_path: Path, content: bytes, end: str) -> None:
    assert one(Odd(tmp_path), content, tmp_path / "a")[0] == end
