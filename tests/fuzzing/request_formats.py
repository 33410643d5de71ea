"""Requests: to `weakseg serve`, to the page of `weakseg tag`, rows for the registered model."""

from __future__ import annotations

import base64
import io
import json
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import ClassVar, Final
from urllib.parse import quote

import numpy as np
from PIL import Image
from pydantic import ValidationError
from starlette.testclient import TestClient
from tests.conftest import build_workspace
from tests.fuzzing.harness import Format, WrongError, same, sure
from tests.fuzzing.mutations import JUNK, as_json, change_bytes, change_tree
from tests.serving.test_service import IMAGE, geotiff, service

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.answer_file import AnswerFile, read_answers
from weakseg.raster.pictures import encode_png
from weakseg.serving.application import make_application
from weakseg.serving.open_rasters import Rasters
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.proposals import propose_crops
from weakseg.tagging.session import TagSession, actions_of

QUERIES: Final = (
    "", "1", "-1", "3,2,1", "nan", "inf", "1e400", "0", "9" * 30, "tif", "png", "json", "classes", "margin", "é", "%00",
)  # fmt: skip
PATHS: Final = (
    ("POST", "/map"), ("POST", "/map"), ("POST", "/map"), ("POST", "/rasters/upload"), ("POST", "/rasters"),
    ("GET", "/tiles/1/0/0.png"), ("GET", "/tiles/99/-1/1e9.png"), ("GET", "/rasters/x"), ("GET", "/rasters"),
    ("GET", "/about"), ("POST", "/rasters/x/area"), ("GET", "/rasters/../x"), ("DELETE", "/map"), ("GET", "/healthz"),
)  # fmt: skip


class ServeFormat(Format):
    """A request as JSON: method, address, headers and body; below 500, and a sentence where it is refused."""

    name = "serve requests"
    is_file = False
    inputs = 1500
    sample = 25

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        build_workspace(folder / "w")
        answering = service(pixels=20_000, content=100_000)
        application = make_application(answering, "models:/a@b", rasters=Rasters(answering, folder / "w"))
        self.client = TestClient(application, base_url="http://127.0.0.1", raise_server_exceptions=False)
        self.bodies = [encode_png(IMAGE), geotiff(IMAGE), as_json({"path": "data/images/p1.tif", "bands": [1, 2, 3]})]
        self.seeds = [self._pack("POST", "/map", {}, self.bodies[0])]

    @staticmethod
    def _pack(method: str, address: str, headers: dict[str, str], body: bytes) -> bytes:
        return as_json([method, address, headers, base64.b64encode(body).decode()])

    def draw(self, rng: Random) -> bytes:
        method, address = rng.choice(PATHS)
        body = rng.choice(self.bodies)
        if body[:1] == b"{":
            body = as_json(change_tree(rng, json.loads(body)))
        elif rng.random() < 0.7:
            body = change_bytes(rng, body, self.bodies)
        words = [f"{rng.choice(('bands', 'stretch', 'layer', 'format', 'x'))}={rng.choice(QUERIES)}" for _ in range(3)]
        query = "&".join(words[: rng.randrange(4)])
        headers: dict[str, str] = {}
        if rng.random() < 0.2:
            name = rng.choice(("origin", "host", "accept", "content-type", "x-file-name", "content-length"))
            headers[name] = rng.choice(
                ("http://elsewhere", "127.0.0.1", "image/png", "application/json", "..%2Fx", "-1")
            )
        return self._pack(method, f"{address}?{query}" if query else address, headers, body)

    def read(self, path: Path, content: bytes) -> None:
        method, address, headers, body = json.loads(content)
        address = quote(address, safe="/?&=,%-.")
        found = self.client.request(method, address, headers=headers, content=base64.b64decode(body))
        if found.status_code < 400:
            sure("elsewhere" not in headers.get("host", ""), "another host was answered")
            return
        if found.status_code >= 500 and found.status_code != 503:
            raise RuntimeError(f"{found.status_code} {found.text[:300]}")
        if found.headers.get("content-type", "").startswith("application/json"):
            told = found.json()
            raise DataError(str(told.get("message", told)), expected="a request", cure="mend it")
        raise DataError(found.text[:200], expected="a request", cure="mend it")


class TagFormat(Format):
    """What the page of `weakseg tag` sends: what is kept can be read again."""

    name = "tag requests"
    is_file = False
    inputs = 1500
    sample = 30
    person: ClassVar[dict[str, str]] = {"annotator": "Ana", "page": "p1"}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        root = build_workspace(folder / "w")
        self.path, self.stack = root / "tagging" / "answers.jsonl", ExitStack()
        proposal = propose_crops(root, order=None, areas=(), size=None, disputes=False)
        self.file = self.stack.enter_context(AnswerFile(self.path, ISPRS))
        pictures = CropPictures(root / "data" / "images", proposal.sizes, root / ".weakseg" / "overviews")
        self.session = TagSession(self.file, proposal, ISPRS, pictures)
        self.actions = actions_of(self.session)
        area, window = proposal.crops[0]
        answer = {"id": "x1", "area": area, "window": list(window), "seconds": 1.5, "present": ["tree"]}
        answer |= {"absent": [name for name in ISPRS.names if name != "tree"], "unsure": [], "guess": {"tree": 0.5}}
        self.trees = {
            "next": {**self.person, "count": 2, "held": []},
            "answers": {**self.person, "answers": [answer]},
            "undo": {**self.person, "id": "u1"},
        }
        self.seeds = [as_json([name, tree]) for name, tree in self.trees.items() if name in self.actions]

    def draw(self, rng: Random) -> bytes:
        name = rng.choice(("answers", "answers", "next", "undo", "release"))
        tree = change_tree(rng, self.trees.get(name, self.person), (*JUNK, "t1", "t2", [0, 0, 16, 16], "car"))
        if rng.random() < 0.5 and isinstance(tree, dict) and isinstance(tree.get("answers"), list):
            for one in tree["answers"]:
                if isinstance(one, dict):
                    one["id"] = f"i{rng.randrange(10**9)}"
        return as_json([name, tree])

    def read(self, path: Path, content: bytes) -> None:
        name, tree = json.loads(content)
        if name not in self.actions:
            return
        form, act = self.actions[name]
        before = self.path.stat().st_size
        try:
            answer = act(form.model_validate_json(json.dumps(tree)))
        except ValidationError as error:
            raise DataError(
                str(error.errors()[0]["msg"]), expected="what the page sends", cure="load it again"
            ) from error
        json.dumps(answer, allow_nan=False)
        if self.path.stat().st_size != before:
            same(len(read_answers(self.path, ISPRS)) <= len(self.file.events), True, "answers")
        if self.path.stat().st_size > 200_000:
            raise WrongError("answers grow without an end")


class RowsFormat(Format):
    """Rows and parameters that MLflow's server hands to the registered model."""

    name = "mlflow rows"
    is_file = False
    inputs = 2000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from weakseg.serving.registered_model import RegisteredSegmenter

        self.model = RegisteredSegmenter()
        self.model.service = service(pixels=20_000, content=100_000)
        small = IMAGE[:3, :4]
        file = base64.b64encode(encode_png(small)).decode()
        self.trees = (
            {"rows": [{"pixels": small.tolist()}], "params": {"confidence": True}},
            {
                "rows": [{"file": file}, {"file": f"data:image/png;base64,{file}"}],
                "params": {"png": True, "bands": "1,2,3"},
            },
        )
        self.seeds = [as_json(tree) for tree in self.trees]

    def draw(self, rng: Random) -> bytes:
        return as_json(change_tree(rng, rng.choice(self.trees)))

    def read(self, path: Path, content: bytes) -> None:
        asked = json.loads(content)
        rows, params = (asked.get(key) for key in ("rows", "params")) if isinstance(asked, dict) else (None, None)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError("no rows", expected="a table, as MLflow makes one", cure="send one")
        kinds = {"confidence": bool, "png": bool, "bands": str, "stretch": str}  # MLflow's signature sees to these
        params = (
            {k: v for k, v in (params or {}).items() if isinstance(v, kinds.get(k, ()))}
            if isinstance(params, dict)
            else {}
        )
        for answer in self.model._answer(rows, params):
            layer = answer["classes"]
            if isinstance(layer, str):
                layer = np.asarray(Image.open(io.BytesIO(base64.b64decode(layer)))).tolist()
            values = {value for row in layer for value in row}
            sure(values <= {*range(len(ISPRS)), 255}, f"classes {values}")


REQUEST_FORMATS = (ServeFormat, TagFormat, RowsFormat)
