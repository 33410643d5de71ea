"""A server for pages of this machine alone: what `weakseg demo` and `weakseg tag` share.

It binds 127.0.0.1 and answers only requests that name it so (a page elsewhere cannot ask it through the browser, not
even with a name that resolves to this machine).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from weakseg.core.errors import ParamsError

HOST: Final = "127.0.0.1"
_TIMEOUT: Final = 60  # seconds without a byte from the browser
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def bind(handler: Callable[..., BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    """A server of 127.0.0.1 that is bound and waits for ``serve_forever``; port 0 takes a free one.

    Raises:
        ParamsError: the port is taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParamsError(f"port {port}: {reason}", expected="a free port", cure="choose another --port") from error


class LocalHandler(BaseHTTPRequestHandler):
    """Answers with the headers of a page that loads nothing from elsewhere; ``policy`` is what it may load."""

    timeout = _TIMEOUT
    server_version, sys_version = "weakseg", ""
    policy = "default-src 'none'"

    def from_here(self) -> bool:
        """Refuse what a page elsewhere asks: another host name (DNS rebinding) or another origin."""
        port = self.server.server_address[1]  # type: ignore[index]  # a pair, as HOST is an IPv4 address
        hosts = {f"{host}:{port}" for host in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and origin in {None, *(f"http://{host}" for host in hosts)}:
            return True
        message = f"request from elsewhere; expected http://{HOST}:{port}; open that address"
        self.send_json(HTTPStatus.FORBIDDEN, {"message": message})
        return False

    def send_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        """An answer for the script of the page."""
        self.send(status, json.dumps(value).encode(), "application/json")

    def send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        """Any answer; ``headers`` with underscores win over those of every answer."""
        own = {key.replace("_", "-"): value for key, value in headers.items()}
        every = {**_HEADERS, "Content-Security-Policy": self.policy, **own}
        self.send_response(status)
        for key, value in {**every, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # the browser went away
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses, such as a method or a line that is none: JSON too, not a page."""
        self.close_connection = True
        self.send_json(HTTPStatus(code), {"message": f"{HTTPStatus(code).phrase}; expected GET or POST; load the page"})

    def discard(self, length: int) -> None:
        """Read a body that is refused: a browser reads the answer only after it has sent everything."""
        while length > 0 and (chunk := self.rfile.read(min(length, 1 << 16))):
            length -= len(chunk)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The terminal stays quiet."""
