"""Stages in processes of this machine, forked from one that has DVC and the graph in memory already."""

from __future__ import annotations

import os
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from weakseg.pipeline.repro.one_stage import Record, reproduce


class Forks:
    """A process per stage: it costs milliseconds, and DVC is neither imported nor the graph read anew."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._running: dict[str, tuple[BaseProcess, Connection]] = {}

    def start(self, stage: str) -> None:
        """Fork a process that takes the stage through DVC."""
        context = get_context("fork")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(self._repo, stage, there, os.getpid()), name=stage)
        process.start()
        there.close()
        self._running[stage] = process, here

    def finished(self) -> Record:
        """Wait for one of the processes; one that was killed is a stage that failed."""
        ready = wait([here for _, here in self._running.values()])[0]
        stage = next(stage for stage, (_, here) in self._running.items() if here is ready)
        process, here = self._running.pop(stage)
        try:
            record: Record = here.recv()
        except EOFError:
            process.join()
            return Record(stage, "failed", error=f"its DVC process ended with {process.exitcode}")
        process.join()
        return record


def _work(repo: Any, stage: str, answer: Connection, parent: int) -> None:
    from weakseg.pipeline.repro.leash import follow

    follow(parent)
    answer.send(reproduce(repo, stage))
