"""Every stage is killed at drawn instants and run again: every output equals the undisturbed run's to the byte."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults import tally
from tests.faults.clones import Clone, differing, remove
from tests.faults.forks import Ended, Instant
from tests.faults.stages import Stage, read_stages

SECONDS = 3.0  # of kills per stage; by turns at an event and at a time, outputs removed before, as DVC does, or not
TRAINED = ("classifier", "single_stage", "irnet", "segment", "code")  # seconds each: last
STAGES = sorted(read_stages(Path(__file__).parents[2]), key=lambda stage: stage.name in TRAINED)


@pytest.fixture(scope="module")
def place(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """One copy for all stages: each leaves it as it was, or its test has failed."""
    return finished.copy(tmp_path_factory.mktemp("home") / "place")


def kill_and_finish(
    clone: Clone, stage: Stage, whole: dict[str, bytes], length: Ended, draw: random.Random, number: int
) -> None:
    """One kill and a run to the end; a stage that ended before its kill counts as no fault."""
    by_dvc = number % 4 < 2
    instant = Instant(event=draw.randint(1, length.events))
    if number % 2:
        instant = Instant(seconds=max(0.01, length.seconds * draw.random()))
    remove(clone.root, stage.outputs)
    ended = clone.stage(stage.name, stage.source, kill=instant)
    assert ended.code in (0, -9), ended.said
    half = {
        name for name, content in clone.outputs(*_there(clone, stage)).items() if not _is_whole(name, content, whole)
    }
    if by_dvc:
        remove(clone.root, stage.outputs)
    kind = f"kill of a stage {'at a time' if number % 2 else 'at an event'}"
    tally.injected(kind, int(ended.killed))
    clone.stage(stage.name, stage.source)
    assert differing(whole, clone.outputs()) == [], (instant, by_dvc)
    assert half == set(), f"half-written under their own names after {instant}"
    tally.survived(kind, int(ended.killed))


def _there(clone: Clone, stage: Stage) -> list[str]:
    return [path for path in stage.outputs if (clone.root / path).exists()] or ["params.yaml"]


def _is_whole(name: str, content: bytes, whole: dict[str, bytes]) -> bool:
    """A temporary name, or the content that it has in the end."""
    return ".tmp" in name or name == "params.yaml" or whole.get(name) == content


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_stage_that_is_killed_is_made_good_by_the_next_run(stage: Stage, place: Clone, finished: Clone) -> None:
    draw, whole = random.Random(zlib.crc32(str(stage).encode())), finished.outputs()
    remove(place.root, stage.outputs)
    length = place.stage(stage.name, stage.source)
    assert differing(whole, place.outputs()) == []  # the same again, for one seed on one machine
    for number in range(round(min(14, max(4, SECONDS / length.seconds)))):
        kill_and_finish(place, stage, whole, length, draw, number)


def test_a_sample_of_the_killed_stages(tmp_path: Path, make_workspace: Callable[[Path], Path]) -> None:
    """In every run of the tests: the stage that writes most files, killed at every tenth event."""
    clone = Clone(make_workspace(tmp_path / "home" / "place"))
    tiles = next(stage for stage in STAGES if stage.name == "tiles")
    length = clone.stage("tiles")
    whole = clone.outputs()
    for event in range(1, length.events + 1, 10):
        remove(clone.root, tiles.outputs)
        assert clone.stage("tiles", kill=Instant(event=event)).killed
        clone.stage("tiles")
        assert differing(whole, clone.outputs()) == []
