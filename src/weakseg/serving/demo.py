"""`weakseg demo`: a page on this machine to drop an image on and see its map; it writes nothing, needs no network."""

from __future__ import annotations

import base64
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote

from weakseg.core.errors import DataError, WeaksegError
from weakseg.inference.encode import FULL, LIMIT
from weakseg.raster.pictures import encode_jpeg, encode_png
from weakseg.serving.local_server import LocalHandler, bind
from weakseg.serving.service import Answer, MapService, TooLargeError, check_length

# one file with its own style and script, pictures that the script makes, requests to this server: nothing else
PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def read_page() -> bytes:
    """The page, HTML; what it shares with the page of ``weakseg serve`` is put into its script."""
    folder = files("weakseg.serving")
    shared = folder.joinpath("page/drop.js").read_bytes()
    return folder.joinpath("demo.html").read_bytes().replace(b"/* page/drop.js */", shared)


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
    return bind(partial(_Handler, service, about_service(service, model), {"bands": bands, "stretch": stretch}), port)


def about_service(service: MapService, model: str) -> dict[str, Any]:
    """What the page shows before the first image."""
    predictor = service.predictor
    pairs = zip(predictor.scheme.names, predictor.scheme.colours, strict=True)
    return {
        "model": model,
        "classes": [{"name": name, "colour": list(colour)} for name, colour in pairs],
        "gsd": predictor.gsd,
        "max_pixels": service.limits.pixels,
        "max_bytes": service.limits.content,
        "max_upload": service.limits.upload,
        "applicable": predictor.applicable,
        "limit": LIMIT,
        "full": FULL,
    }


def page_reply(answer: Answer, count: int, seconds: float) -> dict[str, Any]:
    """What the page shows of an answer."""
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


class _Handler(LocalHandler):
    """GET / is the page, GET /about its model, POST /map takes a file and answers with its map."""

    policy = PAGE_POLICY

    def __init__(self, service: MapService, about: dict[str, Any], reading: dict[str, Any], *arguments: Any) -> None:
        self.service, self.about, self.reading = service, about, reading
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """The page and its model."""
        if not self.from_here():
            return
        if self.path == "/":
            self.send(HTTPStatus.OK, read_page(), "text/html; charset=utf-8")
        elif self.path == "/about":
            self.send_json(HTTPStatus.OK, self.about)
        else:
            self.send_json(HTTPStatus.NOT_FOUND, {"message": "no such page; expected /; go there"})

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        """A map; what the sender can mend is 4xx and a sentence, all else 500 and a traceback in the terminal."""
        if not self.from_here():
            return
        if self.path != "/map":
            self.send_json(HTTPStatus.NOT_FOUND, {"message": "no such address; expected /map; post there"})
            return
        try:
            self.send_json(HTTPStatus.OK, self._map())
        except TooLargeError as error:
            self.send_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"message": str(error)})
        except WeaksegError as error:
            self.send_json(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        except Exception:  # the terminal gets the traceback, the page a sentence, and the server lives on
            traceback.print_exc(file=sys.stderr)
            message = "the prediction failed; the traceback is in the terminal of weakseg demo"
            self.send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"message": message})

    def _map(self) -> dict[str, Any]:
        name = unquote(self.headers.get("X-File-Name", "")) or "image"
        content = self._body(name)
        began = time.monotonic()
        answer = self.service.answer_file(content, name, **self.reading)
        return page_reply(answer, len(self.service.predictor.scheme), time.monotonic() - began)

    def _body(self, name: str) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise DataError(f"{name}: no length", expected="Content-Length", cure="send that header")
        try:
            check_length(int(length), self.service.limits, name)
        except TooLargeError:
            self.discard(int(length))  # a browser reads the answer only after it has sent everything
            raise
        return self.rfile.read(int(length))
