"""The run around one stage: open its journal, start a sender, close it whatever happens."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weakseg.core.errors import ParamsError
from weakseg.core.processes import birth_of
from weakseg.tracking.client import PIPELINE_TAG, RUN_TAG, STAGE_TAG
from weakseg.tracking.facts import (
    artifact_root,
    experiment_name,
    home,
    pipeline_key,
    provenance,
    spool,
    tracking_uri,
)
from weakseg.tracking.journal import JOURNAL
from weakseg.tracking.lineage import inputs_of
from weakseg.tracking.open_run import Run, now_ms
from weakseg.tracking.system_metrics import start_sampler


@contextlib.contextmanager
def track(
    stage: str,
    *,
    root: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> Iterator[Run]:
    """An MLflow run around one stage, FINISHED, FAILED (any exception) or KILLED when the block ends.

    Args:
        stage: its name and the tag ``weakseg.stage``, e.g. ``segment@pixel``.
        root: the workspace whose journal, sqlite file, provenance and DVC hashes are used: the data that the stage
            depends on (:func:`weakseg.tracking.lineage.inputs_of`) becomes the run's inputs.
        params: logged as ``section.key``; MLflow cuts values at 6000 characters.
        tags: added to the provenance tags.
        parent: ``Run.key`` of the run to nest under, e.g. the study of a trial; the module says what else is tried.

    Raises:
        ParamsError: if WEAKSEG_TRACKING or WEAKSEG_TRACKING_WAIT is not understood.
    """
    mode, wait = _mode(), _wait()
    if mode == "off" or int(os.environ.get("RANK") or 0) != 0:  # under torchrun one rank reports
        yield Run("", None)
        return
    run = _open(stage, root.resolve(), tags or {}, parent)
    run.log_params(params)
    for item in inputs_of(root, stage):
        size = {"bytes": item.size, "files": item.files}
        run.log_dataset(item.path, item.digest, str(root.resolve() / item.path), context=stage, profile=size)
    sender = _start_sender(root, run) if mode == "on" else None
    stop, sampler = start_sampler(run)
    status = "FINISHED"
    try:
        with _as_parent(run.key):
            yield run
    except Exception:
        status = "FAILED"
        raise
    except BaseException:  # Ctrl-C, SystemExit
        status = "KILLED"
        raise
    finally:
        stop.set()
        sampler.join(timeout=10)
        run._append({"op": "end", "status": status})
        if sender is not None:
            _await_delivery(run, root, sender, wait if status != "KILLED" else 0.0)


def _mode() -> str:
    mode = os.environ.get("WEAKSEG_TRACKING") or "on"
    if mode not in ("on", "spool", "off"):
        raise ParamsError(f"WEAKSEG_TRACKING is {mode!r}", expected="on, spool or off", cure="set one or unset it")
    return mode


def _wait() -> float:
    text = os.environ.get("WEAKSEG_TRACKING_WAIT") or "20"
    try:
        return float(text)
    except ValueError:
        raise ParamsError(
            f"WEAKSEG_TRACKING_WAIT is {text!r}", expected="seconds", cure="set a number or unset it"
        ) from None


def _open(stage: str, root: Path, tags: Mapping[str, str], parent: str | None) -> Run:
    """Create the spool folder; its first line holds all that is needed to create the run, now or later."""
    facts, key, uri = provenance(root), uuid.uuid4().hex, tracking_uri(root)
    pipeline = pipeline_key(facts)
    own = {RUN_TAG: key, STAGE_TAG: stage, PIPELINE_TAG: pipeline, "mlflow.source.type": "LOCAL"}
    own["mlflow.source.name"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    own["mlflow.user"] = os.environ.get("USER") or "unknown"
    name = f"{now_ms()}-{re.sub(r'[^A-Za-z0-9.-]', '_', stage)}-{key[:8]}"
    run = Run(key, spool(root) / name, uri=uri)
    with run._keeping():
        (spool(root) / name).mkdir(parents=True, mode=0o700)
        (home(root) / ".gitignore").write_text("*\n")
    operation = {
        "op": "start",
        "stage": stage,
        "key": key,
        "uri": uri,
        "pid": os.getpid(),
        "born": birth_of(),
        "host": platform.node(),
        "experiment": experiment_name(),
        "artifacts": artifact_root(root),
        "parent": parent or os.environ.get("WEAKSEG_PARENT_RUN"),
        "parent_id": None if os.environ.get("WEAKSEG_PIPELINE_RUN") else os.environ.get("MLFLOW_RUN_ID"),
        "pipeline": pipeline,
        "provenance": facts,
        "tags": {**facts, **own, **{tag: str(value) for tag, value in tags.items()}},
    }
    run._append(operation)
    return run


@contextlib.contextmanager
def _as_parent(key: str) -> Iterator[None]:
    """Runs started inside, here or in child processes, nest under ``key``; nobody inherits MLFLOW_RUN_ID."""
    before = {name: os.environ.get(name) for name in ("WEAKSEG_PARENT_RUN", "MLFLOW_RUN_ID")}
    os.environ["WEAKSEG_PARENT_RUN"] = key
    os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _start_sender(root: Path, run: Run) -> subprocess.Popen[bytes] | None:
    """Start the sender of this root; where one is at work already, the new process sees that and leaves at once."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_RUN_ID", None)
    with run._keeping(), (home(root) / "sender.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "weakseg.tracking", str(root.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C ends the training; its last lines still have to go out
        )
    return None


def _await_delivery(run: Run, root: Path, sender: subprocess.Popen[bytes], wait: float) -> None:
    """Give the sender ``wait`` seconds to finish, and say where the record is if it does not."""
    deadline = time.monotonic() + wait
    restarted = time.monotonic()
    current: subprocess.Popen[bytes] | None = sender
    while run.folder is not None and (run.folder / JOURNAL).exists():
        run._tell_if_down()
        if run._told or time.monotonic() > deadline:
            break
        if current is not None and current.poll() is not None and time.monotonic() > restarted + 1:
            current, restarted = _start_sender(root, run), time.monotonic()  # it left just before our last line
        time.sleep(0.05)
    else:
        return
    if wait > 0 and not run._told:
        run._tell_kept(f"did not take all within {wait:.0f} s")
