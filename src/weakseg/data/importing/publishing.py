"""A data folder is never half-written: what is imported is staged beside it and moved there at the end.

classes.yaml, without which nothing reads the folder, goes first and comes last. The name of a staging folder says
whose it is, a file in it what it was moving, so the next import takes back the moves of one that was killed among them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError
from weakseg.core.files import NODE, write_text
from weakseg.core.processes import birth_of, is_at_work

_OWNED: Final = ("images", "labels", "labels_eroded", "bands.yaml", "classes.yaml")  # as they are moved in
TAGS: Final = "tags/tags.csv"  # of an import that brings tags along; others leave it alone
_FOLDER: Final = re.compile(r"\.import-(?P<node>[0-9a-f]{6})-(?P<process>\d+)-(?P<born>[\d.]+)-")
_RECORD: Final = "import.json"
_A_DAY: Final = 86400.0


def check_target(sources: Sequence[Path], target: Path, *, may_replace: bool, told: str = "") -> None:
    """Refuse (DataError) a target that has data, unless they may be replaced, and sources that lie among them.

    Args:
        told: what :func:`clear_killed` said of the data.
    """
    owned = [target / name for name in _OWNED]
    full = [path for path in owned if path.is_file() or (path.is_dir() and any(path.iterdir()))]
    if full and not may_replace:
        raise DataError(
            f"{target} has data already ({', '.join(path.name for path in full)}){told}",
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
        staging = Path(tempfile.mkdtemp(prefix=f".import-{NODE}-{os.getpid()}-{birth_of():.2f}-", dir=parent))
        try:
            _record(staging, target, moving=None)
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
    target.mkdir(parents=True, exist_ok=True)
    staged = [name for name in (TAGS, *_OWNED) if (staging / "data" / name).exists()]
    _record(staging, target, moving=staged)
    try:
        for name in reversed(_names(staged)):
            _move(target / name, staging / "old" / name)
        for name in staged:
            _move(staging / "data" / name, target / name)
    except BaseException:
        _take_back(staging, target, staged)
        raise
    _record(staging, target, moving=[])


def clear_killed(target: Path) -> str:
    """Take back what killed imports into ``target`` had begun to move there, and delete their folders.

    Returns:
        What to say of the data if one of them had moved all of it, so that it is whole; else "".
    """
    told = ""
    for place in (target, *target.absolute().parents):
        for staging in _left_in(place, target):
            moving = _read_record(staging).get("moving")
            if moving is not None and any((staging / "data" / name).exists() for name in moving):
                _take_back(staging, target, moving)
            elif moving is not None:
                told = ", which the last import had written whole when it was killed"
            shutil.rmtree(staging)
    return told


def _left_in(place: Path, target: Path) -> list[Path]:
    """Staging folders of imports into ``target`` whose processes are dead (of another computer: after a day)."""
    found: list[Path] = []
    with suppress(OSError):  # a folder above that may not be read
        for staging in place.glob(".import-*"):
            if (whose := _FOLDER.match(staging.name)) is None:
                continue
            old = time.time() - staging.stat().st_mtime > _A_DAY
            dead = not is_at_work(int(whose["process"]), float(whose["born"])) if whose["node"] == NODE else old
            if dead and _read_record(staging).get("target", str(target.absolute())) == str(target.absolute()):
                found.append(staging)
    return found


def _record(staging: Path, target: Path, *, moving: list[str] | None) -> None:
    """Say what the folder is for and, once they are about to move, what is staged in it."""
    write_text(staging / _RECORD, json.dumps({"target": str(target.absolute()), "moving": moving}))


def _read_record(staging: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((staging / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:  # killed before it wrote one: there is nothing in it
        return {}
    return found


def _names(staged: Sequence[str]) -> list[str]:
    """What an import replaces, staged or not, in the order in which it is moved in."""
    return [*([TAGS] if TAGS in staged else []), *_OWNED]


def _take_back(staging: Path, target: Path, staged: Sequence[str]) -> None:
    """Undo all moves, wherever they stopped; classes.yaml comes back last."""
    for name in reversed(_names(staged)):
        if name in staged and not (staging / "data" / name).exists():
            _move(target / name, staging / "data" / name)
    for name in _names(staged):
        _move(staging / "old" / name, target / name)
    _record(staging, target, moving=None)  # else a kill while the folder is being deleted would take back more


def _move(origin: Path, goal: Path) -> None:
    """If it is there."""
    if origin.exists():
        goal.parent.mkdir(parents=True, exist_ok=True)
        os.replace(origin, goal)
