"""Requests that schemathesis draws from the served OpenAPI: no server error, and what is answered is what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.faults import tally
from tests.serving.test_service import service

from weakseg.serving.application import make_application
from weakseg.serving.open_rasters import Rasters

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 60  # of every operation
TALLY: Counter[int] = Counter()  # answers by their status


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Any:
    root: Path = make_workspace(tmp_path_factory.mktemp("served"))
    answering = service(pixels=20_000, content=100_000)
    application = make_application(answering, "models:/a@b", rasters=Rasters(answering, root), hosts=("*",))
    return schemathesis.openapi.from_asgi("/openapi.json", application)


def check(case: Any) -> None:
    answer = case.call()
    assert answer.status_code < 500 or (answer.status_code == 503 and "Retry-After" in str(answer.headers)), answer.text
    if answer.status_code in (400, 404, 413, 422):
        assert "Traceback" not in answer.text
        assert "\n" not in answer.text.strip()
    TALLY[answer.status_code] += 1


@pytest.mark.faults
def test_no_request_ends_in_a_server_error(openapi: Any) -> None:
    chosen = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    operations = [found.ok() for found in openapi.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        chosen(given(operation.as_strategy())(check))()
    tally.injected("request drawn by schemathesis", TALLY.total())
    tally.survived("request drawn by schemathesis", TALLY.total())
