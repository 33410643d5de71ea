"""One Optuna study: where it is kept, how trials of killed workers come back, which trial is the best."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.core.errors import StageError, TrackingError
from weakseg.core.params import Params, TuneParams
from weakseg.core.passwords import without_passwords
from weakseg.core.processes import birth_of, is_at_work
from weakseg.studies.space import with_values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

BASELINE, SPEC, WORKER = "baseline", "spec", "worker"  # attributes of studies and trials
RETRIES = 2  # of a trial whose worker was killed
SILENCE = 3600.0  # seconds without a report after which a trial of another host counts as abandoned


def journal_of(root: Path) -> Path:
    """The default storage; `optuna-dashboard` opens this file."""
    return root / ".weakseg" / "tuning.journal"


def open_storage(root: Path, url: str | None) -> BaseStorage:
    """The journal file of the workspace, or the database at ``url`` that many machines share.

    Raises:
        TrackingError: if the database does not answer.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        with database_errors(url):
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})  # a server may restart in a night
    file = journal_of(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / ".gitignore").write_text("*\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """What a database of studies, at ``url``, refuses, as a TrackingError."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError) as problem:
        problem = problem.__cause__ if isinstance(problem.__cause__, SQLAlchemyError) else problem
        wrong = isinstance(problem, ArgumentError | ImportError)
        raise TrackingError(
            f"Optuna storage {url}: {without_passwords(str(problem)).splitlines()[0][:140]}",
            expected="a database URL like postgresql+psycopg://user@host/name" if wrong else "a database that answers",
            cure="mend --storage, or install its driver" if wrong else "start it, and go on with --resume",
        ) from problem


def specification(params: Params, tune: TuneParams, identity: str) -> str:
    """A digest of all that makes trials comparable: params but for the tuned values, the search, the data."""
    fixed = with_values(params, {path: limits.low for path, limits in tune.space.items()}).model_dump(mode="json")
    for name in ("tune", "evaluate", "report", "promote"):
        fixed.pop(name, None)
    search = tune.model_dump(mode="json", exclude={"trials"})
    return hashlib.sha256(json.dumps([fixed, search, identity], sort_keys=True).encode()).hexdigest()[:16]


def create_study(storage: BaseStorage, name: str, tune: TuneParams, spec: str) -> Study:
    """Make the study; one of that name raises StageError."""
    import optuna

    names = ["mIoU"] if tune.objectives == "miou" else ["mIoU", "class IoU"]
    directions = [optuna.study.StudyDirection.MAXIMIZE] * len(names)
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        raise StageError(
            f"study {name} is there", expected="a new one", cure="go on with --resume, or choose another --study"
        ) from None
    study.set_user_attr(SPEC, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)
    return study


def load_study(
    storage: BaseStorage, name: str, *, spec: str | None = None, sampler: Any = None, pruner: Any = None
) -> Study:
    """The study of that name; a missing one, or one made from other params or data, raises StageError."""
    import optuna

    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        known = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise StageError(f"no study {name}", expected=f"one of: {known}", cure="run `weakseg tune` first") from None
    if spec is not None and study.user_attrs.get(SPEC) != spec:
        raise StageError(
            f"study {name} was made from other params, another search or other data",
            expected="the same, tuned values and tune.trials apart",
            cure="undo the change, or start another --study",
        )
    return study


def make_sampler(tune: TuneParams, worker: int, seen: int) -> Any:
    """TPE, seeded by the study, the worker and the trials seen: one worker repeats exactly, none repeats another."""
    import numpy as np
    import optuna

    seed = int(np.random.SeedSequence([tune.seed, worker, seen]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=tune.startup)


def make_pruner(tune: TuneParams) -> Any:
    """The median of the trials so far, or none."""
    import optuna

    if tune.pruner == "none" or tune.objectives != "miou":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=tune.startup)


def counted(study: Study) -> list[int]:
    """Numbers of the trials that count towards the budget: all but waiting, retried and surplus ones."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    void = {int(name.removeprefix("void:")) for name in study.user_attrs if name.startswith("void:")}
    return [t.number for t in trials if t.state != TrialState.WAITING and t.number not in void]


def this_worker() -> dict[str, Any]:
    """Who runs a trial, as kept with it."""
    return {"host": platform.node(), "pid": os.getpid(), "born": birth_of()}


def requeue_abandoned(study: Study) -> list[int]:
    """Mark RUNNING trials whose worker is gone as FAIL and put their values into the queue; returns their numbers."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_abandoned(trial):
            continue
        retries = int(trial.user_attrs.get("retries", 0))
        if retries < RETRIES:
            study.set_user_attr(f"void:{trial.number}", "its worker was killed")
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):  # another machine was faster
            continue
        found.append(trial.number)
        if retries < RETRIES:
            kept = {"retry_of": trial.number, "retries": retries + 1}
            role = {BASELINE: True} if trial.user_attrs.get(BASELINE) else {}
            study.enqueue_trial(trial.params, user_attrs={**kept, **role})
    return found


def _is_abandoned(trial: FrozenTrial) -> bool:
    """On this host: no such process. On another: silent for an hour."""
    worker, started = trial.user_attrs.get(WORKER), trial.datetime_start
    heard = float(trial.user_attrs.get("heard", started.timestamp() if started else 0.0))
    if worker is None or worker["host"] != platform.node():
        return time.time() - heard > (SILENCE if worker else 60.0)
    return not is_at_work(worker["pid"], worker["born"])


def best_trial(study: Study, number: int | None = None) -> FrozenTrial:
    """The trial to apply: that ``number``, or the feasible one with the highest (mean) objective.

    Raises:
        StageError: if the study has no such trial that was completed.
    """
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if number is None:
        candidates = [t for t in complete if all(v <= 0 for v in t.constraints.values())]
    else:
        candidates = [t for t in complete if t.number == number]
    if not candidates:
        raise StageError(
            f"study {study.study_name} has no completed trial" + (f" {number}" if number is not None else " in bounds"),
            expected="one to apply",
            cure="run more trials with --resume, or name another one",
        )
    return max(candidates, key=_mean_objective)


def _mean_objective(trial: FrozenTrial) -> float:
    return float(sum(trial.values) / len(trial.values))
