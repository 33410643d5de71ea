"""Parts of a stage as processes that never meet: ``weakseg stage cam --shard 2/3``, for any scheduler.

Each process does its part of the areas up to the point where all results are needed, leaves its own in a file, and
ends. Once all parts lie there ``--shard join/3`` goes on with them as a single process would, and the outputs are the
same bytes. A stage that shares its work twice (fused: weights, then areas) asks for its parts a second time.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import ParamsError, StageError
from weakseg.core.files import atomic_path
from weakseg.training.machine import Item, Machine

SHARDABLE: Final = ("cam", "crf", "teacher", "fused", "boxes", "evaluate")
JOIN: Final = "join"


class ShardDoneError(Exception):
    """This part has nothing left to do until the others have come as far; its text says so to people."""


@dataclass(frozen=True)
class Shard(Machine):
    """A machine that does one part of the shared work, or none of it and joins what the parts left.

    Attributes:
        part: 1 to ``parts``; 0 joins. folder: where parts leave their results, of these inputs alone.
    """

    part: int = 0
    parts: int = 1
    folder: Path = Path()
    _rounds: list[None] = field(default_factory=list)  # one per gathering so far

    @property
    def is_main(self) -> bool:
        """Whether this process joins: it alone writes what is written once."""
        return self.part == 0

    def shard(self, items: Sequence[Item]) -> list[Item]:
        """This part's items; none where they were done by an earlier process, or by the parts."""
        if self.part == 0 or self._file(self.part).exists():
            return []
        return list(items[self.part - 1 :: self.parts])

    def gather(self, part: Sequence[Item]) -> list[Item]:
        """Leave this part's results, and return those of all in the order of the items.

        Raises:
            ShardDoneError: other parts have not left theirs yet.
            StageError: the same where this process is to join them.
        """
        if self.part and not self._file(self.part).exists():
            with atomic_path(self._file(self.part)) as temporary:
                temporary.write_bytes(pickle.dumps(list(part)))
        missing = [number for number in range(1, self.parts + 1) if not self._file(number).exists()]
        if missing:
            self._stop(missing)
        found: list[list[Any]] = [pickle.loads(self._file(number).read_bytes()) for number in range(1, self.parts + 1)]
        self._rounds.append(None)
        whole: list[Any] = [None] * sum(map(len, found))
        for number, results in enumerate(found):
            whole[number :: self.parts] = results
        return whole

    def _file(self, part: int) -> Path:
        return self.folder / f"round{len(self._rounds) + 1}-{part}.pickle"

    def _stop(self, missing: list[int]) -> None:
        names = ", ".join(f"{number}/{self.parts}" for number in missing)
        if self.part:
            raise ShardDoneError(f"part {self.part}/{self.parts} is done as far as it goes; still to come: {names}")
        raise StageError(
            f"round {len(self._rounds) + 1} lacks part {names} of these inputs",
            expected=f"all {self.parts} of them",
            cure=f"run the stage with --shard {names.split(', ')[0]}"
            + (" and the others" if len(missing) > 1 else "")
            + (" once more" if self._rounds else ""),
        )


def parse_shard(text: str, stage: str) -> tuple[int, int]:
    """``2/3`` -> (2, 3), ``join/3`` -> (0, 3).

    Raises:
        ParamsError: another form; a stage that shares no areas, or trains a network before it does.
    """
    word, slash, count = text.partition("/")
    parts = int(count) if count.isdigit() else 0
    part = 0 if word == JOIN else int(word) if word.isdigit() else -1
    if not slash or parts < 1 or not (part or word == JOIN) or not 0 <= part <= parts:
        raise ParamsError(f"--shard {text}", expected="1/3 to 3/3, or join/3", cure="mend it")
    if stage not in SHARDABLE:
        raise ParamsError(
            f"stage {stage} with --shard",
            expected=" | ".join(SHARDABLE),
            cure="run it whole; torchrun shares its trainings too (docs/scaling.md)",
        )
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise ParamsError("--shard under torchrun", expected="one of the two", cure="leave one out")
    return part, parts


def shard_folder(root: Path, name: str, inputs: Iterable[Path], parts: int) -> Path:
    """Where ``parts`` parts of a stage leave their results; another one once an input or params.yaml changes.

    Args:
        inputs: files and folders that the stage reads, by DVC; size and time of every file count, not its content.
    """
    digest = hashlib.sha256((root / "params.yaml").read_bytes())
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                facts = file.stat()
                digest.update(f"{file.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return root / ".weakseg" / "shards" / name / f"{parts}-{digest.hexdigest()[:16]}"


def forget(folder: Path) -> None:
    """Remove what the parts of a stage left, of these inputs and of earlier ones."""
    shutil.rmtree(folder.parent, ignore_errors=True)
