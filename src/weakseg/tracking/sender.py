"""Carrying journals to MLflow, in the background (``python -m weakseg.tracking ROOT``) or on demand."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from weakseg.core.errors import TrackingError
from weakseg.core.passwords import without_passwords
from weakseg.tracking.client import client_of, reason
from weakseg.tracking.facts import home, spool
from weakseg.tracking.journal import (
    DOWN,
    JOURNAL,
    address_of,
    has_ended,
    is_open,
    journals,
    operations,
    read_state,
    write_state,
)
from weakseg.tracking.locks import file_lock
from weakseg.tracking.operations import apply_or_reject, create_run, end_run

_POLL, _RETRY, _LINGER = 0.2, 15.0, 8.0  # seconds: between looks, after a failure, before an idle sender leaves


@dataclass(frozen=True)
class SendReport:
    """What :func:`send_spool` did: runs sent completely, runs left (open, or refused), and the last problem or ""."""

    sent: int
    left: int
    problem: str

    def __str__(self) -> str:
        return f"{self.sent} runs sent, {self.left} left" + (f" ({self.problem})" if self.problem else "")


def send_spool(root: Path, *, uri: str | None = None) -> SendReport:
    """Send all journals under ``root`` now, to ``uri`` or to where each was meant to go.

    May be stopped and repeated at any point: nothing arrives twice. Journals of runs still open are sent as far as
    they go and stay.

    Raises:
        TrackingError: if a background sender is at work on this root.
    """
    with file_lock(home(root) / "sender.lock", patience=_LINGER + 5) as held:
        if not held:
            raise TrackingError(
                f"a sender is at work in {home(root)}", expected="none", cure="wait: it sends what can be sent"
            )
        folders, sent, problem = journals(root), 0, ""
        for folder in folders:
            try:
                sent += _deliver(folder, uri)
            except Exception as error:
                problem = reason(error, uri or address_of(folder))
        return SendReport(sent, len(journals(root)), problem)


def serve(root: Path, *, linger: float = _LINGER) -> None:
    """Follow all journals under ``root`` until none is open and none has come for ``linger`` seconds.

    One sender per root works at a time. It outlives a short stage so that the next one needs no new import of MLflow.
    """
    with file_lock(home(root) / "sender.lock", patience=0.3) as held:
        failed: dict[str, tuple[float, str]] = {}  # address -> when to try again, why it failed
        busy = time.monotonic()
        while held and spool(root).is_dir():
            before = journals(root)
            for folder in before:
                _attempt(folder, failed)
            left = journals(root)
            at_work = len(left) < len(before) or any(is_open(f) or address_of(f) not in failed for f in left)
            if at_work:
                busy = time.monotonic()
            elif left or time.monotonic() > busy + linger:  # only refused ones, or none
                return
            time.sleep(_POLL)


def _attempt(folder: Path, failed: dict[str, tuple[float, str]]) -> None:
    uri = address_of(folder)
    if time.monotonic() >= failed.get(uri, (0.0, ""))[0]:
        try:
            _deliver(folder, None)
            failed.pop(uri, None)
            (folder / DOWN).unlink(missing_ok=True)
        except Exception as problem:
            print(f"{time.strftime('%F %T')} {folder.name}: {reason(problem, uri)}", file=sys.stderr, flush=True)
            failed[uri] = (time.monotonic() + _RETRY, reason(problem, uri))
    if uri in failed:
        with contextlib.suppress(OSError):
            (folder / DOWN).write_text(failed[uri][1])


def _deliver(folder: Path, uri: str | None) -> bool:
    """Send what lies beyond the cursor. True if the run is complete; its folder is then gone.

    The cursor moves after each operation. One that was sent when we were stopped before that is sent again, which
    MLflow takes as the same: equal metrics at equal times are one row, tags, params and artefacts are replaced.
    """
    still_open = is_open(folder)  # looked up first: what is written after this is read next time
    address, ended = uri or address_of(folder), False
    state = read_state(folder, address)
    for operation, offset in operations(folder, state.offset):
        if operation["op"] == "start":
            state = replace(create_run(client_of(address), operation), uri=without_passwords(address))
        elif operation["op"] == "end":
            end_run(client_of(address), state, operation["status"], operation["t"])
            ended = True
        else:
            apply_or_reject(client_of(address), folder, state.run_id, operation)
        state = replace(state, offset=offset)
        write_state(folder, state)
        if operation["op"] == "artifact":
            shutil.rmtree((folder / operation["file"]).parent, ignore_errors=True)
    if not ended and not still_open:
        if not has_ended(folder):  # else the end was sent, and we were stopped while clearing up
            end_run(client_of(address), state, "KILLED", int((folder / JOURNAL).stat().st_mtime * 1000))
        ended = True
    if ended:
        shutil.rmtree(folder / "files", ignore_errors=True)
        (folder / JOURNAL).unlink()
        shutil.rmtree(folder, ignore_errors=True)
    return ended
