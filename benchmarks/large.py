"""Commands where much has been kept: 10^6 metric rows, 500 versions of a model, a study of 2,000 trials, 10,000 areas.

    python benchmarks/large.py [--rows 1000000] [--versions 500] [--trials 2000] [--areas 10000] [--workspace PLACE]

Each is timed where little has been kept and where much has; the target is at most twice the time. Of areas, whose data
grow with them, it is the time per area. With a workspace whose tiles are made, `weakseg tune --resume` (one more trial)
and `weakseg tune apply` are run there as commands, in studies of 50 and of many trials; they stay in its `.weakseg`.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import optuna

from weakseg.core.params import Params, TuneParams, load_params
from weakseg.data.manifest import TagCrops, load_manifest, save_manifest
from weakseg.data.store import list_areas, save_areas
from weakseg.studies import Metrics, Report, best_trial, load_study, open_storage, write_tuning_report
from weakseg.studies.objective import tuning_objective
from weakseg.studies.study import BASELINE, WORKER, counted, create_study, requeue_abandoned, specification
from weakseg.studies.work import Job, work
from weakseg.tracking import connect, create_run, find_run

PARAMS: Final = Path(__file__).parents[1] / "params.yaml"
NAMES: Final = ("a", "b", "c", "d", "e")


def seconds(work: Callable[[], object]) -> float:
    """The best of three, after one to warm up."""
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def metric_rows(root: Path, count: int) -> tuple[float, float]:
    """Finding a run and its metrics, before and after ``count`` rows of other runs are there."""
    runs = [create_run(root, f"segment@{number}", {}, {"loss": 1.0}) for number in range(200)]
    client = connect(root)

    def ask() -> None:
        client.get_metric_history(find_run(root, "segment@7").info.run_id, "loss")

    before = seconds(ask)
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = ((f"m{n % 50}", n / 7, n, n // 50, 0, runs[100 + n % 100]) for n in range(count))
        said = "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
        database.executemany(said, rows)
    return before, seconds(ask)


def versions(root: Path, count: int) -> tuple[float, float]:
    """Asking for the champion, of 2 and of ``count`` versions."""
    client, run = connect(root), create_run(root, "promote@pixel", {}, {})
    client.create_registered_model("land")
    for number in range(2):
        client.create_model_version("land", f"file:///{number}", run, tags={"weakseg.evidence": "{}"})
    client.set_registered_model_alias("land", "champion", "1")

    def ask() -> None:
        client.get_model_version_by_alias("land", "champion")
        client.search_registered_models("name = 'land'")

    before = seconds(ask)
    for number in range(2, count):
        client.create_model_version("land", f"file:///{number}", run, tags={"weakseg.evidence": "{}"})
    return before, seconds(ask)


def trials(root: Path, count: int) -> tuple[float, float]:
    """What a worker asks of a study before a trial, and `tune apply`, of 50 and of ``count`` trials."""
    storage = open_storage(root, None)
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    space = optuna.distributions.FloatDistribution(0, 1)

    def add(number: int) -> None:
        for value in np.random.default_rng(number).random(number):
            made = optuna.trial.create_trial(params={"x": value}, distributions={"x": space}, value=value)
            study.add_trial(made)

    def ask() -> None:
        found = load_study(storage, "s")
        requeue_abandoned(found)
        counted(found)
        best_trial(found)

    add(50)
    before = seconds(ask)
    add(count - 50)
    return before, seconds(ask)


def fill(study: optuna.Study, search: TuneParams, count: int) -> None:
    """Add complete trials with drawn values of the search space, as `weakseg tune` leaves them."""
    space = {path: optuna.distributions.FloatDistribution(r.low, r.high, log=r.log) for path, r in search.space.items()}
    generator, metrics = np.random.default_rng(count), {"miou": 0.5, "iou/car": 0.4}
    study.set_user_attr(BASELINE, {"number": 0, **metrics})
    for _ in range(count):
        study.add_trial(
            optuna.trial.create_trial(
                params={path: float(generator.uniform(r.low, r.high)) for path, r in search.space.items()},
                distributions=space,
                value=float(generator.uniform(0.3, 0.5)),
                intermediate_values={1: 0.3, 2: 0.4, 3: 0.5},
                user_attrs={WORKER: {"host": "here", "pid": 1, "born": 1.0}, "heard": 1.0, "metrics": metrics},
            )
        )


def instant(params: Params, report: Report) -> Metrics:
    """A trial without a training, with three reports."""
    metrics = {"miou": 0.5 - (params.segment.network.dropout - 0.3) ** 2, "iou/car": 0.4}
    for step in (1, 2, 3):
        report(step, metrics)
    return metrics


def tuning(root: Path, count: int) -> tuple[float, float]:
    """Seconds that a trial costs beside its training, of 50 and of ``count``: Optuna's choice, reports, the budget."""
    os.environ["WEAKSEG_TRACKING"] = "off"
    params, taken = load_params(PARAMS), []
    for number in (50, count):
        folder = root / str(number)
        fill(create_study(open_storage(folder, None), "s", params.tune, ""), params.tune, number)
        search = params.tune.model_copy(update={"trials": number + 1})
        work(Job(folder, params, search, instant, "s", None), 0)  # warms up, and reads the journal
        began = time.perf_counter()
        work(Job(folder, params, search.model_copy(update={"trials": number + 11}), instant, "s", None), 0)
        taken.append((time.perf_counter() - began) / 10)
    return taken[0], taken[1]


def drawing(root: Path, count: int) -> tuple[float, float]:
    """Seconds to write reports/tuning of 50 and of ``count`` trials."""
    params, taken = load_params(PARAMS), []
    for number in (50, count):
        study = create_study(open_storage(root / str(number), None), "s", params.tune, "")
        fill(study, params.tune, number)
        taken.append(seconds(partial(write_tuning_report, study, root / "report")))
    return taken[0], taken[1]


def commands(place: Path, count: int) -> dict[str, tuple[float, float]]:
    """Seconds of `weakseg tune --resume`, for one more trial, and of `weakseg tune apply`, by command."""
    os.environ["WEAKSEG_TRACKING"] = "off"
    before = (place / "params.yaml").read_text()
    params = load_params(place / "params.yaml")
    objective = tuning_objective(place, params.tune.source)
    spec = specification(params, params.tune, objective.identity)
    taken: dict[str, list[float]] = {"tune --resume": [], "tune apply": []}
    for number in (50, count):
        name = f"large{number}-{time.time_ns()}"
        fill(create_study(open_storage(place, None), name, params.tune, spec), params.tune, number)
        more = ["--trials", str(number + 1), "--resume"]
        for words in (["tune", "--study", name, *more], ["tune", "apply", "--study", name]):
            began = time.perf_counter()
            command = [sys.executable, "-m", "weakseg", "--root", str(place), *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            taken["tune apply" if "apply" in words else "tune --resume"].append(time.perf_counter() - began)
    (place / "params.yaml").write_text(before)
    return {name: (first, second) for name, (first, second) in taken.items()}


def areas(root: Path, count: int) -> tuple[float, float]:
    """Seconds per area to read the tables of areas and tag crops, of 100 and of ``count`` areas of 16 crops."""
    taken = []
    for number in (100, count):
        names = tuple(f"area{index}" for index in range(number))
        save_areas(root, [(name, "tags", 64, 64) for name in names])
        each = tuple(name for name in names for _ in range(16))
        ids = tuple(f"{name}_{index}" for index, name in enumerate(each))
        known = np.ones((len(each), 5), bool)
        windows = np.tile(np.array([0, 0, 16, 16]), (len(each), 1))
        table = TagCrops(ids, each, ("tags",) * len(each), windows, known, known)
        save_manifest(root / "manifest.csv", table, NAMES)
        taken.append(seconds(lambda: (list_areas(root), load_manifest(root / "manifest.csv", NAMES))))
    return taken[0] / 100, taken[1] / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("rows", 1_000_000), ("versions", 500), ("trials", 2_000), ("areas", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--workspace", type=Path)
    options = vars(parser.parse_args())
    measured = [("areas", areas), ("trials", trials), ("rows", metric_rows), ("versions", versions)]
    for name, measure in (*measured, ("tuning", tuning), ("drawing", drawing)):
        with tempfile.TemporaryDirectory() as folder:
            say(name, *measure(Path(folder), options[name if name in options else "trials"]))
    if place := options["workspace"]:
        for name, (before, after) in commands(place, options["trials"]).items():
            say(f"weakseg {name}", before, after)


def say(name: str, before: float, after: float) -> None:
    print(f"{name}: {before * 1e3:.2f} ms to {after * 1e3:.2f} ms ({after / before:.2f} times)", flush=True)


if __name__ == "__main__":
    main()
