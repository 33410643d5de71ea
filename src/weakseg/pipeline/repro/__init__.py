"""`weakseg repro`: what `dvc repro` does, with ready stages side by side, here or as jobs of a cluster.

DVC runs one stage after the other. Here its own graph says which stages are ready, and each of them goes through its
own ``Stage.reproduce``: locks, cache, run cache and dvc.lock stay what they are, and either command goes on where the
other one ended. A process that is killed takes its stage with it (:mod:`weakseg.pipeline.repro.leash`), so that a
second start finds nobody else at work.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from weakseg.core.errors import StageError
from weakseg.core.files import atomic_path
from weakseg.pipeline.repro.graph import read_needs
from weakseg.pipeline.repro.leash import alone
from weakseg.pipeline.repro.one_stage import Record, mend_rwlock, open_repo
from weakseg.pipeline.repro.order import Runner, run_in_order

TIMES: Final = Path(".weakseg") / "repro.json"


def repro(
    root: Path,
    targets: Sequence[str] = (),
    *,
    jobs: int,
    cluster: str | None = None,
    options: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Bring a workspace up to date; returns what became of each stage, in the order in which they ended.

    Args:
        targets: stages as `dvc repro` takes them; none: the whole pipeline.
        jobs: stages that run at once.
        cluster: ``slurm``, or another one that submitit knows; None: processes of this machine.
        options: parameters of the cluster's jobs (``AutoExecutor.update_parameters``).
        say: where lines of progress go.

    Raises:
        StageError: a stage failed (those that ran beside it were let end), another one is at work in the workspace, a
            target makes no stages.
    """
    if not (root / "dvc.yaml").is_file():
        raise StageError(f"no dvc.yaml in {root}", expected="a workspace", cure="say --root, or `weakseg init`")
    with _one_parent_run(), contextlib.chdir(root), alone(Path()):
        mend_rwlock(Path(".dvc"))
        repo = open_repo(Path())
        needs = read_needs(repo, targets)
        runner = _runner(repo, cluster, dict(options or {}))
        seconds = _known_seconds()
        found: list[Record] = []

        def note(record: Record) -> None:
            found.append(record)
            say(record.line)
            if record.outcome == "ran":
                seconds[record.stage] = round(record.wall, 2)
                _keep_seconds(seconds)

        run_in_order(needs, seconds, runner, jobs=jobs, note=note)
    return found


@contextlib.contextmanager
def _one_parent_run() -> Iterator[None]:
    """All stages in the block have one parent run in MLflow, unless the caller named one."""
    name = "WEAKSEG_PIPELINE_RUN"
    given = os.environ.get(name)
    os.environ[name] = given or f"repro-{time.time_ns()}"
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


def _runner(repo: object, cluster: str | None, options: dict[str, str]) -> Runner:
    if cluster is None:
        from weakseg.pipeline.repro.forks import Forks

        return Forks(repo)
    from weakseg.pipeline.repro.cluster import ClusterJobs

    return ClusterJobs(cluster, options)


def _known_seconds() -> dict[str, float]:
    """Wall seconds of the stages when they last ran here: the longest way to the end goes first."""
    try:
        return {str(name): float(value) for name, value in json.loads(TIMES.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # a hint for the order alone


def _keep_seconds(seconds: Mapping[str, float]) -> None:
    with atomic_path(TIMES) as temporary:
        temporary.write_text(json.dumps(seconds, indent=1, sort_keys=True))
