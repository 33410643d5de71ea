"""The table of docs/reliability.md is that of the counts that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults import tally

KEPT = Path(__file__).with_name("kept.tsv")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_page_has_the_table_of_the_kept_counts() -> None:
    assert "\n".join(tally.table(tally.read(KEPT))) in PAGE.read_text()


def test_files_are_added_up_and_the_last_of_several_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("injected\t2\tkill of a\ninjected\t1\tkill of a\nsurvived\t2\tkill of a\ninjected\t5\tdisk\n")
    second.write_text("injected\t4\tkill of a\nsurvived\t4\tkill of a\n")
    tally.main([str(first)])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| disk | 5 | 0 | 5 |",
        "| kill of a | 3 | 2 | 1 |",
        "| in all, 3 of them kills | 8 | 2 | 6 |",
    ]
    tally.main([str(first), str(second)])
    assert "| kill of a | 4 | 4 | 0 |" in capsys.readouterr().out
