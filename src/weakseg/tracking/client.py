"""Talking to MLflow: its client, imported late and told to answer within a minute, its errors turned into ours."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weakseg.core.errors import TrackingError, WeaksegError
from weakseg.core.passwords import without_passwords
from weakseg.tracking.facts import tracking_uri

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
RUN_TAG, STAGE_TAG, PIPELINE_TAG = "weakseg.run", "weakseg.stage", "weakseg.pipeline"


def connect(root: Path) -> Any:
    """An ``mlflow.MlflowClient`` for the server of this root, tracking and registry both."""
    return client_of(tracking_uri(root))


@contextlib.contextmanager
def mlflow_errors(root: Path) -> Iterator[None]:
    """Turn what MLflow raises inside into a TrackingError that says whether it refused or could not be reached."""
    from sqlalchemy.exc import SQLAlchemyError  # of databases, MLflow passes on what comes before its own tables

    try:
        yield
    except ImportError as problem:
        raise TrackingError(
            f"MLflow at {tracking_uri(root)}: {problem}",
            expected="the driver of that database",
            cure="install it, or name one that is there, for instance postgresql+psycopg2://",
        ) from problem
    except SQLAlchemyError as problem:
        raise TrackingError(
            f"MLflow at {tracking_uri(root)}: {reason(problem)}",
            expected="a database that answers",
            cure="start it or set MLFLOW_TRACKING_URI",
        ) from problem
    except mlflow_exception() as problem:
        if (cause := known_cause(problem, tracking_uri(root))) is not None:
            raise cause from problem
        refused = problem.get_http_status_code() < 500
        raise TrackingError(
            f"MLflow at {tracking_uri(root)}: {reason(problem)}",
            expected="a request it accepts" if refused else "a tracking server that answers",
            cure="check the names and ids given" if refused else "start it or set MLFLOW_TRACKING_URI",
        ) from problem


def known_cause(problem: Exception, uri: str) -> TrackingError | None:
    """The error for a database of another schema and for a deleted experiment; None for anything else."""
    if found := re.search(r"found version (\w+), but expected (\w+)", str(problem)):
        return _other_schema(found[1], found[2], uri)
    if found := re.search(r"experiment '?(\d+)'? must be in the 'active' state", str(problem)):
        return deleted_experiment(found[1], uri)
    return None


def check_schema(uri: str) -> None:
    """Refuse a database whose schema is not the installed MLflow's; of an address of a server nothing is asked.

    MLflow itself refuses only some of them: where tables are missing it migrates at once, without a backup.

    Raises:
        TrackingError: another schema. One that changes while we look is being made, and waited for.
    """
    if uri.partition(":")[0].partition("+")[0] not in _DATABASES:
        return
    import mlflow
    from alembic.script import ScriptDirectory

    wanted = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations")).get_current_head() or ""
    before = None
    while (found := _schema_of(uri)) not in (None, wanted):
        if found == before:
            raise _other_schema(str(found), wanted, uri)
        before = found
        time.sleep(1)


def _schema_of(uri: str) -> str | None:
    """The revision of a database; None where there is none yet, or it cannot be asked, which MLflow will say."""
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return None
    try:
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except (SQLAlchemyError, ImportError):
        return None


def _other_schema(found: str, expected: str, uri: str) -> TrackingError:
    import mlflow
    from mlflow.version import VERSION

    known = next(Path(mlflow.__file__).parent.glob(f"store/db_migrations/versions/{found}_*.py"), None)
    if known is None:
        return TrackingError(
            f"the MLflow database {uri} has schema {found}, which MLflow {VERSION} does not know",
            expected=f"schema {expected} or an older one",
            cure="install the MLflow that wrote it, or a newer one",
        )
    return TrackingError(
        f"the MLflow database {uri} has schema {found}, older than MLflow {VERSION}",
        expected=f"schema {expected}",
        cure=f"stop all that writes there, back it up, then run `mlflow db upgrade {uri}`",
    )


def deleted_experiment(experiment: str, uri: str, name: str = "") -> TrackingError:
    """The error for an experiment, by its id, that was deleted and can be restored."""
    command = f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {experiment}"
    cure = (
        f"stop all that writes there, back it up, then run `{command}`, or set MLFLOW_EXPERIMENT_NAME to another name"
    )
    return TrackingError(
        f"experiment {name or experiment} at {uri} is deleted",
        expected="an active one",
        cure=cure,
    )


@functools.cache
def client_of(uri: str) -> Any:
    _prepare_environment()
    if without_passwords(uri) != uri:  # MLflow prints the whole address of each run that ends
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from mlflow import MlflowClient

    check_schema(uri)
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


def reason(problem: Exception, uri: str = "") -> str:
    """One line: our own sentences and known causes whole, of others the beginning."""
    if isinstance(problem, WeaksegError):
        return str(problem)
    if (cause := known_cause(problem, uri)) is not None:
        return str(cause)
    return without_passwords(" ".join(f"{type(problem).__name__}: {problem}".split()))[:140]
