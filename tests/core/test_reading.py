"""Texts and JSON that people write: read, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakseg.core.errors import DataError, ParamsError
from weakseg.core.reading import parse_json, read_json, read_text


def test_utf8_with_and_without_a_mark_is_read(tmp_path: Path) -> None:
    for number, content in enumerate((b"\xef\xbb\xbf[1]", b"[1]")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        assert read_text(path) == "[1]"
        assert read_json(path) == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", r"a\.json: not JSON .*; expected JSON in UTF-8"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),  # Python 3.13 reads 3,000
        (b'{"a": ' + b"9" * 301 + b"}", "a number of more than 300 digits"),
        (b"{", r"a\.json: not JSON"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_digits_in_a_text_are_no_number() -> None:
    assert parse_json('["' + "9" * 400 + '"]', "x") == ["9" * 400]


def test_other_encodings_folders_and_missing_files_are_the_error_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("ä".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"a\.yaml is not UTF-8 .*save it again so"):
        read_text(tmp_path / "a.yaml", ParamsError)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="cannot be read"):
            read_text(path)
