"""MLflow runs that never hold a training up: a stage writes a journal, a sender process carries it to MLflow.

``track`` appends what a stage reports to ``<root>/.weakseg/spool/<run>/journal.jsonl`` (artefacts are copied beside it)
and starts ``python -m weakseg.tracking <root>``, one process per root, which follows all journals and sends them. So a
server that is slow, hangs or dies costs the training nothing, a killed stage is recorded as KILLED, and whatever was
not sent waits for the next sender or for :func:`send_spool`. Sending twice is harmless: a run is found again by its tag
``weakseg.run``, timestamps are fixed when they are written, and ``state.json`` keeps the byte up to which all is sent.

Who is the parent of a run, first match:

1. the run named by the caller, or the tracked run around it (``WEAKSEG_PARENT_RUN``, set while a run is open);
2. ``WEAKSEG_PIPELINE_RUN``: any name for one execution, e.g. set around ``dvc repro``;
3. ``MLFLOW_RUN_ID``, which ``mlflow run`` hands down: that run becomes the parent, no stage writes into it;
4. the pipeline key: git commit, dirty flag, params.yaml and DVC_EXP_NAME hashed. The stage processes of one
   ``dvc repro`` agree on it, so they meet in one parent; a later execution of the same code and params joins it too.

Environment: ``MLFLOW_TRACKING_URI`` (default ``sqlite:///<root>/mlflow.db``, artefacts in ``<root>/mlruns``; for
``dvc exp run --temp`` and ``--queue``, which run in a folder that DVC deletes, all this is in the outer workspace),
``MLFLOW_EXPERIMENT_NAME`` (default ``weakseg``), ``WEAKSEG_TRACKING`` = ``on``, ``spool`` (only write journals) or
``off``, ``WEAKSEG_TRACKING_WAIT`` (seconds a finished stage waits for its sender, default 20).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weakseg.errors import ParamsError, StageError, TrackingError

RUN_TAG, STAGE_TAG, PIPELINE_TAG = "weakseg.run", "weakseg.stage", "weakseg.pipeline"
_PARENT_TAG = "mlflow.parentRunId"
_JOURNAL, _STATE, _DOWN = "journal.jsonl", "state.json", "down"
_POLL, _RETRY, _LINGER = 0.2, 15.0, 8.0  # seconds: between looks, after a failure, before an idle sender leaves
_SILENCE = 3600.0  # seconds after which a journal of another host counts as abandoned
_PERMANENT = {400, 413, 422}  # answers that no retry changes; everything else is tried again
_STAGE_OUTPUTS = ("dvc.lock", "reports/**", "README.md")  # they change while a pipeline runs: not what we call dirty


# ---- what a run belongs to ------------------------------------------------------------------------------------------


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else the sqlite file of this root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_lasting(root) / 'mlflow.db'}"


def _lasting(root: Path) -> Path:
    """``root`` itself; in a queued DVC experiment, whose folder DVC deletes at its end, the workspace it came from."""
    inside = re.fullmatch(r"(.*)/\.dvc/tmp/exps/(?:standalone/)?[^/]+(/.*)?", root.resolve().as_posix())
    return Path(inside[1] + (inside[2] or "")) if inside else root.resolve()


def data_hash(root: Path) -> str:
    """The md5 that DVC gave data/, or "" where there is no data.dvc."""
    import yaml

    file = root / "data.dvc"
    if not file.is_file():
        return ""
    outs = (yaml.safe_load(file.read_text()) or {}).get("outs") or [{}]
    return str(outs[0].get("md5", ""))


def provenance(root: Path) -> dict[str, str]:
    """Tags that say what made a run: git commit and dirty flag, data.dvc, dvc.lock and params hashes, DVC_EXP_NAME.

    Files that stages themselves write (dvc.lock, reports/, README.md) do not count as dirty: DVC rewrites them between
    two stages of one execution.
    """
    place = root if _git(root, "rev-parse", "HEAD") else Path(__file__).parent
    outputs = [f":(top,exclude,glob)**/{name}" for name in _STAGE_OUTPUTS]
    changes = _git(place, "status", "--porcelain", "--untracked-files=all", "--", ":/", *outputs)
    tags = {
        "mlflow.source.git.commit": _git(place, "rev-parse", "HEAD"),
        "weakseg.git_dirty": str(bool(changes)).lower(),
        "weakseg.data_md5": data_hash(root),
        "weakseg.dvc_lock": _file_hash(root / "dvc.lock"),
        "weakseg.params": _file_hash(root / "params.yaml"),
        "weakseg.dvc_exp": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value}


def pipeline_key(tags: Mapping[str, str]) -> str:
    """The name under which stages of one execution meet: WEAKSEG_PIPELINE_RUN, else a hash of their provenance."""
    if named := os.environ.get("WEAKSEG_PIPELINE_RUN"):
        return named
    same = ("mlflow.source.git.commit", "weakseg.git_dirty", "weakseg.params", "weakseg.dvc_exp")
    return hashlib.sha256(json.dumps([tags.get(name, "") for name in same]).encode()).hexdigest()[:16]


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _file_hash(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file.is_file() else ""


# ---- writing --------------------------------------------------------------------------------------------------------


class Run:
    """An open run. Its methods append to the journal and return at once; no server can make them fail.

    Attributes:
        key: the value of the run's ``weakseg.run`` tag, by which :func:`find_run` finds it.
        folder: where the journal is, or None for a run that keeps nothing (tracking off, or a rank other than 0).
    """

    def __init__(self, key: str, folder: Path | None, *, uri: str = "") -> None:
        self.key, self.folder, self._uri = key, folder, uri
        self._lock = threading.Lock()
        self._files = 0
        self._told = False

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log numbers by name, e.g. ``val/iou/car``. NaN stays NaN (an absent class); infinities become NaN too."""
        values = {_clean(name): _finite(value) for name, value in metrics.items()}
        for part in _chunks(values, 1000):
            self._append({"op": "metrics", "step": int(step), "values": part})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings become ``section.key``."""
        for part in _chunks(_flatten(params), 100):
            self._append({"op": "params", "values": part})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        for part in _chunks({name: str(value) for name, value in tags.items()}, 100):
            self._append({"op": "tags", "values": part})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file or of a whole directory, as it is now, under ``folder`` of the run's artefacts.

        Raises:
            StageError: if ``path`` does not exist.
        """
        if not path.exists():
            raise StageError(
                f"{path} is missing", expected="a file or directory to log", cure="write it before logging"
            )
        if (target := self._new_file(path.name)) is not None:
            with self._keeping():
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
                self._append_file(target, folder)

    def log_dict(self, data: Mapping[str, Any], name: str) -> None:
        """Keep ``data`` as the JSON artefact ``name``, e.g. ``evaluate/pixel.json``."""
        if (target := self._new_file(Path(name).name)) is not None:
            with self._keeping():
                target.write_text(json.dumps(data, indent=1, default=str))
                self._append_file(target, str(Path(name).parent).removeprefix("."))

    def log_dataset(self, name: str, digest: str, source: str, *, context: str = "training") -> None:
        """Record a data set that the run read; ``digest`` is its DVC hash (at most 36 characters)."""
        self._append({"op": "dataset", "name": name, "digest": digest[:36], "source": source, "context": context})

    def _new_file(self, name: str) -> Path | None:
        if self.folder is None:
            return None
        with self._lock:
            self._files += 1
            place = self.folder / "files" / str(self._files)
        with self._keeping():
            place.mkdir(parents=True)
        return place / name

    def _append_file(self, target: Path, folder: str) -> None:
        if self.folder is not None:
            self._append({"op": "artifact", "file": str(target.relative_to(self.folder)), "folder": folder})

    def _append(self, operation: Mapping[str, Any]) -> None:
        if self.folder is None:
            return
        line = json.dumps({"t": _now(), **operation}) + "\n"
        with self._keeping(), self._lock, (self.folder / _JOURNAL).open("a") as journal:
            journal.write(line)
        self._tell_if_down()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """A full or read-only disk must not end a training either: say so once and keep nothing more."""
        try:
            yield
        except OSError as problem:
            self._tell(f"cannot write {self.folder} ({problem}): the rest of this run is not tracked")
            self.folder = None

    def _tell_if_down(self) -> None:
        if not self._told and self.folder is not None and (self.folder / _DOWN).exists():
            with contextlib.suppress(OSError):  # the sender may have removed it just now
                self._tell_kept((self.folder / _DOWN).read_text().strip())

    def _tell_kept(self, reason: str) -> None:
        self._tell(
            f"MLflow at {_without_password(self._uri)} cannot be reached ({reason}): work goes on, the record is "
            f"kept in {self.folder} and sent later, by the next stage or by `weakseg runs send`"
        )

    def _tell(self, message: str) -> None:
        if not self._told:
            self._told = True
            print(f"weakseg: {message}", file=sys.stderr, flush=True)


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
        root: the workspace whose journal, sqlite file and provenance are used.
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
    sender = _start_sender(root, run) if mode == "on" else None
    stop, sampler = _start_sampler(run)
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
    name = f"{_now()}-{re.sub(r'[^A-Za-z0-9.-]', '_', stage)}-{key[:8]}"
    run = Run(key, _spool(root) / name, uri=uri)
    with run._keeping():
        (_spool(root) / name).mkdir(parents=True, mode=0o700)
        (_home(root) / ".gitignore").write_text("*\n")
    operation = {
        "op": "start",
        "stage": stage,
        "key": key,
        "uri": uri,
        "pid": os.getpid(),
        "host": platform.node(),
        "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or "weakseg",
        "artifacts": (_lasting(root) / "mlruns").as_uri() if uri.startswith("sqlite:") else None,
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


def _start_sampler(run: Run) -> tuple[threading.Event, threading.Thread]:
    """Sample the machine while the run lasts, under the names MLflow's own system metrics have."""
    stop = threading.Event()
    interval = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or 10)
    wanted = (os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING") or "true").lower() in ("1", "true")

    def sample() -> None:
        step = 0
        while wanted and run.folder is not None and not stop.wait(interval):
            run.log_metrics({f"system/{name}": value for name, value in system_metrics().items()}, step=step)
            step += 1

    thread = threading.Thread(target=sample, daemon=True, name="weakseg-system-metrics")
    thread.start()
    return stop, thread


def system_metrics() -> dict[str, float]:
    """Load and memory of the machine, of this process, and of each NVIDIA GPU that ``nvidia-smi`` reports."""
    import psutil  # type: ignore[import-untyped]

    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
    if not (command := shutil.which("nvidia-smi")):
        return found
    query = "--query-gpu=index,utilization.gpu,memory.used,power.draw"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=False
        )
        found.update(_gpu_metrics(done.stdout))
    return found


def _gpu_metrics(text: str) -> dict[str, float]:
    """Parse ``index, utilisation %, memory MiB, power W`` lines; what a GPU does not support ("[N/A]") is left out."""
    found = {}
    for line in text.splitlines():
        index, *values = (word.strip() for word in line.split(","))
        names = ("utilization_percentage", "memory_usage_megabytes", "power_usage_watts")
        for name, value, factor in zip(names, values, (1.0, 1.048576, 1.0), strict=False):
            with contextlib.suppress(ValueError):
                found[f"gpu_{index}_{name}"] = float(value) * factor
    return found


def _start_sender(root: Path, run: Run) -> subprocess.Popen[bytes] | None:
    """Start the sender of this root; where one is at work already, the new process sees that and leaves at once."""
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_RUN_ID", None)
    with run._keeping(), (_home(root) / "sender.log").open("ab") as log:
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
    while run.folder is not None and (run.folder / _JOURNAL).exists():
        run._tell_if_down()
        if run._told or time.monotonic() > deadline:
            break
        if current is not None and current.poll() is not None and time.monotonic() > restarted + 1:
            current, restarted = _start_sender(root, run), time.monotonic()  # it left just before our last line
        time.sleep(0.05)
    else:
        return
    if wait > 0 and not run._told:
        run._tell_kept(f"not all sent within {wait:.0f} s")


# ---- sending --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendReport:
    """What :func:`send_spool` did: runs sent completely, runs left (open, or refused), and the last problem or ""."""

    sent: int
    left: int
    problem: str

    def __str__(self) -> str:
        return f"{self.sent} runs sent, {self.left} left" + (f" ({self.problem})" if self.problem else "")


@dataclass(frozen=True)
class _State:
    offset: int = 0  # bytes of the journal that are sent
    run_id: str = ""
    pipeline_id: str = ""  # the parent that we keep up to date, "" if the parent is someone else's
    uri: str = ""


def send_spool(root: Path, *, uri: str | None = None) -> SendReport:
    """Send all journals under ``root`` now, to ``uri`` or to where each was meant to go.

    May be stopped and repeated at any point: nothing arrives twice. Journals of runs still open are sent as far as
    they go and stay.

    Raises:
        TrackingError: if a background sender is at work on this root.
    """
    with file_lock(_home(root) / "sender.lock", patience=_LINGER + 5) as held:
        if not held:
            raise TrackingError(
                f"a sender is at work in {_home(root)}", expected="none", cure="wait: it sends what can be sent"
            )
        folders, sent, problem = _journals(root), 0, ""
        for folder in folders:
            try:
                sent += _deliver(folder, uri)
            except Exception as error:
                problem = _reason(error)
        return SendReport(sent, len(_journals(root)), problem)


def serve(root: Path, *, linger: float = _LINGER) -> None:
    """Follow all journals under ``root`` until none is open and none has come for ``linger`` seconds.

    One sender per root works at a time. It outlives a short stage so that the next one needs no new import of MLflow.
    """
    with file_lock(_home(root) / "sender.lock", patience=0.3) as held:
        failed: dict[str, tuple[float, str]] = {}  # address -> when to try again, why it failed
        busy = time.monotonic()
        while held and _spool(root).is_dir():
            before = _journals(root)
            for folder in before:
                _attempt(folder, failed)
            left = _journals(root)
            at_work = len(left) < len(before) or any(_is_open(f) or _address(f) not in failed for f in left)
            if at_work:
                busy = time.monotonic()
            elif left or time.monotonic() > busy + linger:  # only refused ones, or none
                return
            time.sleep(_POLL)


def _attempt(folder: Path, failed: dict[str, tuple[float, str]]) -> None:
    uri = _address(folder)
    if time.monotonic() >= failed.get(uri, (0.0, ""))[0]:
        try:
            _deliver(folder, None)
            failed.pop(uri, None)
            (folder / _DOWN).unlink(missing_ok=True)
        except Exception as problem:
            print(f"{time.strftime('%F %T')} {folder.name}: {_reason(problem)}", file=sys.stderr, flush=True)
            failed[uri] = (time.monotonic() + _RETRY, _reason(problem))
    if uri in failed:
        with contextlib.suppress(OSError):
            (folder / _DOWN).write_text(failed[uri][1])


def _deliver(folder: Path, uri: str | None) -> bool:
    """Send what lies beyond the cursor. True if the run is complete; its folder is then gone.

    The cursor moves after each operation. One that was sent when we were stopped before that is sent again, which
    MLflow takes as the same: equal metrics at equal times are one row, tags, params and artefacts are replaced.
    """
    still_open = _is_open(folder)  # looked up first: what is written after this is read next time
    address, ended = uri or _address(folder), False
    state = _read_state(folder, address)
    for operation, offset in _operations(folder, state.offset):
        if operation["op"] == "start":
            state = replace(_create_run(_client(address), operation), uri=address)
        elif operation["op"] == "end":
            _end(_client(address), state, operation["status"], operation["t"])
            ended = True
        else:
            _apply_or_reject(_client(address), folder, state.run_id, operation)
        state = replace(state, offset=offset)
        _write_state(folder, state)
        if operation["op"] == "artifact":
            shutil.rmtree((folder / operation["file"]).parent, ignore_errors=True)
    if not ended and not still_open:
        if not _has_ended(folder):  # else the end was sent, and we were stopped while clearing up
            _end(_client(address), state, "KILLED", int((folder / _JOURNAL).stat().st_mtime * 1000))
        ended = True
    if ended:
        shutil.rmtree(folder / "files", ignore_errors=True)
        (folder / _JOURNAL).unlink()
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _create_run(client: Any, start: Mapping[str, Any]) -> _State:
    """Find or create the run of a journal under its parent (see the module)."""
    if start["parent_id"] and not start["parent"]:
        experiment = _experiment_of(client, start["parent_id"])
        if experiment is not None:
            return _State(run_id=_own_run(client, experiment, start, start["parent_id"]))
    experiment = _experiment(client, start["experiment"], start["artifacts"])
    if start["parent"]:
        parent_id = _parent_run(client, experiment, start, start["parent"], "parent")
        return _State(run_id=_own_run(client, experiment, start, parent_id))
    parent_id = _parent_run(client, experiment, start, f"pipeline-{start['pipeline']}", "pipeline")
    client.update_run(parent_id, status="RUNNING")
    return _State(run_id=_own_run(client, experiment, start, parent_id), pipeline_id=parent_id)


def _experiment_of(client: Any, run_id: str) -> str | None:
    """None if the run is unknown there: MLFLOW_RUN_ID was handed down for another server."""
    try:
        return str(client.get_run(run_id).info.experiment_id)
    except _mlflow_exception() as problem:
        if problem.get_http_status_code() != 404:
            raise
        return None


def _parent_run(client: Any, experiment: str, start: Mapping[str, Any], key: str, name: str) -> str:
    """The parent by its tag. A named one whose own journal is still under way is created here and adopted by that."""
    tags = {**start["provenance"], RUN_TAG: key, STAGE_TAG: name, PIPELINE_TAG: start["pipeline"]}
    if found := client.search_runs([experiment], _tagged(RUN_TAG, key), max_results=1):
        return str(found[0].info.run_id)
    return str(client.create_run(experiment, start_time=start["t"], tags=tags, run_name=name).info.run_id)


def _own_run(client: Any, experiment: str, start: Mapping[str, Any], parent_id: str) -> str:
    tags = {**start["tags"], _PARENT_TAG: parent_id}
    if found := client.search_runs([experiment], _tagged(RUN_TAG, start["key"]), max_results=1):
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING", name=start["stage"])
        client.log_batch(run_id, tags=_tag_entities(tags))
        return run_id
    return str(client.create_run(experiment, start_time=start["t"], tags=tags, run_name=start["stage"]).info.run_id)


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except _mlflow_exception():  # another machine was faster
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    return str(found.experiment_id)


def _end(client: Any, state: _State, status: str, at: int) -> None:
    """Close the run, and the pipeline's run with it: its state is that of the stage that ended last."""
    for run_id in filter(None, (state.run_id, state.pipeline_id)):
        client.set_terminated(run_id, status=status, end_time=at)


def _apply_or_reject(client: Any, folder: Path, run_id: str, operation: Mapping[str, Any]) -> None:
    """One operation; what MLflow calls invalid for good must not hold up the rest and is noted on the run instead."""
    try:
        _apply(client, folder, run_id, operation)
    except _mlflow_exception() as problem:
        if problem.get_http_status_code() not in _PERMANENT:
            raise
        print(f"{folder.name}: MLflow refused {operation['op']}: {problem}", file=sys.stderr, flush=True)
        client.set_tag(run_id, "weakseg.refused", f"{operation['op']}: {problem}"[:500])


def _apply(client: Any, folder: Path, run_id: str, operation: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    values = operation.get("values", {})
    if operation["op"] == "metrics":
        at, step = operation["t"], operation["step"]
        client.log_batch(run_id, metrics=[Metric(name, value, at, step) for name, value in values.items()])
    elif operation["op"] == "params":
        client.log_batch(run_id, params=[Param(name, value) for name, value in values.items()])
    elif operation["op"] == "tags":
        client.log_batch(run_id, tags=_tag_entities(values))
    elif operation["op"] == "dataset":
        source = json.dumps({"uri": operation["source"]})
        dataset = Dataset(operation["name"], operation["digest"], "local", source)
        context = [InputTag("mlflow.data.context", operation["context"])]
        client.log_inputs(run_id, [DatasetInput(dataset, context)])
    elif (path := folder / operation["file"]).is_dir():
        client.log_artifacts(run_id, str(path), "/".join(filter(None, [operation["folder"], path.name])))
    elif path.exists():  # else it was sent, and dropped from the spool, before we were stopped
        client.log_artifact(run_id, str(path), operation["folder"] or None)


def _tag_entities(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def _operations(folder: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole lines from ``offset`` on, each with the offset behind it; a line still being written is left for later."""
    with (folder / _JOURNAL).open("rb") as journal:
        journal.seek(offset)
        for line in journal:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield json.loads(line), offset
            except ValueError:  # a disk or power failure; the other lines are still good
                print(f"{folder.name}: damaged line before byte {offset}", file=sys.stderr, flush=True)


def _is_open(folder: Path) -> bool:
    """Whether more may be written to this journal: no end yet, and its process lives.

    Of a process on another host (or in another container) we only see whether it wrote within the last hour; with
    system metrics on, it writes every 10 s.
    """
    import psutil

    start = _first_line(folder)
    if _has_ended(folder):
        return False
    if start["host"] != platform.node():
        return time.time() - (folder / _JOURNAL).stat().st_mtime < _SILENCE
    try:
        process = psutil.Process(start["pid"])
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= start["t"] / 1000 + 1)
    except psutil.Error:
        return False


def _has_ended(folder: Path) -> bool:
    with (folder / _JOURNAL).open("rb") as journal:
        journal.seek(max(0, journal.seek(0, os.SEEK_END) - 200))
        return b'"op": "end"' in journal.read()


def _first_line(folder: Path) -> dict[str, Any]:
    return next(_operations(folder, 0))[0]


def _address(folder: Path) -> str:
    return str(_first_line(folder)["uri"])


def _journals(root: Path) -> list[Path]:
    """Spool folders with a journal that has begun, oldest first."""
    found = sorted(file.parent for file in _spool(root).glob(f"*/{_JOURNAL}"))
    return [folder for folder in found if next(_operations(folder, 0), ({}, 0))[0].get("op") == "start"]


def _home(root: Path) -> Path:
    return _lasting(root) / ".weakseg"


def _spool(root: Path) -> Path:
    return _home(root) / "spool"


def _read_state(folder: Path, uri: str) -> _State:
    """How far this journal got at ``uri``; at another server it starts anew."""
    file = folder / _STATE
    state = _State(**json.loads(file.read_text())) if file.is_file() else _State()
    return state if state.uri == uri else _State()


def _write_state(folder: Path, state: _State) -> None:
    draft = folder / f"{_STATE}.new"
    draft.write_text(json.dumps(asdict(state)))
    draft.replace(folder / _STATE)


# ---- asking ---------------------------------------------------------------------------------------------------------


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
            if found := client.search_runs(experiments, _tagged(tag, name), order_by=order, max_results=1):
                return found[0]
        if re.fullmatch("[0-9a-f]{32}", name):
            return client.get_run(name)
    raise TrackingError(
        f"no run {name!r} at {_without_password(tracking_uri(root))}",
        expected="a run id or a stage that ran, e.g. evaluate@pixel",
        cure="see the runs in `mlflow ui`, or send kept ones with `weakseg runs send`",
    )


def connect(root: Path) -> Any:
    """An ``mlflow.MlflowClient`` for the server of this root, tracking and registry both."""
    return _client(tracking_uri(root))


@contextlib.contextmanager
def mlflow_errors(root: Path) -> Iterator[None]:
    """Turn what MLflow raises inside into a TrackingError that says whether it refused or could not be reached."""
    try:
        yield
    except _mlflow_exception() as problem:
        refused = problem.get_http_status_code() < 500
        raise TrackingError(
            f"MLflow at {_without_password(tracking_uri(root))}: {_reason(problem)}",
            expected="a request it accepts" if refused else "a tracking server that answers",
            cure="check the names and ids given" if refused else "start it or set MLFLOW_TRACKING_URI",
        ) from problem


@functools.cache
def _client(uri: str) -> Any:
    _prepare_environment()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _mlflow_exception() -> Any:
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


def _tagged(tag: str, value: str) -> str:
    if "'" in value:
        raise TrackingError(f"{value!r} holds a quote", expected="a run id or stage name", cure="check the spelling")
    return f"tags.`{tag}` = '{value}'"


# ---- small things ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_lock(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold an advisory lock on ``path`` (POSIX, this machine); False if it is taken for longer than ``patience`` s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(0.05)
            else:
                yield True
                return


def _now() -> int:
    return time.time_ns() // 1_000_000


def _clean(name: str) -> str:
    """A metric name as MLflow allows it: letters, digits and ``_-. :/``."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _finite(value: float) -> float:
    number = float(value)
    return number if math.isfinite(number) else math.nan


def _flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in params.items():
        key = f"{prefix}{name}"
        flat.update(_flatten(value, f"{key}.") if isinstance(value, Mapping) and value else {_clean(key): str(value)})
    return flat


def _chunks(values: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    items = list(values.items())
    for start in range(0, len(items), size):
        yield dict(items[start : start + size])


def _reason(problem: Exception) -> str:
    return _without_password(" ".join(f"{type(problem).__name__}: {problem}".split()))[:140]


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
