"""A proxy before a real server that refuses, hangs, is slow, cuts off, answers nonsense or loses answers."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TROUBLES = ("refuse", "hang", "slow", "cut", "error", "garbage", "lost")
"""closed at once | no answer | answered late | closed in the middle of the request | 500 | 502 with a page of HTML |
done, but the answer is lost."""
HANG = 3.0  # seconds; the clients of the tests wait for less


class BadServer(ThreadingHTTPServer):
    """Passes requests on; ``troubles`` holds what happens to the next ones, then all is well."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(address)
        self.origin = (parts.hostname or "", parts.port or 80)
        self.troubles: list[str] = []
        self.injected: list[str] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_trouble(self) -> str:
        with self.lock:
            trouble = self.troubles.pop(0) if self.troubles else ""
            if trouble:
                self.injected.append(trouble)
            return trouble

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that gave up are what is wanted here."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def _serve(self) -> None:
        trouble = self.server.next_trouble()
        if trouble in ("refuse", "cut"):
            if trouble == "cut":
                self.rfile.read(min(64, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        if trouble == "hang":
            time.sleep(HANG)
        elif trouble == "error":
            self._answer(500, b'{"error_code": "INTERNAL_ERROR", "message": "drawn"}', "application/json")
        elif trouble == "garbage":
            self._answer(502, b"<html>Bad gateway</html>", "text/html")
        else:
            time.sleep(0.3 if trouble == "slow" else 0)
            self._pass_on(body, lost=trouble == "lost")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _body(self) -> bytes:
        """All of it, in one piece, whether its length was told before (MLflow) or it comes in chunks (S3's clients)."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _pass_on(self, body: bytes, *, lost: bool) -> None:
        link = http.client.HTTPConnection(*self.server.origin, timeout=60)
        own = ("host", "connection", "transfer-encoding", "expect")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        link.request(self.command, self.path, body, headers)
        reply = link.getresponse()
        content = reply.read()
        link.close()
        if not lost:
            self._answer(reply.status, content, reply.getheader("Content-Type") or "", reply.getheaders())

    def _answer(self, code: int, content: bytes, kind: str, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(code)
        for name, value in headers or [("Content-Type", kind)]:
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        told = dict(headers or []).get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", told or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


@contextmanager
def bad_server(address: str) -> Iterator[BadServer]:
    """The proxy, at work in threads of this process."""
    server = BadServer(address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            server.shutdown()
            server.server_close()
