"""benchmarks/next.py and next_bought.py: their arithmetic, and that docs/tagging.md says what the rows say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import next as orders
from benchmarks import next_bought

from weakseg.core.class_sets import Allowed
from weakseg.labels.tags import allowed_raster
from weakseg.methods.selftrain import expected_shares
from weakseg.networks.class_sets import AllowedBatch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "demo_orders"


def masks(rows: list[dict[str, Any]], order: str) -> list[float]:
    """mIoU of the map of N2 by seed and budget."""
    mine = [row for row in rows if (row["look"], row["order"]) == (0, order)]
    return [row["masks"] for row in sorted(mine, key=lambda row: (row["seed"], row["budget"]))]


def rows_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / name).read_text())
    return found


def test_the_page_has_the_table_of_the_committed_points() -> None:
    rows = rows_of("next.json")
    page = (ROOT / "docs" / "tagging.md").read_text()
    assert {(row["look"], row["seed"]) for row in rows} == {(look, seed) for look in (0, 1) for seed in (0, 1, 2)}
    assert orders.describe([row for row in rows if row["look"] == 0]) in page
    *others, last = re.findall(r"(\d+) %", orders.describe([row for row in rows if row["look"] == 1]).splitlines()[-1])
    assert f"(`--look 1`; nobody has measured it yet), it is {', '.join(others)} and {last} %." in page
    for order in ("random", "entropy", "whole"):  # next is above it in every seed at every budget
        assert all(mine > theirs for mine, theirs in zip(masks(rows, "next"), masks(rows, order), strict=True))


def test_the_page_has_the_table_of_what_was_bought_and_of_what_it_taught() -> None:
    page = (ROOT / "docs" / "tagging.md").read_text()
    assert next_bought.table(rows_of("bought.json")) in page
    trained = json.loads((RESULTS / "ablation.json").read_text())["rows"]
    for name in ("all, 1288 crops", *(f"{order}, 320 crops" for order in ("random", "next", "whole", "entropy"))):
        mine = {row["seed"]: row["miou"] for row in trained if row["name"] == name}
        assert sorted(mine) == [0, 1, 2]
        seeds = ", ".join(f"{mine[seed]:.3f}"[1:] for seed in (0, 1, 2))
        assert f"| {name} | {np.mean(list(mine.values())):.3f} ({seeds}) |".replace("| 0.", "| .") in page


def test_seconds_for_the_same_map_by_hand() -> None:
    """Theirs: .1 more after 100 s, .2 more after 200 s. Mine has .1 after 50 s and .15 after 150 s, and never .2."""
    theirs = [(0.0, 0.5), (100.0, 0.6), (200.0, 0.7)]
    assert orders.share_of_seconds([(0.0, 0.5), (50.0, 0.6), (150.0, 0.65)], theirs) == [
        pytest.approx(0.5),
        pytest.approx(float("nan"), nan_ok=True),
    ]
    assert orders.share_of_seconds([(0.0, 0.5), (80.0, 0.7)], theirs) == [pytest.approx(0.4), pytest.approx(0.4)]
    assert orders.share_of_seconds(theirs, theirs) == [1.0, 1.0]


def test_shares_told_are_those_of_the_share_loss() -> None:
    """Three crops side by side: all said, one class said, nothing said."""
    present = np.array([[True, False, True], [True, True, False], [False, True, True]])
    told = np.array([[True, True, True], [False, False, True], [False, False, False]])
    typical = np.array([0.6, 0.3, 0.1])
    found = next_bought.shares_told(told, present, typical, np.full(3, 16.0))
    windows = [(0, 4 * i, 4, 4) for i in range(3)]
    allowed: Allowed = allowed_raster(4, 12, windows, present & told, told)
    batch = AllowedBatch(torch.from_numpy(np.asarray(allowed.numbers))[None], torch.from_numpy(allowed.sets))
    assert found == pytest.approx(expected_shares(batch, torch.tensor(typical).float())[0].numpy(), abs=1e-6)
    by_hand = (np.array([6 / 7, 0, 1 / 7]) + np.array([2 / 3, 1 / 3, 0]) + typical) / 3
    assert found == pytest.approx(by_hand)


def test_what_was_bought_by_hand() -> None:
    """Two crops of 10 px: all of the first was asked, the map errs in half of it and nowhere else."""
    present, counts = np.array([[True, False], [True, True]]), np.array([[10.0, 0.0], [5.0, 5.0]])
    told = np.array([[True, True], [False, False]])
    found = next_bought.describe_bought(told, present, counts, np.array([0.5, 0.0]), np.array([0.5, 0.5]))
    assert found == {
        "crops": 1.0,
        "error": 0.5,
        "classes": 1.0,
        "no": 0.5,
        "told": pytest.approx(0.0),
        "typical": pytest.approx(50.0),
    }
    nothing = next_bought.describe_bought(~told & told, present, counts, np.array([0.5, 0.0]), np.array([0.5, 0.5]))
    assert nothing == {"crops": 0.0, "told": pytest.approx(50.0)}  # half each, where three quarters are one
    assert next_bought.table([{"order": "none", **nothing}]).endswith("| none | 0 | - | - | - | 50.0 | - |")
