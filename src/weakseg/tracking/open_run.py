"""An open run: what a stage says is appended to a journal, and nothing waits for a server."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weakseg.core.errors import StageError
from weakseg.core.passwords import all_without_passwords, without_passwords
from weakseg.tracking.journal import DOWN, JOURNAL


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

    def log_dataset(
        self,
        name: str,
        digest: str,
        source: str,
        *,
        context: str = "training",
        profile: Mapping[str, float] | None = None,
    ) -> None:
        """Record a data set that the run read.

        Args:
            name: e.g. its path in the workspace.
            digest: its DVC hash (at most 36 characters).
            source: where it lies: a path or an address.
            context: what the run did with it.
            profile: numbers about it, e.g. bytes and files.
        """
        facts = {"name": name, "digest": digest[:36], "source": source, "context": context}
        self._append({"op": "dataset", **facts, "profile": dict(profile or {})})

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
        line = json.dumps({"t": now_ms(), **all_without_passwords(operation)}) + "\n"
        with self._keeping(), self._lock, (self.folder / JOURNAL).open("a") as journal:
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
        if not self._told and self.folder is not None and (self.folder / DOWN).exists():
            with contextlib.suppress(OSError):  # the sender may have removed it just now
                self._tell_kept(f"cannot be reached ({(self.folder / DOWN).read_text().strip()})")

    def _tell_kept(self, problem: str) -> None:
        self._tell(
            f"MLflow at {without_passwords(self._uri)} {problem}: work goes on, the record is "
            f"kept in {self.folder} and sent later, by the next stage or by `weakseg runs send`"
        )

    def _tell(self, message: str) -> None:
        if not self._told:
            self._told = True
            print(f"weakseg: {message}", file=sys.stderr, flush=True)


def now_ms() -> int:
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
