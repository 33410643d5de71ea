"""What the page reads of a study: a summary as `weakseg tune` writes it, its plots, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weakseg.core.errors import StageError
from weakseg.report.tuning_content import read_tuning

SUMMARY = {
    "study": "night",
    "states": {"complete": 2, "pruned": 1, "fail": 0},
    "baseline": {"number": 0, "miou": 0.35, "iou/car": 0.1},
    "best": {"number": 2, "params": {"segment.network.dropout": 0.3}, "metrics": {"miou": 0.375}},
}


def test_a_study_is_read_with_the_plots_it_has(tmp_path: Path) -> None:
    assert read_tuning(tmp_path / "tuning") is None
    (tmp_path / "study.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "history.png").write_bytes(b"\x89PNG")  # too few trials for the two other plots
    study = read_tuning(tmp_path)
    assert study is not None
    assert (study.name, study.states, study.number) == ("night", {"complete": 2, "pruned": 1}, 2)
    assert (study.untuned, study.best, study.values) == (0.35, 0.375, {"segment.network.dropout": 0.3})
    assert [(plot.key, plot.data) for plot in study.pictures] == [("history", b"\x89PNG")]


@pytest.mark.parametrize("text", ["not json", "[]", '{"study": "a"}', json.dumps({**SUMMARY, "baseline": None})])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StageError, match=r"no summary of a study .*run `weakseg tune --resume`"):
        read_tuning(tmp_path)
