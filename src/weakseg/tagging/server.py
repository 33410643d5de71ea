"""`weakseg tag`: the server of the page, for this machine and whoever has the address with its token."""

from __future__ import annotations

import hmac
import os
import secrets
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from weakseg.core.errors import StageError, WeaksegError
from weakseg.labels.answer_file import ClosedFileError
from weakseg.report.safe_colours import safe_scheme
from weakseg.serving.local_server import HOST, LocalHandler, bind
from weakseg.tagging.session import TagSession, actions_of

_MOST_BYTES: Final = 1 << 20  # of a request
_ASSETS: Final = {"": "text/html", "tag.css": "text/css", "tag.js": "text/javascript"}


def make_server(session: TagSession, token: str, about: dict[str, Any], *, port: int = 0) -> ThreadingHTTPServer:
    """A server that is bound and waits for ``serve_forever``; :func:`address_of` says where the page is.

    Args:
        token: without which nothing is answered.
        about: facts for the page, as plain values: ``suggested`` annotator, ``said`` of the crops, ``model``.

    Raises:
        ParamsError: the port is taken.
    """
    safe = safe_scheme(session.scheme)
    pairs = [pair for pair in zip(safe.names, safe.colours, strict=True) if pair[0] != safe.background]
    about = about | {"classes": [{"name": name, "colour": list(colour)} for name, colour in pairs]}
    return bind(partial(_Handler, session, token, about), port)


def address_of(server: ThreadingHTTPServer, token: str) -> str:
    """Where the page is."""
    return f"http://{HOST}:{server.server_port}/{token}/"


@contextmanager
def only_server(root: Path) -> Iterator[None]:
    """Hold the workspace's lock on tagging: one server writes the answers; it ends with the process, however that ends.

    Raises:
        StageError: another `weakseg tag` serves the workspace.
    """
    from weakseg.tracking.locks import file_lock

    with file_lock(root / ".weakseg" / "tagging.lock", patience=0) as held:
        if not held:
            raise StageError(
                f"another `weakseg tag` serves {root}",
                expected="one server per workspace, for any number of people",
                cure="open its address and enter another name, or end it first",
            )
        yield


def workspace_token(root: Path) -> str:
    """The workspace's token, made once, for its owner alone: an open page goes on after a restart of the server."""
    path = root / ".weakseg" / "tagging_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and len(kept := path.read_text().strip()) >= 16:
        return kept
    token = secrets.token_urlsafe(16)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


class _Handler(LocalHandler):
    """GET /TOKEN/ is the page with its files and pictures; POST /TOKEN/next, answers, undo, release its requests."""

    protocol_version = "HTTP/1.1"  # one connection for many crops
    disable_nagle_algorithm = True
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    def __init__(self, session: TagSession, token: str, about: dict[str, Any], *arguments: Any) -> None:
        self.session, self.token, self.about = session, token, about
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """The page, its files, facts, pictures and guesses."""
        address = urlsplit(self.path)
        self.close_connection |= "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        name = self._address(address.path)
        if name is None:
            return
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        with self._answering():
            self._get(name, query)

    def _get(self, name: str, query: dict[str, str]) -> None:
        session = self.session
        if name in _ASSETS:
            page = files("weakseg.tagging").joinpath("page", name or "tag.html").read_bytes()
            self.send(HTTPStatus.OK, page, f"{_ASSETS[name]}; charset=utf-8")
        elif name == "about":
            self.send_json(HTTPStatus.OK, self.about)
        elif name == "picture":
            self._send_picture(session.pictures.crop(session.crop(query.get("key", ""))))
        elif name == "overview":
            self._send_picture(session.pictures.overview(session.area(query.get("area", ""))))
        elif name == "guess":
            self.send_json(HTTPStatus.OK, session.guess(query.get("keys", "").split("\t")))
        else:
            self._not_found()

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        """What the page asks for; what it can mend is 400 and a sentence, all else 500 and a traceback."""
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else 0
        self.close_connection |= not length.isdecimal()  # what follows could not be told from the next request
        body = self.rfile.read(size) if size <= _MOST_BYTES else None
        if body is None:
            self.discard(size)
        name = self._address(self.path)
        if name is None:
            return
        known = actions_of(self.session)
        if name not in known:
            self._not_found()
        elif body is None or self.headers.get_content_type() != "application/json":
            message = f"a body of {size} bytes; expected JSON of at most {_MOST_BYTES}; load the page again"
            self.send_json(HTTPStatus.BAD_REQUEST, {"message": message})
        else:
            form, act = known[name]
            with self._answering():
                self.send_json(HTTPStatus.OK, act(form.model_validate_json(body)))

    def _address(self, path: str) -> str | None:
        """What follows the token; None after refusing a request from elsewhere or without it."""
        if not self.from_here():
            return None
        token, _, name = path.removeprefix("/").partition("/")
        if hmac.compare_digest(token.encode(), self.token.encode()):
            return name
        message = "no token in the address; expected the one that weakseg tag printed; open that address"
        self.send_json(HTTPStatus.FORBIDDEN, {"message": message})
        return None

    def _not_found(self) -> None:
        self.send_json(HTTPStatus.NOT_FOUND, {"message": "no such address; expected the page; load it again"})

    def _send_picture(self, picture: bytes) -> None:
        # the browser may keep it in memory: the page asks early, and shows it later
        self.send(HTTPStatus.OK, picture, "image/jpeg", Cache_Control="private, max-age=600")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except ClosedFileError:  # no answer at all: the page keeps its own and asks again until a server is back
            self.close_connection = True
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message = f"{'.'.join(map(str, first['loc'])) or 'request'}: {first['msg']}; expected what the page sends"
            self.send_json(HTTPStatus.BAD_REQUEST, {"message": f"{message}; load it again"})
        except WeaksegError as error:
            self.send_json(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        except Exception:  # the terminal gets the traceback, the page a sentence, and the server lives on
            traceback.print_exc(file=sys.stderr)
            message = "weakseg tag failed; the traceback is in its terminal"
            self.send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"message": message})
