"""What each line of a journal means to MLflow: runs and their parents, metrics, params, tags, data sets, files."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weakseg.core.passwords import without_passwords
from weakseg.tracking.client import PIPELINE_TAG, RUN_TAG, STAGE_TAG, deleted_experiment, mlflow_exception, tagged
from weakseg.tracking.facts import experiment_name
from weakseg.tracking.journal import State

_PARENT_TAG = "mlflow.parentRunId"
_PERMANENT = {400, 413, 422}  # answers that no retry changes; everything else is tried again


def create_run(client: Any, start: Mapping[str, Any]) -> State:
    """Find or create the run of a journal under its parent (see the module)."""
    if start["parent_id"] and not start["parent"]:
        experiment = _experiment_of(client, start["parent_id"])
        if experiment is not None:
            return State(run_id=_own_run(client, experiment, start, start["parent_id"]))
    experiment = _experiment(client, start["experiment"], start["artifacts"])
    if start["parent"]:
        parent_id = _parent_run(client, experiment, start, start["parent"], "parent")
        return State(run_id=_own_run(client, experiment, start, parent_id))
    parent_id = _parent_run(client, experiment, start, f"pipeline-{start['pipeline']}", "pipeline")
    client.update_run(parent_id, status="RUNNING")
    client.log_batch(parent_id, tags=_tag_entities(start["provenance"]))  # dvc.lock grows from stage to stage
    return State(run_id=_own_run(client, experiment, start, parent_id), pipeline_id=parent_id)


def create_run_now(client: Any, name: str, tags: Mapping[str, str], *, artifacts: str | None) -> str:
    """The id of a run for what cannot wait in a journal, such as a model to register; it has ended already.

    Under `mlflow run` it is a child of the project's run, in that one's experiment.
    """
    parent_id = os.environ.get("MLFLOW_RUN_ID")
    experiment = _experiment_of(client, parent_id) if parent_id else None
    kept = {**tags, _PARENT_TAG: parent_id} if parent_id and experiment else tags
    experiment = experiment or _experiment(client, experiment_name(), artifacts)
    run_id = str(client.create_run(experiment, tags=kept, run_name=name).info.run_id)
    client.set_terminated(run_id)
    return run_id


def _experiment_of(client: Any, run_id: str) -> str | None:
    """None if the run is unknown there: MLFLOW_RUN_ID was handed down for another server."""
    try:
        return str(client.get_run(run_id).info.experiment_id)
    except mlflow_exception() as problem:
        if problem.get_http_status_code() != 404:
            raise
        return None


def _parent_run(client: Any, experiment: str, start: Mapping[str, Any], key: str, name: str) -> str:
    """The parent by its tag. A named one whose own journal is still under way is created here and adopted by that."""
    tags = {**start["provenance"], RUN_TAG: key, STAGE_TAG: name, PIPELINE_TAG: start["pipeline"]}
    if found := client.search_runs([experiment], tagged(RUN_TAG, key), max_results=1):
        return str(found[0].info.run_id)
    return str(client.create_run(experiment, start_time=start["t"], tags=tags, run_name=name).info.run_id)


def _own_run(client: Any, experiment: str, start: Mapping[str, Any], parent_id: str) -> str:
    tags = {**start["tags"], _PARENT_TAG: parent_id}
    if found := client.search_runs([experiment], tagged(RUN_TAG, start["key"]), max_results=1):
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING", name=start["stage"])
        client.log_batch(run_id, tags=_tag_entities(tags))
        return run_id
    return str(client.create_run(experiment, start_time=start["t"], tags=tags, run_name=start["stage"]).info.run_id)


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except mlflow_exception():  # another machine was faster
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    if found.lifecycle_stage == "deleted":  # MLflow finds it by its name and refuses every run in it
        raise deleted_experiment(str(found.experiment_id), client.tracking_uri, name)
    return str(found.experiment_id)


def end_run(client: Any, state: State, status: str, at: int) -> None:
    """Close the run, and the pipeline's run with it: its state is that of the stage that ended last."""
    for run_id in filter(None, (state.run_id, state.pipeline_id)):
        client.set_terminated(run_id, status=status, end_time=at)


def apply_or_reject(client: Any, folder: Path, run_id: str, operation: Mapping[str, Any]) -> None:
    """One operation; what MLflow calls invalid for good must not hold up the rest and is noted on the run instead."""
    try:
        _apply(client, folder, run_id, operation)
    except mlflow_exception() as problem:
        if problem.get_http_status_code() not in _PERMANENT:
            raise
        refused = without_passwords(f"{operation['op']}: {problem}")
        print(f"{folder.name}: MLflow refused {refused}", file=sys.stderr, flush=True)
        client.set_tag(run_id, "weakseg.refused", refused[:500])


def _apply(client: Any, folder: Path, run_id: str, operation: Mapping[str, Any]) -> None:
    from mlflow.entities import DatasetInput, InputTag, Metric, Param

    values = operation.get("values", {})
    if operation["op"] == "metrics":
        at, step = operation["t"], operation["step"]
        client.log_batch(run_id, metrics=[Metric(name, value, at, step) for name, value in values.items()])
    elif operation["op"] == "params":
        client.log_batch(run_id, params=[Param(name, value) for name, value in values.items()])
    elif operation["op"] == "tags":
        client.log_batch(run_id, tags=_tag_entities(values))
    elif operation["op"] == "dataset":
        context = [InputTag("mlflow.data.context", operation["context"])]
        client.log_inputs(run_id, [DatasetInput(_dataset(operation), context)])
    elif (path := folder / operation["file"]).is_dir():
        client.log_artifacts(run_id, str(path), "/".join(filter(None, [operation["folder"], path.name])))
    elif path.exists():  # else it was sent, and dropped from the spool, before we were stopped
        client.log_artifact(run_id, str(path), operation["folder"] or None)


def _dataset(operation: Mapping[str, Any]) -> Any:
    """The data set as ``mlflow.data`` describes it, so that ``mlflow.data.get_source`` finds it again."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several classes of MLflow take a path; the one it chooses is right
        source = resolve_dataset_source(operation["source"])
    described = MetaDataset(source, name=operation["name"], digest=operation["digest"]).to_dict()
    described["profile"] = json.dumps(operation.get("profile") or {})
    return Dataset.from_dictionary(described)


def _tag_entities(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]
