"""Asking the server directly: finding runs, putting two side by side, making one for what a journal cannot keep."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.core.errors import TrackingError
from weakseg.tracking.client import (
    RUN_TAG,
    STAGE_TAG,
    connect,
    deleted_experiment,
    mlflow_errors,
    tagged,
)
from weakseg.tracking.facts import artifact_root, experiment_name, provenance, tracking_uri
from weakseg.tracking.operations import create_run_now


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side; None where a run has no such entry.

    Attributes:
        names: stage names of the two runs.  run_ids: their MLflow ids.
        metrics: (name, a, b, b - a), last values, system/* left out; the difference is NaN if one is missing.
        params: (name, a, b) of the parameters that differ.
    """

    names: tuple[str, str]
    run_ids: tuple[str, str]
    metrics: list[tuple[str, float | None, float | None, float]]
    params: list[tuple[str, str | None, str | None]]


def compare(root: Path, a: str, b: str) -> RunComparison:
    """The last metrics and the differing parameters of two runs, each given as :func:`find_run` takes it."""
    runs = [find_run(root, name) for name in (a, b)]
    left, right = ({k: v for k, v in run.data.metrics.items() if not k.startswith("system/")} for run in runs)
    metrics = []
    for name in sorted(left.keys() | right.keys()):
        one, two = left.get(name), right.get(name)
        metrics.append((name, one, two, math.nan if one is None or two is None else two - one))
    first, second = (run.data.params for run in runs)
    params = [(name, first.get(name), second.get(name)) for name in sorted(first.keys() | second.keys())]
    return RunComparison(
        names=(runs[0].info.run_name, runs[1].info.run_name),
        run_ids=(runs[0].info.run_id, runs[1].info.run_id),
        metrics=metrics,
        params=[row for row in params if row[1] != row[2]],
    )


def find_run(root: Path, name: str) -> Any:
    """The MLflow run of that id, of that ``Run.key``, or the newest run of that stage.

    Raises:
        TrackingError: if there is none, or the server does not answer.
    """
    with mlflow_errors(root):
        client = connect(root)
        experiments = [found.experiment_id for found in client.search_experiments()]
        for tag in (RUN_TAG, STAGE_TAG):
            order = ["attributes.start_time DESC"]
            if found := client.search_runs(experiments, tagged(tag, name), order_by=order, max_results=1):
                return found[0]
        if re.fullmatch("[0-9a-f]{32}", name):
            return client.get_run(name)
        own = client.get_experiment_by_name(experiment_name())
    if own is not None and own.lifecycle_stage == "deleted":
        raise deleted_experiment(str(own.experiment_id), tracking_uri(root), own.name)
    raise TrackingError(
        f"no run {name!r} at {tracking_uri(root)}",
        expected="a run id or a stage that ran, e.g. evaluate@pixel",
        cure="see the runs in `mlflow ui`, or send kept ones with `weakseg runs send`",
    )


def create_run(root: Path, stage: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """The id of a run made at once, and ended: for a model to register, whose artefacts cannot wait in a journal.

    It carries the provenance of this root and, under `mlflow run`, is a child of the project's run.

    Raises:
        TrackingError: if the server does not answer or refuses.
    """
    with mlflow_errors(root):
        client = connect(root)
        from mlflow.entities import Metric

        every = {**provenance(root), STAGE_TAG: stage, **tags}
        run_id = create_run_now(client, stage, every, artifacts=artifact_root(root))
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
    return run_id


def find_evaluation_of_data(root: Path, source: str, md5: str) -> str:
    """The report that the newest run of evaluate@SOURCE on this version of data/ has recorded, "" if there is none.

    Args:
        md5: that data.dvc gave data/ then.

    Raises:
        TrackingError: the server does not answer.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return ""  # asking would make a database
    with mlflow_errors(root):
        client = connect(root)
        experiments = [found.experiment_id for found in client.search_experiments()]
        wanted = f"{tagged(STAGE_TAG, f'evaluate@{source}')} and {tagged('weakseg.data_md5', md5)}"
        runs = client.search_runs(experiments, wanted, order_by=["attributes.start_time DESC"], max_results=1)
    return read_artifact(root, runs[0].info.run_id, "evaluate") if runs else ""


def read_artifact(root: Path, name: str, folder: str) -> str:
    """The text of the one file in this folder of a run's artefacts, "" if there is none.

    Raises:
        TrackingError: as :func:`find_run`.
    """
    run_id = find_run(root, name).info.run_id
    with mlflow_errors(root), tempfile.TemporaryDirectory() as scratch:
        client = connect(root)
        files = [item.path for item in client.list_artifacts(run_id, folder) if not item.is_dir]
        return Path(client.download_artifacts(run_id, files[0], scratch)).read_text() if files else ""
