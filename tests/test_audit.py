"""What `make audit` says of pip-audit's answer."""

from __future__ import annotations

import json

import pytest
from scripts.audit import verdict

FAULT = {"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}
SOUND = {"name": "b", "version": "2", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND, SKIPPED], 0, "audit: 1 of 2 packages audited, 0 known faults"),
        ([SOUND, FAULT], 1, "audit: 2 of 2 packages audited, 1 known faults\na 1: X-1"),
        ([SKIPPED], 0, "audit: no list of faults here knows any of 1 packages; nothing was audited"),
    ],
)
def test_faults_fail_and_what_nobody_knows_is_said(packages: list[object], status: int, said: str) -> None:
    assert verdict(json.dumps({"dependencies": packages})) == (status, said)


def test_without_an_answer_it_passes_and_says_so() -> None:
    assert verdict("") == (0, "audit: the list of known faults is out of reach here; nothing was audited")
