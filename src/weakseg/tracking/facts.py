"""What a run belongs to: its server, its workspace, and the hashes that say what made it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from weakseg.core.config import load_yaml
from weakseg.core.processes import birth_of

_STAGE_OUTPUTS = ("dvc.lock", "reports/**", "README.md")  # they change while a pipeline runs: not what we call dirty


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, else the sqlite file of this root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lasting(root) / 'mlflow.db'}"


def experiment_name() -> str:
    """MLFLOW_EXPERIMENT_NAME, else weakseg."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "weakseg"


def artifact_root(root: Path) -> str | None:
    """Where artefacts lie: in mlruns/ of this root beside its sqlite file; None leaves it to the server."""
    return (lasting(root) / "mlruns").as_uri() if tracking_uri(root).startswith("sqlite:") else None


def lasting(root: Path) -> Path:
    """``root`` itself; in a queued DVC experiment, whose folder DVC deletes at its end, the workspace it came from."""
    inside = re.fullmatch(r"(.*)/\.dvc/tmp/exps/(?:standalone/)?[^/]+(/.*)?", root.resolve().as_posix())
    return Path(inside[1] + (inside[2] or "")) if inside else root.resolve()


def data_hash(root: Path) -> str:
    """The md5 that DVC gave data/, or "" where there is no data.dvc."""
    file = root / "data.dvc"
    if not file.is_file():
        return ""
    outs = (load_yaml(file) or {}).get("outs") or [{}]
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
    """The name under which stages of one execution meet: WEAKSEG_PIPELINE_RUN, else a hash of what they share.

    Under DVC that is the DVC process which runs them, and the experiment (a queue worker runs several). Stages that are
    run by hand share their provenance: commit, dirty flag and params.
    """
    if named := os.environ.get("WEAKSEG_PIPELINE_RUN"):
        return named
    same = ("mlflow.source.git.commit", "weakseg.git_dirty", "weakseg.params", "weakseg.dvc_exp")
    shared = [_dvc_process(), tags.get("weakseg.dvc_exp", "")]
    if not shared[0]:
        shared = [tags.get(name, "") for name in same]
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:16]


def _dvc_process() -> str:
    """Host, number and start of the DVC process that runs this stage, or "" where none does (or we may not look).

    DVC tells each command its DVC_STAGE; the first process above us that was not told is DVC's own.
    """
    import psutil  # type: ignore[import-untyped]

    if not (stage := os.environ.get("DVC_STAGE")):
        return ""
    with contextlib.suppress(psutil.Error, OSError):
        for process in psutil.Process().parents():
            if process.environ().get("DVC_STAGE") != stage:
                return f"{platform.node()} {process.pid} {birth_of(process.pid):.0f}"
    return ""


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _file_hash(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file.is_file() else ""


def home(root: Path) -> Path:
    return lasting(root) / ".weakseg"


def spool(root: Path) -> Path:
    return home(root) / "spool"
