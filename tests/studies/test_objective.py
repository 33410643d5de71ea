"""The real objective trains what the segment stage trains, and leaves no trace in the workspace."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from weakseg.core.errors import StageError
from weakseg.core.params import load_params
from weakseg.stages import segment, tiles
from weakseg.studies.objective import shorten, tuning_objective
from weakseg.studies.space import with_values


def test_a_trial_is_the_training_of_the_segment_stage(workspace: Path) -> None:
    with pytest.raises(StageError, match="run `dvc repro` first"):
        tuning_objective(workspace, "pixel")
    tiles.run(workspace)
    segment.run(workspace, "pixel")
    truth = json.loads((workspace / "reports" / "segment" / "pixel.json").read_text())["seed0"]
    params = load_params(workspace / "params.yaml")
    objective = pickle.loads(pickle.dumps(tuning_objective(workspace, "pixel")))
    seen: list[tuple[int, Mapping[str, float]]] = []
    metrics = objective(params, lambda step, row: seen.append((step, row)))
    assert metrics["miou"] == pytest.approx(truth["holdout/miou"], abs=1e-6)
    assert {f"holdout/{name}" for name in metrics} == set(truth)
    assert [step for step, _ in seen] == [2]  # of 4 steps: the last report is the result itself
    before = sorted(path.relative_to(workspace) for path in (workspace / "out").rglob("*"))
    changed = objective(with_values(params, {"segment.optimiser.lr": 0.0001}), lambda step, row: None)
    assert changed["miou"] != metrics["miou"]
    assert sorted(path.relative_to(workspace) for path in (workspace / "out").rglob("*")) == before
    assert list((workspace / ".weakseg" / "trials").iterdir()) == []
    with pytest.raises(StageError, match="full opens hidden truth"):
        tuning_objective(workspace, "full")


def test_a_trial_has_its_own_number_of_steps_and_as_many_reports(workspace: Path) -> None:
    params = load_params(workspace / "params.yaml")
    short = shorten(with_values(params, {"segment.optimiser.steps": 1000, "segment.optimiser.report_every": 100}))
    assert (short.segment.optimiser.steps, short.segment.optimiser.report_every) == (4, 1)  # tune.steps is 4
    half = shorten(with_values(params, {"segment.optimiser.steps": 8, "segment.optimiser.report_every": 4}))
    assert (half.segment.optimiser.steps, half.segment.optimiser.report_every) == (4, 2)
    assert half.segment.network == params.segment.network


def test_a_killed_trial_goes_on_from_its_last_report(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles.run(workspace)
    params = load_params(workspace / "params.yaml")
    params = with_values(params, {"segment.optimiser.steps": 6, "tune.steps": 6})
    objective = tuning_objective(workspace, "pixel")
    whole = objective(params, lambda step, row: None)

    class Kill(BaseException):
        """Stands for SIGKILL: nothing is cleared up."""

    def stop(step: int, metrics: Mapping[str, float]) -> None:
        if step == 4:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr("weakseg.studies.objective.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Kill):
            objective(params, stop)
    seen: list[int] = []
    assert objective(params, lambda step, row: seen.append(step)) == whole
    assert seen == [4]  # step 2 was not trained again
