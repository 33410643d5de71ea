"""Stages as jobs of a cluster, through submitit: Slurm's, or processes that stand for them (``local``)."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import StageError
from weakseg.core.files import atomic_path
from weakseg.pipeline.repro.leash import hold
from weakseg.pipeline.repro.one_stage import Record, open_repo, reproduce

LOGS: Final = Path(".weakseg") / "jobs"
START: Final = Path(".weakseg") / "repro.start"  # names the start whose jobs may work
LOOK: Final = 0.5  # s between looks at the jobs


class ClusterJobs:
    """A job per stage; the workspace, with its .dvc, is on a file system that all nodes share, and that locks files.

    A job that still waits in the queue when its start was killed does nothing once its turn comes.

    Raises:
        StageError: submitit is not installed; a parameter that it does not know.
    """

    def __init__(self, cluster: str, options: dict[str, str]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise StageError(
                "no submitit here", expected="the extra slurm", cure="pip install 'weakseg[slurm]'"
            ) from error
        self._root, self._name = Path.cwd(), uuid.uuid4().hex
        with atomic_path(START) as temporary:
            temporary.write_text(self._name)
        try:
            self._executor = submitit.AutoExecutor(folder=LOGS, cluster=cluster)
            self._executor.update_parameters(name="weakseg", **{key: _number(value) for key, value in options.items()})
        except (ValueError, TypeError, RuntimeError, NameError) as error:
            raise StageError(
                f"cluster {cluster} with {options} ({' '.join(str(error).split())})",
                expected="a cluster and parameters of submitit",
                cure="see docs/scaling.md",
            ) from error
        self._running: dict[str, Any] = {}

    def start(self, stage: str) -> None:
        """Submit a job."""
        self._running[stage] = self._executor.submit(work, str(self._root), stage, self._name)

    def finished(self) -> Record:
        """Look until one of the jobs has ended; one that was killed is a stage that failed."""
        while not (ended := [stage for stage, job in self._running.items() if job.done()]):
            time.sleep(LOOK)
        job = self._running.pop(ended[0])
        try:
            record: Record = job.result()
        except Exception as error:  # submitit has its own for each way in which a job may end
            said = str(error).strip().splitlines() or [type(error).__name__]
            return Record(ended[0], "failed", error=f"job {job.job_id}: {said[-1]}; log in {job.paths.stderr}")
        return record


def work(root: str, stage: str, start: str) -> Record:
    """In a job: take a stage through DVC, if the start that asked for it is the last one."""
    os.chdir(root)
    with hold(Path()):
        if START.read_text() != start:
            return Record(stage, "failed", error="its job belongs to an earlier start")
        return reproduce(open_repo(Path()), stage)


def _number(value: str) -> int | str:
    return int(value) if value.isdigit() else value
