"""Commands where much has been kept: 10^6 metric rows, 500 versions of a model, a study of 2,000 trials, 10,000 areas.

    python benchmarks/large.py [--rows 1000000] [--versions 500] [--trials 2000] [--areas 10000]

Each is timed where little has been kept and where much has; the target is at most twice the time. Of areas, whose data
grow with them, it is the time per area.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import optuna

from weakseg.data.manifest import TagCrops, load_manifest, save_manifest
from weakseg.data.store import list_areas, save_areas
from weakseg.studies import best_trial, load_study, open_storage
from weakseg.studies.study import counted, requeue_abandoned
from weakseg.tracking import connect, create_run, find_run

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
    options = vars(parser.parse_args())
    for name, measure in (("areas", areas), ("trials", trials), ("rows", metric_rows), ("versions", versions)):
        with tempfile.TemporaryDirectory() as folder:
            before, after = measure(Path(folder), options[name])
        print(f"{name}: {before * 1e3:.2f} ms to {after * 1e3:.2f} ms ({after / before:.2f} times)", flush=True)


if __name__ == "__main__":
    main()
