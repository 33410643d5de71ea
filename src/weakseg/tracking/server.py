"""The MLflow client: imported late, told to answer within a minute, its errors turned into ours."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weakseg.errors import TrackingError
from weakseg.tracking.facts import tracking_uri

RUN_TAG, STAGE_TAG, PIPELINE_TAG = "weakseg.run", "weakseg.stage", "weakseg.pipeline"


def connect(root: Path) -> Any:
    """An ``mlflow.MlflowClient`` for the server of this root, tracking and registry both."""
    return client_of(tracking_uri(root))


@contextlib.contextmanager
def mlflow_errors(root: Path) -> Iterator[None]:
    """Turn what MLflow raises inside into a TrackingError that says whether it refused or could not be reached."""
    try:
        yield
    except mlflow_exception() as problem:
        refused = problem.get_http_status_code() < 500
        raise TrackingError(
            f"MLflow at {without_password(tracking_uri(root))}: {reason(problem)}",
            expected="a request it accepts" if refused else "a tracking server that answers",
            cure="check the names and ids given" if refused else "start it or set MLFLOW_TRACKING_URI",
        ) from problem


@functools.cache
def client_of(uri: str) -> Any:
    _prepare_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def mlflow_exception() -> Any:
    _prepare_environment()
    from mlflow.exceptions import MlflowException

    return MlflowException


def _prepare_environment() -> None:
    """To be called before MLflow is imported: no telemetry, and answers or errors within a minute, not in four."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"  # MLflow knows "true" only, not "1"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def tagged(tag: str, value: str) -> str:
    if "'" in value:
        raise TrackingError(f"{value!r} holds a quote", expected="a run id or stage name", cure="check the spelling")
    return f"tags.`{tag}` = '{value}'"


def reason(problem: Exception) -> str:
    return without_password(" ".join(f"{type(problem).__name__}: {problem}".split()))[:140]


def without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
