"""Which ready stage goes first, and running all of them a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from weakseg.core.errors import StageError
from weakseg.pipeline.repro.graph import Needs
from weakseg.pipeline.repro.one_stage import Record


class Runner(Protocol):
    """What runs stages: processes of this machine, or jobs of a cluster."""

    def start(self, stage: str) -> None:
        """Begin a stage and return at once."""

    def finished(self) -> Record:
        """Wait until one of the stages begun has ended, and say how."""


def way_to_the_end(needs: Needs, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain that it begins.

    A stage whose time is not known counts as the mean of those that are, or 1.
    """
    known = [seconds[stage] for stage in needs if stage in seconds]
    usual = sum(known) / len(known) if known else 1.0
    after: dict[str, list[str]] = {stage: [] for stage in needs}
    for stage, before in needs.items():
        for one in before:
            after[one].append(stage)
    found: dict[str, float] = {}

    def measure(stage: str) -> float:
        if stage not in found:
            found[stage] = seconds.get(stage, usual) + max(map(measure, after[stage]), default=0.0)
        return found[stage]

    return {stage: measure(stage) for stage in needs}


def run_in_order(
    needs: Needs, seconds: Mapping[str, float], runner: Runner, *, jobs: int, note: Callable[[Record], None]
) -> None:
    """Run every stage after those that it needs, at most ``jobs`` at once, the longest way to the end first.

    Once a stage has failed no other starts; those that run beside it are let end.

    Raises:
        StageError: naming the stages that failed.
    """
    way = way_to_the_end(needs, seconds)
    waiting, done, running, failed = set(needs), set[str](), set[str](), list[Record]()
    while True:
        ready = sorted((one for one in waiting if needs[one] <= done), key=lambda one: (-way[one], one))
        for stage in ready[: jobs - len(running)] if not failed else ():
            runner.start(stage)
            running.add(stage)
            waiting.remove(stage)
        if not running:
            break
        record = runner.finished()
        running.remove(record.stage)
        note(record)
        if record.outcome == "failed":
            failed.append(record)
        else:
            done.add(record.stage)
    if failed:
        raise StageError(
            "; ".join(f"stage {record.stage} failed ({record.error})" for record in failed),
            expected="every stage to end well",
            cure="see its message above, mend it, and start again: what has ended is kept",
        )
