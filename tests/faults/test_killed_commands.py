"""Commands beside the pipeline, killed at drawn instants and typed again: what they leave is an undisturbed one's."""

from __future__ import annotations

import random
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.io import MemoryFile
from tests.faults import tally
from tests.faults.clones import Clone, differing, remove
from tests.faults.forks import Ended, Instant
from tests.faults.typed import typed

MODEL = "out/checkpoints/pixel/seed0.pt"
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "predict": ("maps", ["predict", "data/images/v1.tif", "maps/v1.tif", "--model", MODEL, "--engine", "torch"]),
    "show": ("out/sheets", ["show", "cam", "--area", "t1"]),
    "next": ("out/next", ["next", "--count", "4", "--sources", "pixel"]),
}
"""Name: (the place of its results, the command)."""
KILLS = 10


def results(clone: Clone, place: str) -> dict[str, bytes]:
    """The files there; what is half-written has a name of its own, with a dot first."""
    files = [path for path in (clone.root / place).rglob("*") if path.is_file() and ".weakseg" not in path.parts]
    return {str(path.relative_to(clone.root)): path.read_bytes() for path in files}


def without_time(content: bytes) -> bytes:
    """Without digests of when the image was last written, times and folders."""
    return re.sub(rb"[0-9a-f]{32}|\d{4}-\d\d-\d\d[T ][0-9:.+Z]+|/[^\s\"']*/home/[a-z]+", b"", content)


def differing_results(one: dict[str, bytes], two: dict[str, bytes]) -> list[str]:
    return differing({a: without_time(b) for a, b in one.items()}, {a: without_time(b) for a, b in two.items()})


def is_whole(name: str, content: bytes, whole: dict[str, bytes]) -> bool:
    """A map is written whole before it is made cloud optimized: its pixels count."""
    if name.endswith(".tif") and name in whole:
        return np.array_equal(pixels(content), pixels(whole[name]))
    return name not in whole or without_time(content) == without_time(whole[name])


def pixels(content: bytes) -> Any:
    with MemoryFile(content) as memory, memory.open() as file:
        return file.read()


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_is_made_good_by_the_next(name: str, finished: Clone, tmp_path: Path) -> None:
    place, words = COMMANDS[name]
    clone, draw = finished.copy(tmp_path / "home" / "work"), random.Random(zlib.crc32(name.encode()))
    kind = f"kill of `weakseg {name}`"
    remove(clone.root, [place])
    length: Ended = clone.fork(typed(*words))
    whole = results(clone, place)
    assert whole
    for number in range(KILLS):
        if number % 3:  # else over what is there
            remove(clone.root, [place])
        instant = Instant(event=draw.randint(1, max(1, length.events)))
        if number % 2:
            instant = Instant(seconds=max(0.01, length.seconds * draw.random()))
        ended = clone.fork(typed(*words), instant)
        assert ended.code in (0, -9), ended.said
        tally.injected(kind, int(ended.killed))
        there = {name: content for name, content in results(clone, place).items() if "/." not in name}
        assert [name for name, content in there.items() if not is_whole(name, content, whole)] == [], instant
        clone.fork(typed(*words))
        assert differing_results(whole, results(clone, place)) == [], instant
        tally.survived(kind, int(ended.killed))
