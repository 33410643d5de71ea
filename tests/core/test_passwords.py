"""Addresses are shown and kept without the passwords in them; every other text stays as it is."""

from __future__ import annotations

import pytest

from weakseg.core.errors import DataError, ImportProblems
from weakseg.core.passwords import all_without_passwords, without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:pw@host:5000/a", "http://host:5000/a"),
        ("at postgresql+psycopg://ann:p%40w@host/db now", "at postgresql+psycopg://host/db now"),
        ("https://token@host/r.git", "https://host/r.git"),
        ("http://ann:p@w@host/a@b", "http://host/a@b"),  # an @ that nobody quoted
        ("postgresql://ann:p/w?x@host/db", "postgresql://host/db"),  # databases take it
        ("(http://a:b@c) and (http://d:e@f)", "(http://c) and (http://f)"),
        ("postgresql:///db?user=ann&password=pw&sslmode=off", "postgresql:///db?user=ann&password=***&sslmode=off"),
        ("https://host/blob?Token=pw'", "https://host/blob?Token=***'"),
    ],
)
def test_passwords_of_addresses_go(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
    assert without_passwords(shown) == shown
    assert str(DataError(f"no answer of {text}", expected="one", cure=f"ask {text}")) == (
        f"no answer of {shown}; expected one; ask {shown}"
    )
    assert ImportProblems([text]).problems == (shown,)


@pytest.mark.parametrize(
    "text",
    [
        *("s3://bucket/a@b/c", "file:///home/ann@work/x", "models:/weakseg@champion", "ann@example.org", "a?token=b"),
        *("http://host:5000/#/runs", "sqlite:////data/mlflow.db", "password=x", "http://host/a b@c"),
        "http://host:5000/#/models/weakseg@champion",
        "https://host:8443/tiles/area@2x.png",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert without_passwords(text) == text


def test_nested_data() -> None:
    found = all_without_passwords({"a": ["x://u:p@h", 1, None], "b": {"c": ("x://u:p@h",)}, "d": 0.5})
    assert found == {"a": ["x://h", 1, None], "b": {"c": ["x://h"]}, "d": 0.5}


def test_endless_texts_take_no_time() -> None:
    text = "a://b:c" * 20_000
    assert without_passwords(text) == text
