"""scripts/choose_agreement.py: what a choice cost, by hand."""

from __future__ import annotations

import pytest
from scripts.choose_agreement import compare, table

from weakseg.core.errors import DataError

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
    last = table([found], ["pixel", "consistency"]).splitlines()[-1]
    assert last == "| dubai | 3 | `teacher` | `fused` | 0.020 | yes | +0.33 | 0.160 | - |"


def test_files_of_two_runs_are_refused() -> None:
    with pytest.raises(DataError, match="dubai: 1 sources in both files"):
        compare("dubai", CHOICE, {"pixel": {"miou": 0.4}}, [])
