"""A data folder is never half-written: what is imported is staged beside it and moved there at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from weakseg.core.errors import DataError

_OWNED: Final = ("images", "labels", "labels_eroded", "classes.yaml", "bands.yaml")
TAGS: Final = "tags/tags.csv"  # of an import that brings tags along; others leave it alone


def check_target(sources: Sequence[Path], target: Path, *, may_replace: bool) -> None:
    """Refuse (DataError) a target that has data, unless they may be replaced, and sources that lie among them."""
    owned = [target / name for name in _OWNED]
    full = [path for path in owned if path.is_file() or (path.is_dir() and any(path.iterdir()))]
    if full and not may_replace:
        raise DataError(
            f"{target} has data already ({', '.join(path.name for path in full)})",
            expected="a target without data",
            cure="choose another target, or say that it may be replaced",
        )
    for source in sources:
        if any(source.resolve().is_relative_to(path.resolve()) for path in owned):
            raise DataError(
                f"source {source} lies in the data of the target {target}",
                expected="sources outside the target, which an import replaces",
                cure="move the source, or choose another target",
            )


def check_no_tags(target: Path) -> None:
    """Refuse (DataError) a target whose tags an import with tags would replace: people may have made them."""
    if (target / TAGS).is_file():
        raise DataError(
            f"{target / TAGS} is there", expected="no tags yet", cure="move it away, or import without --tags"
        )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone at the end, for an import that writes nothing."""
    with tempfile.TemporaryDirectory(prefix="weakseg-") as folder:
        yield Path(folder)


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder on the file system of the target (which may be a mount of its own), gone at the end whatever happens."""
    parent = next(path for path in (target, *target.absolute().parents) if path.exists())
    try:
        staging = Path(tempfile.mkdtemp(prefix=".import-", dir=parent))
        try:
            (staging / "data").mkdir()
            yield staging
        finally:
            shutil.rmtree(staging)
    except OSError as error:
        raise DataError(
            f"import into {target} stopped ({error})",
            expected="readable sources and a target folder with room and permission",
            cure="make room, or choose another target",
        ) from error


def publish(staging: Path, target: Path) -> None:
    """Move what was staged into the target, what it replaces into the staging folder; all moves or none."""
    old = staging / "old"
    old.mkdir()
    target.mkdir(parents=True, exist_ok=True)
    moves: list[tuple[Path, Path]] = []
    try:
        for name in (*_OWNED, *([TAGS] if (staging / "data" / TAGS).exists() else [])):
            for folder in (old, target):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            for origin, goal in ((target / name, old / name), (staging / "data" / name, target / name)):
                if origin.exists():
                    moves.append((origin, goal))
                    os.replace(origin, goal)
    except BaseException:
        for origin, goal in reversed(moves):
            if goal.exists() and not origin.exists():
                os.replace(goal, origin)
        raise
