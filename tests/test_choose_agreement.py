"""scripts/choose_agreement.py: what a choice cost, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scripts.choose_agreement import compare, refiner_table, runs_table, threshold_row, weights_row

from weakseg.core.errors import DataError
from weakseg.methods.refinement import Changes

CHOICE = {
    "chosen": "teacher",
    "level_with": ["fused"],
    "sources": {
        name: {"holdout_miou": {"value": value}} for name, value in {"teacher": 0.7, "fused": 0.6, "pixel": 0.5}.items()
    },
}
REPORT = {"pixel": {"miou": 0.36}, "fused": {"miou": 0.52}, "teacher": {"miou": 0.5}, "full": {"miou": 0.6}}


def test_a_run_by_hand() -> None:
    """The oracle is no candidate; of three pairs of sources one stands the other way round: tau is 1/3."""
    found = compare("dubai", CHOICE, REPORT, ["pixel", "consistency"])
    assert (found.chosen, found.best, found.sources) == ("teacher", "fused", 3)
    assert found.told
    assert found.regret == pytest.approx(0.02)
    assert found.always == {"pixel": pytest.approx(0.16)}
    assert found.tau == pytest.approx(1 / 3)
    last = runs_table([found], ["pixel", "consistency"]).splitlines()[-1]
    assert last == "| dubai | 3 | `teacher` | `fused` | 0.020 | yes | +0.33 | 0.160 | - |"


def test_files_of_two_runs_are_refused() -> None:
    with pytest.raises(DataError, match="dubai: 1 sources in both files"):
        compare("dubai", CHOICE, {"pixel": {"miou": 0.4}}, [])


def test_weights_by_hand() -> None:
    """Of three blocks one alone takes the best; the others lose .04 and .01, all together .01."""
    on_n2 = {(0.0, 0.0): 0.5, (0.25, 0.0): 0.53, (0.5, 0.0): 0.54}
    row = weights_row(on_n2, [(0.0, 0.0), (0.5, 0.0), (0.25, 0.0)], (0.25, 0.0))
    assert row == ["weights of the experts", "0.25, 0", "0.5, 0", "1 of 3", "0.017", "0.010"]


def test_thresholds_by_hand() -> None:
    row = threshold_row({"0": (0.6, 0.5), "1": (0.7, 0.4), "all": (0.75, 0.45), "N2": (0.8, 0.3)}, 2)
    assert row[1:] == ["0.750 at 0.45", "0.800 at 0.30", "-", "0.150", "0.050"]


def test_refiners_by_hand() -> None:
    """On N1 the refiner mends 20 of 100 px of class 0 that class 1 holds, on N2 it takes 20 px from class 1."""
    n1, n2 = np.zeros((8, 2, 3, 3), np.int64), np.zeros((8, 2, 3, 3), np.int64)
    n1[:, 0, 0, 0], n1[:, 0, 1, 0], n1[:, 1, 1, 1] = 80, 20, 80
    n2[:, 0, 0, 0], n2[:, 1, 1, 0], n2[:, 1, 1, 1] = 100, 20, 80
    lines = refiner_table("crf", Changes.of(n1), Changes.of(n2), ("crf",), ("a", "b")).splitlines()
    assert lines[0] == "| crf | a | b | mean |"
    assert lines[2] == "| crf for all | +0.200, -0.167 | +0.200, -0.200 | +0.200, -0.183 |"
    assert lines[3] == "| each class its own | crf: +0.200, -0.167 | crf: +0.200, -0.200 | +0.200, -0.183 |"
