"""Tuning: the budget is exact, killed trials come back, bounds hold, and the best values change params.yaml alone.

The objectives are quadratics; module level, because workers are fresh processes that import them.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from weakseg.core.errors import DataError, ParamsError, StageError, TrackingError
from weakseg.core.params import Params, load_params
from weakseg.studies import (
    Metrics,
    Range,
    Report,
    TuneParams,
    apply_best,
    best_trial,
    load_study,
    open_storage,
    tune,
    write_tuning_report,
)
from weakseg.studies.space import baseline_values, value_at, with_values
from weakseg.studies.study import requeue_abandoned

DEMO = Path(__file__).parents[2] / "params.yaml"
DROPOUT, WEIGHT, FAVOUR = "segment.network.dropout", "segment.class_weights.car", "segment.favour.probability"
SPACE = {
    DROPOUT: Range(low=0.0, high=0.6, log=False),
    WEIGHT: Range(low=1.0, high=8.0, log=True),
    FAVOUR: Range(low=0.0, high=0.8, log=False),
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "WEAKSEG_")) or name == "RANK":
            monkeypatch.delenv(name)
    monkeypatch.setenv("WEAKSEG_TRACKING", "off")


@pytest.fixture
def params() -> Params:
    return load_params(DEMO)


def search(**changes: Any) -> TuneParams:
    fields: dict[str, Any] = {
        "source": "pixel",
        "trials": 8,
        "steps": 10,
        "seed": 3,
        "objectives": "miou",
        "allowance": 0.02,
        "pruner": "none",
        "startup": 3,
        "space": SPACE,
    }
    return TuneParams(**(fields | changes))


def bowl(params: Params, report: Report) -> Metrics:
    """Best at dropout 0.5; the tree class loses what dropout exceeds 0.3."""
    dropout = params.segment.network.dropout
    miou = 0.8 - (dropout - 0.5) ** 2
    tree = 0.7 - max(0.0, dropout - 0.3)
    metrics = {"miou": miou, "iou/car": params.segment.class_weights["car"] / 10, "iou/tree": tree}
    report(1, metrics)
    return metrics


def numbers(study: Any, state: TrialState) -> list[int]:
    return [trial.number for trial in study.trials if trial.state == state]


# ---- the space ------------------------------------------------------------------------------------------------------


def test_values_are_read_and_replaced_by_their_path(params: Params) -> None:
    assert value_at(params, DROPOUT) == params.segment.network.dropout
    assert value_at(params, "segment.class_weights.tree") == 1.0  # not named there: weighs 1
    changed = with_values(params, {DROPOUT: 0.4, "segment.class_weights.tree": 2.5})
    assert changed.segment.network.dropout == 0.4
    assert changed.segment.class_weights == {**params.segment.class_weights, "tree": 2.5}
    assert changed.tiles == params.tiles
    assert params.segment.network.dropout == load_params(DEMO).segment.network.dropout


@pytest.mark.parametrize("path", ["segment.optimiser.lr", "segment.augment.colour", "students.pseudo_weight.fused"])
def test_the_wider_space_of_the_docs_can_be_searched(tmp_path: Path, params: Params, path: str) -> None:
    """Learning rate, augmentation strength and pseudo-label weight, beside the three of the demo."""
    assert path in (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()
    before = value_at(params, path)
    space = {**params.tune.space, path: Range(low=before / 4, high=before * 4, log=True)}
    options = params.tune.model_copy(update={"space": space, "trials": 4})
    seen: list[float] = []

    def objective(tried: Params, report: Report) -> Metrics:
        seen.append(value_at(tried, path))
        return {"miou": 0.5, "iou/car": 0.5}

    tune(tmp_path, params, options, objective, study="wide")
    assert seen[0] == before
    assert len(set(seen)) == 4
    assert all(before / 4 <= value <= before * 4 for value in seen)


@pytest.mark.parametrize("path", ["segment.dropout", "segment.network.name", "nowhere.x", "dropout"])
def test_a_path_that_is_no_number_is_refused(params: Params, path: str) -> None:
    with pytest.raises(ParamsError, match=r"mend tune\.space"):
        value_at(params, path)


def test_a_value_that_params_forbid_is_refused(params: Params) -> None:
    with pytest.raises(ParamsError, match=r"segment\.network\.dropout = 1\.5.*narrow tune\.space"):
        with_values(params, {DROPOUT: 1.5})


def test_the_value_in_force_must_lie_in_its_range(params: Params) -> None:
    with pytest.raises(ParamsError, match=r"expected a value in its range 0\.9 to 1"):
        baseline_values(params, {DROPOUT: Range(low=0.9, high=1.0, log=False)})


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 1.0, False), (2.0, 1.0, False), (0.0, 1.0, True)])
def test_ranges_are_checked(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match="low must be below high"):
        Range(low=low, high=high, log=log)


# ---- the search -----------------------------------------------------------------------------------------------------


def test_a_study_repeats_exactly_and_starts_from_the_values_in_force(tmp_path: Path, params: Params) -> None:
    first = tune(tmp_path / "a", params, search(), bowl, study="s")
    again = tune(tmp_path / "b", params, search(), bowl, study="s")
    assert [trial.params for trial in first.trials] == [trial.params for trial in again.trials]
    assert len(numbers(first, TrialState.COMPLETE)) == len(first.trials) == 8
    assert first.trials[0].params == baseline_values(params, SPACE)
    assert first.user_attrs["baseline"]["miou"] == pytest.approx(0.8 - (params.segment.network.dropout - 0.5) ** 2)
    other = tune(tmp_path / "c", params, search(seed=4), bowl, study="s")
    assert [t.params for t in other.trials][1:] != [t.params for t in first.trials][1:]


def test_no_other_class_may_fall_by_more_than_the_allowance(tmp_path: Path, params: Params) -> None:
    study = tune(tmp_path, params, search(trials=20, allowance=0.02), bowl, study="s")
    trees = {trial.number: trial.user_attrs["metrics"]["iou/tree"] for trial in study.trials}
    refused = [number for number, tree in trees.items() if tree < 0.7 - 0.02]
    assert refused  # the objective alone pulls there
    infeasible = [t.number for t in study.trials if any(value > 0 for value in t.constraints.values())]
    assert infeasible == refused
    assert all(set(trial.constraints) == {"iou/tree"} for trial in study.trials)  # the favoured class is free
    best = best_trial(study)
    assert best.number not in refused
    assert best.value == max(t.value for t in study.trials if t.number not in refused)
    assert best.number == study.best_trial.number
    assert best.params[DROPOUT] <= 0.3 + 0.02  # where the tree class reaches its bound


def staircase(params: Params, report: Report) -> Metrics:
    value = params.segment.network.dropout
    for step in range(1, 6):
        report(step, {"miou": value * step / 5, "iou/car": value})
    return {"miou": value, "iou/car": value}


def test_bad_trials_are_pruned_but_never_the_baseline(tmp_path: Path, params: Params) -> None:
    low = with_values(params, {DROPOUT: 0.0})  # the worst value there is
    study = tune(tmp_path, low, search(trials=12, pruner="median"), staircase, study="s")
    pruned = numbers(study, TrialState.PRUNED)
    assert pruned
    assert study.trials[0].state == TrialState.COMPLETE
    best = best_trial(study)
    assert all(study.trials[number].params[DROPOUT] <= best.params[DROPOUT] for number in pruned)


def test_two_objectives_give_a_front(tmp_path: Path, params: Params) -> None:
    study = tune(tmp_path, params, search(trials=10, objectives="miou_and_class", allowance=1.0), bowl, study="s")
    assert len(study.directions) == 2
    assert [t.values[1] for t in study.trials] == pytest.approx([t.params[WEIGHT] / 10 for t in study.trials])
    assert best_trial(study).number in {trial.number for trial in study.best_trials}
    assert {p.name for p in write_tuning_report(study, tmp_path / "reports")} >= {"history.png", "parallel.png"}


def sometimes_diverges(params: Params, report: Report) -> Metrics:
    if params.segment.network.dropout > 0.35:
        raise StageError("loss nan at step 3", expected="a finite loss", cure="lower the learning rate")
    return {"miou": 0.5, "iou/car": 0.5}


def test_a_training_that_fails_costs_its_trial_only(tmp_path: Path, params: Params) -> None:
    study = tune(tmp_path, params, search(), sometimes_diverges, study="s")
    failed = numbers(study, TrialState.FAIL)
    assert failed
    assert len(study.trials) == 8  # they count: a space full of them must end too
    assert study.trials[failed[0]].user_attrs["error"].startswith("StageError: loss nan at step 3")
    with pytest.raises(StageError, match="loss nan"):
        tune(tmp_path, with_values(params, {DROPOUT: 0.5}), search(), sometimes_diverges, study="baseline fails")


def blind(params: Params, report: Report) -> Metrics:
    return {}


def test_a_missing_holdout_is_named(tmp_path: Path, params: Params) -> None:
    with pytest.raises(DataError, match=r"hold-out gives no miou.*set tiles\.holdout above 0"):
        tune(tmp_path, params, search(), blind, study="s")


# ---- going on -------------------------------------------------------------------------------------------------------


def test_resume_goes_on_and_refuses_another_search(tmp_path: Path, params: Params) -> None:
    tune(tmp_path, params, search(trials=4), bowl, study="s", identity="data")
    with pytest.raises(StageError, match="go on with --resume"):
        tune(tmp_path, params, search(trials=4), bowl, study="s", identity="data")
    tuned = with_values(params, {DROPOUT: 0.3})  # as after `tune apply`
    study = tune(tmp_path, tuned, search(trials=7), bowl, study="s", resume=True, identity="data")
    assert len(study.trials) == 7
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 7  # new draws, not the first ones again
    others: list[Callable[[], Any]] = [
        lambda: tune(tmp_path, params, search(allowance=0.1), bowl, study="s", resume=True, identity="data"),
        lambda: tune(tmp_path, params, search(), bowl, study="s", resume=True, identity="other data"),
        lambda: tune(
            tmp_path,
            with_values(params, {"segment.crop": params.segment.crop + 16}),
            search(),
            bowl,
            study="s",
            resume=True,
            identity="data",
        ),
    ]
    for other in others:
        with pytest.raises(StageError, match="was made from other params"):
            other()
    with pytest.raises(StageError, match="no study t; expected one of: s"):
        tune(tmp_path, params, search(), bowl, study="t", resume=True)


@dataclass(frozen=True)
class Killed:
    """Kills the first worker that comes; the others go on when all three have come."""

    folder: Path
    baseline: float

    def __call__(self, params: Params, report: Report) -> Metrics:
        if params.segment.network.dropout != self.baseline:
            (self.folder / f"pid{os.getpid()}").touch()
            try:
                (self.folder / "killed").mkdir()
            except FileExistsError:
                deadline = time.monotonic() + 60
                while len(list(self.folder.glob("pid*"))) < 3 and time.monotonic() < deadline:
                    time.sleep(0.02)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return bowl(params, report)


def test_two_workers_share_a_study_and_a_killed_trial_is_run_again(tmp_path: Path, params: Params) -> None:
    objective = Killed(tmp_path, params.segment.network.dropout)
    study = tune(tmp_path, params, search(trials=9), objective, study="s", workers=2)
    assert len(list(tmp_path.glob("pid*"))) == 3  # two workers, and the one that replaced the killed one
    void = {int(name.removeprefix("void:")): why for name, why in study.user_attrs.items() if name.startswith("void:")}
    killed = [number for number, why in void.items() if why == "its worker was killed"]
    assert len(killed) == 1
    again = [trial for trial in study.trials if trial.user_attrs.get("retry_of") == killed[0]]
    assert [trial.params for trial in again] == [study.trials[killed[0]].params]
    assert again[0].state == TrialState.COMPLETE
    assert len(numbers(study, TrialState.COMPLETE)) == 9  # the budget, exactly
    assert numbers(study, TrialState.FAIL) == sorted(void)
    assert numbers(study, TrialState.RUNNING) == []


def test_a_trial_is_run_again_twice_at_most(tmp_path: Path, params: Params) -> None:
    study = tune(tmp_path, params, search(trials=2), bowl, study="s")
    gone = {"host": platform.node(), "pid": 2**22 + 1, "born": 0.0}
    study.enqueue_trial({DROPOUT: 0.1, WEIGHT: 2.0, FAVOUR: 0.5})
    for attempt in range(3):
        trial = study.ask()
        values = {path: trial.suggest_float(path, r.low, r.high, log=r.log) for path, r in SPACE.items()}
        assert values == pytest.approx({DROPOUT: 0.1, WEIGHT: 2.0, FAVOUR: 0.5})
        trial.set_user_attr("worker", gone)
        assert requeue_abandoned(study) == [2 + attempt]
        assert requeue_abandoned(study) == []
        assert (f"void:{trial.number}" in study.user_attrs) == (attempt < 2)
    assert numbers(study, TrialState.WAITING) == []


def test_a_running_trial_of_a_living_worker_is_left_alone(tmp_path: Path, params: Params) -> None:
    from weakseg.studies.study import this_worker

    study = tune(tmp_path, params, search(trials=2), bowl, study="s")
    mine, abroad = study.ask(), study.ask()
    mine.set_user_attr("worker", this_worker())
    abroad.set_user_attr("worker", {"host": "elsewhere", "pid": 1, "born": 0.0})
    assert requeue_abandoned(study) == []
    abroad.set_user_attr("heard", time.time() - 3700)
    assert requeue_abandoned(study) == [abroad.number]


def test_a_database_serves_as_well_and_a_wrong_one_is_named(tmp_path: Path, params: Params) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = tune(tmp_path, params, search(trials=3), bowl, study="s", storage=url)
    assert len(load_study(open_storage(tmp_path, url), "s").trials) == len(study.trials) == 3
    with pytest.raises(TrackingError, match=r"mend --storage"):
        open_storage(tmp_path, "no url")
    with pytest.raises(TrackingError, match="start it") as caught:
        open_storage(tmp_path, f"sqlite:///{tmp_path}/missing/optuna.db")
    assert "missing" in str(caught.value)


# ---- results --------------------------------------------------------------------------------------------------------


def test_apply_changes_the_tuned_values_and_nothing_else(tmp_path: Path, params: Params) -> None:
    file = tmp_path / "params.yaml"
    shutil.copy(DEMO, file)
    study = tune(tmp_path, params, search(), bowl, study="s")
    best = best_trial(study)
    changed = apply_best(study, file)
    assert set(changed) == set(SPACE)
    before, after = DEMO.read_text().splitlines(), file.read_text().splitlines()
    lines = [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[0] in "+-"][2:]
    assert len(lines) == 6  # three lines out, three lines in
    assert load_params(file) == with_values(params, {path: float(f"{v:.4g}") for path, v in best.params.items()})
    assert apply_best(study, file) == {}
    apply_best(study, file, number=0)  # the baseline: back where we were
    assert load_params(file) == params
    with pytest.raises(StageError, match="no completed trial 99"):
        apply_best(study, file, number=99)


def test_the_report_has_pictures_a_table_and_the_best(tmp_path: Path, params: Params) -> None:
    study = tune(tmp_path, params, search(), bowl, study="s")
    written = write_tuning_report(study, tmp_path / "reports")
    pictures = [path for path in written if path.suffix == ".png"]
    assert [path.name for path in pictures] == ["history.png", "importance.png", "parallel.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in pictures)
    rows = list(csv.DictReader((tmp_path / "reports" / "trials.csv").open()))
    assert [float(row[f"params_{DROPOUT}"]) for row in rows] == pytest.approx(
        [trial.params[DROPOUT] for trial in study.trials], abs=1e-5
    )
    summary = json.loads((tmp_path / "reports" / "study.json").read_text())
    assert summary["best"]["number"] == best_trial(study).number
    assert summary["states"]["complete"] == 8


def test_trials_are_runs_under_the_run_of_their_study(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    study = tune(tmp_path, params, search(trials=2), bowl, study="s")
    tune(tmp_path, params, search(trials=3), bowl, study="s", resume=True)
    starts = []
    for file in sorted((tmp_path / ".weakseg" / "spool").glob("*/journal.jsonl")):
        starts.append(json.loads(file.read_text().splitlines()[0]))
    parents = {start["tags"].get("trial", start["stage"]): start["parent"] for start in starts}
    key = load_study(open_storage(tmp_path, None), "s").user_attrs["mlflow_parent"]
    assert next(start["key"] for start in starts if start["stage"] == "tune") == key
    assert {parents[number] for number in ("0", "1", "2")} == {key}
    lines = [json.loads(line) for line in sorted(tmp_path.glob(".weakseg/spool/*trial*/journal.jsonl"))[0].open()]
    assert next(line["values"] for line in lines if line["op"] == "params")[DROPOUT] == str(
        study.trials[0].params[DROPOUT]
    )
    logged = {name: value for line in lines if line["op"] == "metrics" for name, value in line["values"].items()}
    assert logged["val/miou"] == study.user_attrs["baseline"]["miou"]
    assert [line["values"] for line in lines if line["op"] == "tags"] == [{"state": "complete"}]
