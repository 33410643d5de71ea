"""Reading journals: whole lines, who still writes to them, and how far each has been sent."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weakseg.core.passwords import without_passwords
from weakseg.core.processes import is_at_work
from weakseg.tracking.facts import spool

JOURNAL, DOWN = "journal.jsonl", "down"
_STATE = "state.json"
_SILENCE = 3600.0  # seconds after which a journal of another host counts as abandoned


@dataclass(frozen=True)
class State:
    offset: int = 0  # bytes of the journal that are sent
    run_id: str = ""
    pipeline_id: str = ""  # the parent that we keep up to date, "" if the parent is someone else's
    uri: str = ""


def operations(folder: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole lines from ``offset`` on, each with the offset behind it; a line still being written is left for later."""
    with (folder / JOURNAL).open("rb") as journal:
        journal.seek(offset)
        for line in journal:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield json.loads(line), offset
            except ValueError:  # a disk or power failure; the other lines are still good
                print(f"{folder.name}: damaged line before byte {offset}", file=sys.stderr, flush=True)


def is_open(folder: Path) -> bool:
    """Whether more may be written to this journal: no end yet, and its process lives.

    Of a process on another host (or in another container) we only see whether it wrote within the last hour; with
    system metrics on, it writes every 10 s.
    """
    start = first_line(folder)
    if has_ended(folder):
        return False
    if start["host"] != platform.node():
        return time.time() - (folder / JOURNAL).stat().st_mtime < _SILENCE
    return is_at_work(start["pid"], start.get("born"))


def has_ended(folder: Path) -> bool:
    with (folder / JOURNAL).open("rb") as journal:
        journal.seek(max(0, journal.seek(0, os.SEEK_END) - 200))
        return b'"op": "end"' in journal.read()


def first_line(folder: Path) -> dict[str, Any]:
    return next(operations(folder, 0))[0]


def address_of(folder: Path) -> str:
    """Where a journal is to go: MLFLOW_TRACKING_URI as it is now where that is the same place, with its password.

    The journal itself keeps none.
    """
    kept, own = str(first_line(folder)["uri"]), os.environ.get("MLFLOW_TRACKING_URI") or ""
    return own if without_passwords(own) == without_passwords(kept) else kept


def journals(root: Path) -> list[Path]:
    """Spool folders with a journal that has begun, oldest first."""
    found = sorted(file.parent for file in spool(root).glob(f"*/{JOURNAL}"))
    return [folder for folder in found if next(operations(folder, 0), ({}, 0))[0].get("op") == "start"]


def read_state(folder: Path, uri: str) -> State:
    """How far this journal got at ``uri``; at another server it starts anew."""
    file = folder / _STATE
    state = State(**json.loads(file.read_text())) if file.is_file() else State()
    return state if state.uri == without_passwords(uri) else State()


def write_state(folder: Path, state: State) -> None:
    draft = folder / f"{_STATE}.new"
    draft.write_text(json.dumps(asdict(state)))
    draft.replace(folder / _STATE)
