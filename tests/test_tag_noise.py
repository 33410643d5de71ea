"""benchmarks/tag_noise.py: the committed rows, and that docs/tagging.md says what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import tag_noise

from weakseg.core.errors import DataError

ROOT = Path(__file__).parents[1]
ROWS = tag_noise.load_rows(ROOT / "results" / "tag_noise")


def test_the_page_has_the_tables_of_the_rows() -> None:
    page = (ROOT / "docs" / "tagging.md").read_text()
    tables = [part for part in tag_noise.describe(ROWS).split("\n\n") if part.startswith("|")]
    assert len(tables) == 2 + len({row["source"] for row in ROWS if row["command"] == "train"})
    for table in tables:
        assert table in page


def row(command: str, source: str, miou: float, **other: Any) -> dict[str, Any]:
    return {"command": command, "source": source, "miou": miou, "seed": 0, **other}


def test_the_share_of_the_gap_is_of_the_seeds_that_were_trained() -> None:
    """From .5 to .6 in seed 0, .55 is half of it; seed 1, which nothing was trained on, counts nowhere."""
    rows = [row("references", *one) for one in (("pixel", 0.5), ("full", 0.6), ("untagged", 0.52), ("joint", 0.58))]
    rows += [{**one, "seed": 1, "miou": 0.1} for one in rows]
    rows += [row("train", "joint", 0.55, missing=0.3, wrong=0.0, stated=True)]
    cells = tag_noise.by_cell(rows, "joint")
    assert cells == {(0.0, 0.0, False): {0: 0.58}, (0.3, 0.0, True): {0: 0.55}}
    assert tag_noise.share_closed(tag_noise.references(rows), cells[0.3, 0.0, True]) == pytest.approx(0.5)
    assert "| 30 % | - | .550 (50 %) | - | - |" in tag_noise.describe(rows)
    with pytest.raises(DataError, match="no rows of full, untagged, joint; expected what right tags"):
        tag_noise.references(rows[:1])


def test_what_is_dropped_at_ten_percent_is_dropped_at_thirty() -> None:
    rng = np.random.default_rng(1)
    present = rng.random((4000, 5)) < 0.4
    known = rng.random((4000, 5)) < 0.9
    few, many = (tag_noise.noisy_tags(present, known, missing, 0.05, 0) for missing in (0.1, 0.3))
    assert not (many & present & ~few).any()
    assert (~few & present).sum() / present.sum() == pytest.approx(0.1, abs=0.01)
    assert (~many & present).sum() / present.sum() == pytest.approx(0.3, abs=0.015)
    for noisy in (few, many):
        assert (noisy & ~present & known).sum() / (~present & known).sum() == pytest.approx(0.05, abs=0.005)
        assert not (noisy & ~present & ~known).any()
