"""`weakseg demo`: a page on this machine to drop an image on and see its map. It writes nothing and needs no network.

The server binds 127.0.0.1 and answers only requests that name it so (a page elsewhere cannot ask it through the
browser, not even with a name that resolves to this machine).
"""

from __future__ import annotations

import base64
import json
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote

from weakseg.core.errors import DataError, ParamsError, WeaksegError
from weakseg.inference.encode import FULL
from weakseg.serving.service import Answer, MapService, TooLargeError, check_length, encode_jpeg, encode_png

HOST: Final = "127.0.0.1"
_TIMEOUT: Final = 60  # seconds without a byte from the browser
_HEADERS: Final = {
    # one file with its own style and script, pictures that the script makes, requests to this server: nothing else
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_server(
    service: MapService, model: str, *, port: int = 0, bands: Sequence[int] = (), stretch: Sequence[float] = ()
) -> ThreadingHTTPServer:
    """A server that is bound and waits for ``serve_forever``.

    Args:
        service: the network and its limits.
        model: its address, to be shown.
        port: of 127.0.0.1; 0 takes a free one (``server_address`` says which).
        bands: three bands from 1, for rasters that have not exactly 3.
        stretch: two pixel values that become 0 and 255, for rasters that have not 8 bits.

    Raises:
        ParamsError: the port is taken.
    """
    handler = partial(_Handler, service, _about(service, model), {"bands": bands, "stretch": stretch})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParamsError(f"port {port}: {reason}", expected="a free port", cure="choose another --port") from error


def _about(service: MapService, model: str) -> dict[str, Any]:
    """What the page shows before the first image."""
    predictor = service.predictor
    pairs = zip(predictor.scheme.names, predictor.scheme.colours, strict=True)
    return {
        "model": model,
        "classes": [{"name": name, "colour": list(colour)} for name, colour in pairs],
        "gsd": predictor.gsd,
        "max_pixels": service.limits.pixels,
        "max_bytes": service.limits.content,
        "full": FULL,
    }


def _reply(answer: Answer, count: int, seconds: float) -> dict[str, Any]:
    height, width = answer.classes.shape
    return {
        "height": height,
        "width": width,
        "image": base64.b64encode(encode_jpeg(answer.image)).decode(),
        "classes": base64.b64encode(encode_png(answer.classes)).decode(),
        "confidence": base64.b64encode(encode_png(answer.confidence)).decode(),
        "shares": answer.shares(count),
        "seconds": round(seconds, 2),
    }


class _Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /about its model, POST /map takes a file and answers with its map."""

    timeout = _TIMEOUT
    server_version, sys_version = "weakseg", ""

    def __init__(self, service: MapService, about: dict[str, Any], reading: dict[str, Any], *arguments: Any) -> None:
        self.service, self.about, self.reading = service, about, reading
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """The page and its model."""
        if not self._from_here():
            return
        if self.path == "/":
            page = files("weakseg.serving").joinpath("demo.html").read_bytes()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif self.path == "/about":
            self._send_json(HTTPStatus.OK, self.about)
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"message": "no such page; expected /; go there"})

    def do_POST(self) -> None:
        """A map; what the sender can mend is 4xx and a sentence, all else 500 and a traceback in the terminal."""
        if not self._from_here():
            return
        if self.path != "/map":
            self._send_json(HTTPStatus.NOT_FOUND, {"message": "no such address; expected /map; post there"})
            return
        try:
            self._send_json(HTTPStatus.OK, self._map())
        except TooLargeError as error:
            self._send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"message": str(error)})
        except WeaksegError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        except Exception:  # the terminal gets the traceback, the page a sentence, and the server lives on
            traceback.print_exc(file=sys.stderr)
            message = "the prediction failed; the traceback is in the terminal of weakseg demo"
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"message": message})

    def _map(self) -> dict[str, Any]:
        name = unquote(self.headers.get("X-File-Name", "")) or "image"
        content = self._body(name)
        began = time.monotonic()
        answer = self.service.answer_file(content, name, **self.reading)
        return _reply(answer, len(self.service.predictor.scheme), time.monotonic() - began)

    def _body(self, name: str) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise DataError(f"{name}: no length", expected="Content-Length", cure="send that header")
        try:
            check_length(int(length), self.service.limits, name)
        except TooLargeError:
            self._discard(int(length))  # a browser reads the answer only after it has sent everything
            raise
        return self.rfile.read(int(length))

    def _discard(self, length: int) -> None:
        while length > 0 and (chunk := self.rfile.read(min(length, 1 << 16))):
            length -= len(chunk)

    def _from_here(self) -> bool:
        """Refuse what a page elsewhere asks: another host name (DNS rebinding) or another origin."""
        port = self.server.server_address[1]  # type: ignore[index]  # a pair, as HOST is an IPv4 address
        hosts = {f"{host}:{port}" for host in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in hosts and origin in {None, *(f"http://{host}" for host in hosts)}:
            return True
        message = f"request from elsewhere; expected http://{HOST}:{port}; open that address"
        self._send_json(HTTPStatus.FORBIDDEN, {"message": message})
        return False

    def _send_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for key, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # the browser went away
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """The terminal stays quiet."""
