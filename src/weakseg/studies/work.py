"""Running a study: the baseline first, then worker processes that ask, train, report and tell until the budget is used.

Trials are numbered by the storage, one after the other however many workers ask, so the budget is kept exactly: a
worker whose trial comes behind the last one gives it back as surplus. Seeds make a study of one worker repeat exactly;
with several, the order in which trials end decides what TPE sees.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.core.errors import DataError, StageError, WeaksegError
from weakseg.core.params import Params, TuneParams
from weakseg.core.refusals import sentence_for
from weakseg.studies.space import baseline_values, suggest, with_values
from weakseg.studies.study import (
    BASELINE,
    WORKER,
    best_trial,
    counted,
    create_study,
    database_errors,
    load_study,
    make_pruner,
    make_sampler,
    open_storage,
    requeue_abandoned,
    specification,
    this_worker,
)
from weakseg.tracking import track

if TYPE_CHECKING:
    from optuna import Study, Trial

Metrics = Mapping[str, float]
Report = Callable[[int, Metrics], None]
Objective = Callable[[Params, Report], Metrics]
"""(params, report) -> hold-out metrics ``miou`` and ``iou/<class>``; ``report(step, metrics)`` may end the trial.

It must be picklable, because workers are fresh processes."""

_PARENT = "mlflow_parent"


@dataclass(frozen=True)
class Job:
    """All that a worker needs; ``storage`` is None for the workspace's journal file."""

    root: Path
    params: Params
    tune: TuneParams
    objective: Objective
    study: str
    storage: str | None
    parent: str = ""

    @property
    def favoured(self) -> str:
        return self.params.segment.favour.class_name


def tune(
    root: Path,
    params: Params,
    search: TuneParams,
    objective: Objective,
    *,
    study: str,
    storage: str | None = None,
    workers: int = 1,
    resume: bool = False,
    identity: str = "",
    on_end: Callable[[Study], Sequence[Path]] | None = None,
) -> Study:
    """Search on the hold-out until ``search.trials`` trials are done, with ``workers`` processes on this machine.

    Args:
        root: the workspace: its journal file, its MLflow runs.
        params: in force; the untuned values are the first trial, which sets the bounds of the other classes.
        search: the section ``tune``.
        objective: see :data:`Objective`.
        study: its name in the storage.
        storage: database URL for many machines; None is a journal file in the workspace.
        workers: processes; each trains alone, so give a machine as many as it has GPUs, or cores to spare.
        resume: go on with, or join, the study of that name; trials of killed workers are run again.
        identity: digest of the data; a resumed study must have the same.
        on_end: called with the study when it has ended; the files it returns are kept with the study's MLflow run.

    Raises:
        ParamsError: if the space does not fit the params.
        StageError: if the study exists without ``resume``, differs with it, or no trial succeeds.
        TrackingError: if the storage does not answer.
    """
    baseline = baseline_values(params, search.space)
    store, spec = open_storage(root, storage), specification(params, search, identity)
    found = load_study(store, study, spec=spec) if resume else create_study(store, study, search, spec)
    if not resume:
        found.enqueue_trial(baseline, user_attrs={BASELINE: True})
    parent = found.user_attrs.get(_PARENT) or None
    with track("tune", root=root, params=search.model_dump(), tags={"study": study}, parent=parent) as run:
        if parent is None:
            found.set_user_attr(_PARENT, run.key)
        job = Job(root, params, search, objective, study, storage, parent or run.key)
        requeue_abandoned(found)
        if BASELINE not in found.user_attrs:
            work(job, 0, only_baseline=True)
        with database_errors(storage) if storage else contextlib.nullcontext():
            if workers == 1:
                work(job, 0)
            else:
                _supervise(job, found, workers)
        best = best_trial(found)
        run.set_tags({"best_trial": str(best.number)})
        run.log_metrics({f"best/{name}": value for name, value in best.user_attrs["metrics"].items()})
        for file in on_end(found) if on_end is not None else ():
            run.log_artifact(file, "tuning")
    return found


def work(job: Job, worker: int, *, only_baseline: bool = False, parent_pid: int | None = None) -> None:
    """Run trials until the budget is used, or, if ``parent_pid`` is given, that process is gone."""
    from optuna.trial import TrialState

    study = load_study(open_storage(job.root, job.storage), job.study)
    study.sampler = make_sampler(job.tune, worker, len(study.get_trials(deepcopy=False)))
    study.pruner = make_pruner(job.tune)
    while len(counted(study)) < job.tune.trials:
        if parent_pid is not None and os.getppid() != parent_pid:
            return
        trial = study.ask()
        trial.set_user_attr(WORKER, this_worker())
        if sum(number <= trial.number for number in counted(study)) > job.tune.trials:
            study.set_user_attr(f"void:{trial.number}", "surplus")
            study.tell(trial, state=TrialState.FAIL)
            return
        run_trial(study, trial, job)
        if only_baseline and BASELINE in study.user_attrs:
            return


def run_trial(study: Study, trial: Trial, job: Job) -> None:
    """Train once with suggested values inside an MLflow run of its own, and tell the study what came out.

    A WeaksegError of the training (a loss that is not finite, say) fails this trial alone; of the baseline it is
    raised, as is any other error.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    values = suggest(trial, job.tune.space)
    tags = {"study": job.study, "trial": str(trial.number)}
    with track("trial", root=job.root, params=values, tags=tags, parent=job.parent or None) as run:
        seen: dict[str, float] = {}

        def report(step: int, metrics: Metrics) -> None:
            seen.clear()
            seen.update(metrics)
            run.log_metrics(_as_validation(metrics), step=step)
            trial.set_user_attr("heard", time.time())
            if job.tune.objectives == "miou":
                trial.report(metrics["miou"], step)
                if not trial.user_attrs.get(BASELINE) and trial.should_prune():
                    raise TrialPruned

        try:
            metrics = dict(job.objective(with_values(job.params, values), report))
            objectives = _objectives(metrics, job)
        except TrialPruned:
            _bound_others(study, trial, seen, job)
            study.tell(trial, state=TrialState.PRUNED)
            run.set_tags({"state": "pruned"})
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            study.tell(trial, state=TrialState.FAIL)
            run.set_tags({"state": "failed", "error": str(error)[:500]})
            if not isinstance(error, WeaksegError) or trial.user_attrs.get(BASELINE):
                raise
        else:
            trial.set_user_attr("metrics", metrics)
            if trial.user_attrs.get(BASELINE):
                study.set_user_attr(BASELINE, {"number": trial.number, **metrics})
            _bound_others(study, trial, metrics, job)
            study.tell(trial, objectives)
            run.log_metrics(_as_validation(metrics), step=job.tune.steps)
            run.set_tags({"state": "complete"})


def _as_validation(metrics: Metrics) -> dict[str, float]:
    """Under the names that trainings have in MLflow, so that trials and trainings stand in one chart."""
    return {f"val/{name}": value for name, value in metrics.items()}


def _objectives(metrics: Metrics, job: Job) -> list[float]:
    names = ["miou"] if job.tune.objectives == "miou" else ["miou", f"iou/{job.favoured}"]
    try:
        values = [float(metrics[name]) for name in names]
    except KeyError as error:
        raise DataError(
            f"the hold-out gives no {error.args[0]}",
            expected=" and ".join(names),
            cure="set tiles.holdout above 0, and choose N1 areas whose hold-out has that class",
        ) from None
    if any(value != value for value in values):
        raise DataError(f"{names} is NaN", expected="numbers", cure="choose N1 areas whose hold-out has the class")
    return values


def _bound_others(study: Study, trial: Trial, metrics: Metrics, job: Job) -> None:
    """Constraints (feasible at or below 0): no class but the favoured one loses more than the allowance."""
    before: Mapping[str, float] = study.user_attrs.get(BASELINE, {})
    for name, value in metrics.items():
        reference = before.get(name, float("nan"))
        if name.startswith("iou/") and name != f"iou/{job.favoured}" and reference == reference:
            loss = reference - value if value == value else reference  # NaN: no such pixel is left right or wrong
            trial.set_constraint(name, loss - job.tune.allowance)


def _supervise(job: Job, study: Study, workers: int) -> None:
    """Start workers; put a killed one's trial back into the queue and start another in its place."""
    context: Any = multiprocessing.get_context("spawn")
    running: dict[int, Any] = {}
    started, killed, failed = 0, 0, False
    try:
        while True:
            while len(running) < workers and not failed and len(counted(study)) < job.tune.trials:
                running[started] = context.Process(target=_worker, args=(job, started, os.getpid()))
                running[started].start()
                started += 1
            if not running:
                break
            multiprocessing.connection.wait([process.sentinel for process in running.values()])
            for index in [index for index, process in running.items() if not process.is_alive()]:
                process = running.pop(index)
                process.join()
                if process.exitcode < 0:
                    killed += 1
                    requeue_abandoned(study)
                failed |= process.exitcode > 0 or killed > 3 * workers
    finally:
        for process in running.values():
            process.terminate()
    if failed:
        raise StageError(
            f"workers of study {job.study} failed ({killed} were killed)",
            expected="workers that end well",
            cure="see the messages above; mend that, or use fewer --workers, and go on with --resume",
        )


def _worker(job: Job, index: int, parent_pid: int) -> None:
    """The body of a worker process; a WeaksegError is one line, as on the command line."""
    os.environ.setdefault("WEAKSEG_TRACKING_WAIT", "0")  # the sender stays, because the study's run is open
    try:
        with database_errors(job.storage) if job.storage else contextlib.nullcontext():
            work(job, index, parent_pid=parent_pid)
    except Exception as error:
        told = sentence_for(error)
        if told is None:
            raise
        raise SystemExit(f"weakseg: {told}") from error
