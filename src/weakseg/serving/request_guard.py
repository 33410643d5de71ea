"""Limits and short answers for MLflow's scoring server, which has no setting for either.

It reads bodies of any length, repeats them in its errors, and answers 400 with a traceback where the model fails. The
guard stands in front of its FastAPI application as ASGI middleware does, so it needs nothing of MLflow's inside; and it
asks that application once, before it serves, whether a body over the limit is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from weakseg.core.errors import TrackingError
from weakseg.serving.service import Limits, TooLargeError, check_length

SUPPORTED: Final = "mlflow>=3.17,<3.18"  # the releases whose server is known to be guarded
_LONGEST: Final = 300  # characters of an answer's sentence
_APP: Final = "mlflow.pyfunc.scoring_server.app"  # what `mlflow models serve` has uvicorn run
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class RequestGuard:
    """ASGI middleware: bodies over the limit are 413, those of unknown length 411, and every error is one sentence.

    Args:
        others: paths with limits of their own.
    """

    def __init__(self, app: App, limits: Limits, *, others: Mapping[str, Limits] | None = None) -> None:
        self.app, self.limits, self.others = app, limits, others or {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        limits = self.others.get(scope["path"], self.limits)
        refused = _refusal(dict(scope["headers"]).get(b"content-length", b"").decode("latin-1"), limits)
        if refused is not None:
            await _answer(send, *refused)
            return
        await self.app(scope, receive, _Shortened(send))


class _Shortened:
    """A ``send`` that holds back errors and sends one sentence in their place."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status: int | None = None
        self._kept: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._status = message["status"]
            self._kept = [(name, value) for name, value in message.get("headers", ()) if name == b"retry-after"]
        elif self._status is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await _answer(self._send, *shorten(self._status, bytes(self._body)), *self._kept)


def shorten(status: int, body: bytes) -> tuple[int, str, str]:
    """Status, error code and one sentence of an answer of MLflow's; a fault of ours goes to the log and is 500."""
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    told: dict[str, Any] = given if isinstance(given, dict) else {"message": body.decode(errors="replace")}
    code = str(told.get("error_code", "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"))
    if "stack_trace" in told or status == 500:
        logging.getLogger(__name__).error(
            "the model failed\n%s", told.get("stack_trace", body.decode(errors="replace"))
        )
        return 500, code, "the model failed; its traceback is in the log of the server"
    return status, code, " ".join(str(told.get("message", told)).split())[:_LONGEST]


def _refusal(length: str, limits: Limits) -> tuple[int, str, str] | None:
    if not length.isdecimal():
        return 411, "BAD_REQUEST", "request without a length; expected Content-Length; send that header"
    try:
        check_length(int(length), limits)
    except TooLargeError as error:
        return 413, "BAD_REQUEST", str(error)
    return None


async def _answer(send: Send, status: int, code: str, sentence: str, *others: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error_code": code, "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *others]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def in_mlflow_server() -> bool:
    """Whether this process answers requests for MLflow, by any of its signs, so that one may change its name."""
    told = "__pyfunc_model_path__" in os.environ or _APP in sys.modules
    return told or ("uvicorn" in sys.modules and any("mlflow" in word for word in sys.argv))


def guard_requests(limits: Limits) -> None:
    """In MLflow's scoring server, put a :class:`RequestGuard` before its application; elsewhere do nothing.

    Raises:
        TrackingError: the server does not refuse a body over the limit then; so it does not start.
    """
    if not in_mlflow_server():
        return
    try:
        from fastapi import FastAPI
        from mlflow.pyfunc import scoring_server

        _stand_before(FastAPI, limits)
        guarded = _refuses(scoring_server.init(_NO_MODEL), limits)
    except Exception as error:
        raise _unguarded(f"{type(error).__name__}: {error}") from error
    if not guarded:
        raise _unguarded("a body over the limit is let in")


def _stand_before(application: Any, limits: Limits) -> None:
    """Every application of this process is asked through the guard; only MLflow's is made after the model is loaded."""
    plain = application.__call__

    async def guarded(self: Any, scope: Message, receive: Receive, send: Send) -> None:
        await RequestGuard(partial(plain, self), limits)(scope, receive, send)

    application.__call__ = guarded


_NO_MODEL: Final = SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: None))


def _refuses(app: App, limits: Limits) -> bool:
    """Whether the application answers 413 to a body over the limit, without reading it."""
    answers: list[Message] = []
    scope = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b"", "http_version": "1.1"}
    scope |= {"scheme": "http", "root_path": "", "headers": [(b"content-length", str(limits.content + 1).encode())]}

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answers.append(message)

    # a thread of its own: the server loads the model inside its running loop
    asking = threading.Thread(target=lambda: asyncio.run(app(scope, receive, send)))  # type: ignore[arg-type]
    asking.start()
    asking.join(30)
    return bool(answers) and answers[0].get("status") == 413


def _unguarded(why: str) -> TrackingError:
    from mlflow.version import VERSION

    return TrackingError(
        f"the scoring server of MLflow {VERSION} takes no limits on requests ({why})",
        expected=SUPPORTED,
        cure="install that, or answer requests with weakseg.serving.service.MapService behind a server of your own",
    )
