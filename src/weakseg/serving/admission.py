"""How many requests are at work at once, and what a server says of itself: middleware of ASGI applications.

Every map takes a share of the memory and a turn of the network. More than a few requests that wait gain nothing and
hold their bodies in memory, so the rest are told at once to come again: 503 with ``Retry-After``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
RETRY: Final = 2  # seconds that a client is asked to wait


class Admission:
    """ASGI middleware: at most ``limit`` requests to ``paths`` at a time; more are 503, their bodies read and dropped.

    Args:
        paths: beginnings of those that cost something.
        longest: bytes of a body that is still read before the answer; a client reads it only when it has sent all.
    """

    def __init__(self, app: App, *, paths: Sequence[str], limit: int, longest: int) -> None:
        self.app, self.paths, self.limit, self.longest = app, tuple(paths), limit, longest
        self.inside = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self.paths):
            await self.app(scope, receive, send)
            return
        if self.inside >= self.limit:
            await self._refuse(scope, receive, send)
            return
        self.inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= 1

    async def _refuse(self, scope: Message, receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1")
        if length.isdecimal() and int(length) <= self.longest:
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
        sentence = f"{self.limit} requests are at work; expected fewer; come again in {RETRY} s"
        body = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": sentence}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY).encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Counters:
    """What a server counts, for Prometheus.

    Attributes:
        registry: of this application alone.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        kept, head = self.registry, "From head to end of the answer."
        self.requests = Counter("weakseg_requests", "Requests answered.", ("path", "status"), registry=kept)
        self.seconds = Histogram("weakseg_request_seconds", head, ("path",), registry=kept)
        self.inside = Gauge("weakseg_requests_in_progress", "Requests at work.", registry=kept)

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))


class Counted:
    """ASGI middleware that counts requests by path and status, and measures them.

    Args:
        paths: beginnings that are told apart; all else is ``other``.
    """

    def __init__(self, app: App, counters: Counters, *, paths: Sequence[str]) -> None:
        self.app, self.counters, self.paths = app, counters, tuple(paths)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = next((known for known in self.paths if scope["path"].startswith(known)), "other")
        began, status = time.monotonic(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.counters.inside.inc()
        try:
            await self.app(scope, receive, told)
        finally:
            self.counters.inside.dec()
            self.counters.requests.labels(path, str(status)).inc()
            self.counters.seconds.labels(path).observe(time.monotonic() - began)
