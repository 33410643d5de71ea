"""Served maps are those of `weakseg predict`; what is wrong with a request is 4xx and one sentence, over real HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from fastapi import FastAPI
from rasterio.io import MemoryFile
from tests.generators.small_networks import save_network, unpool
from tests.inference.one_raster import predict_raster
from torch import Tensor

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, ParamsError, TrackingError
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.raster.pictures import encode_png
from weakseg.raster.stream import inspect_source
from weakseg.registry.pyfunc import save_pyfunc
from weakseg.serving.request_guard import guard_requests, in_mlflow_server, shorten
from weakseg.serving.service import Limits, MapService, TooLargeError, limits_from_environment
from weakseg.training.machine import Machine

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PROJECT = Path(__file__).parents[2]
CPU = Machine(device="cpu", precision="no", quiet=True)
IMAGE = np.random.default_rng(0).integers(1, 256, (40, 56, 3), dtype=np.uint8)


def blurred(images: Tensor) -> Tensor:
    """Five fixed mixtures of the blurred bands."""
    kernel = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.4, 0.4], [-1, 1, 0.2]])
    soft = torch.nn.functional.avg_pool2d(images.float(), 9, stride=1, padding=4)
    return torch.einsum("kc,bchw->bkhw", kernel, soft / 64 - 2).softmax(1)


def service(scale: float = 1.0, gsd: float | None = None, **limits: int) -> MapService:
    return MapService(Predictor(blurred, ISPRS, scale, gsd, torch.device("cpu"), "digest"), Limits(**limits))


def geotiff(image: np.ndarray, metres: float = 0.1) -> bytes:
    """With a place on Earth; pixels of three zeros are no data."""
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(metres, 0, 497000, 0, -metres, 5420000)}
    layout = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype.name}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", nodata=0, **layout, **place) as file:
            file.write(np.moveaxis(image, -1, 0))
        return bytes(memory.read())


@pytest.mark.parametrize(("scale", "gsd"), [(1.0, None), (0.5, None), (1.0, 0.15)])
def test_an_answer_is_the_map_that_predict_writes(tmp_path: Path, scale: float, gsd: float | None) -> None:
    rng = np.random.default_rng(1)
    image = cv2.resize(rng.integers(1, 256, (60, 80, 3), dtype=np.uint8), (700, 600), interpolation=cv2.INTER_LINEAR)
    image[:50, :70] = 0
    (tmp_path / "a.tif").write_bytes(geotiff(image))
    answering = service(scale, gsd)
    answer = answering.answer_file((tmp_path / "a.tif").read_bytes())
    source = inspect_source(tmp_path / "a.tif", None)
    run_predictor(answering.predictor, source, tmp_path / "o.tif", Options(confidence=tmp_path / "c.tif"))
    for found, name in ((answer.classes, "o.tif"), (answer.confidence, "c.tif")):
        with rasterio.open(tmp_path / name) as file:
            np.testing.assert_array_equal(found, file.read(1))
    np.testing.assert_array_equal(answer.image, image)
    assert (answer.classes[:50, :70] == IGNORE).all()
    valid = answer.classes[answer.classes != IGNORE]
    assert answer.shares(5) == pytest.approx([(valid == index).mean() for index in range(5)])


def test_pixels_and_files_are_the_same_image() -> None:
    one, two = service().answer_file(encode_png(IMAGE)), service().answer_pixels(IMAGE.tolist())
    np.testing.assert_array_equal(one.classes, two.classes)
    np.testing.assert_array_equal(two.image, IMAGE)
    four = np.dstack([IMAGE, IMAGE[..., 0]])
    np.testing.assert_array_equal(service().answer_pixels(four, bands=(1, 2, 3)).classes, one.classes)


def test_requests_over_the_limits_are_refused_before_they_are_predicted() -> None:
    assert service(pixels=40 * 56).answer_pixels(IMAGE).classes.shape == (40, 56)
    with pytest.raises(TooLargeError, match=r"image: 40 x 56 px; expected at most 2239 px"):
        service(pixels=40 * 56 - 1).answer_file(encode_png(IMAGE))
    with pytest.raises(TooLargeError, match=r"40 x 56 px; expected at most 5000 px"):
        service(pixels=5000).answer_pixels(IMAGE, budget=2239)
    with pytest.raises(TooLargeError, match=r"a: 0\.00651 MiB; expected at most 9\.54e-06 MiB; .*`weakseg predict`"):
        service(content=10).answer_file(encode_png(IMAGE), "a")
    coarse = geotiff(IMAGE, metres=0.7)  # 1 px there is 7 x 7 of the network's
    with pytest.raises(TooLargeError, match=r"40 x 56 px, enlarged 7 times; expected at most 109000 px"):
        service(gsd=0.1, pixels=109_000).answer_file(coarse)
    with pytest.raises(DataError, match=r"image: 10 m per px, 100 times coarser than the 0\.1 m of the training"):
        service(gsd=0.1).answer_file(geotiff(IMAGE, metres=10.0))
    with pytest.raises(DataError, match="1 band"):
        service().answer_file(encode_png(IMAGE[..., 0]))


def test_many_threads_get_their_own_maps() -> None:
    images = [np.roll(IMAGE, shift, axis=2) for shift in range(3)]
    answering = service()
    expected = [answering.answer_pixels(image).classes for image in images]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda index: answering.answer_pixels(images[index % 3]).classes, range(12)))
    for index, classes in enumerate(found):
        np.testing.assert_array_equal(classes, expected[index % 3])


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits_from_environment() == Limits(16_777_216, 67_108_864)
    monkeypatch.setenv("WEAKSEG_MAX_PIXELS", "123")
    monkeypatch.setenv("WEAKSEG_MAX_BYTES", "456")
    assert limits_from_environment() == Limits(123, 456)
    monkeypatch.setenv("WEAKSEG_MAX_PIXELS", "0")
    with pytest.raises(ParamsError, match="WEAKSEG_MAX_PIXELS=0; expected a whole number from 1"):
        limits_from_environment()


# ---- the registered model in MLflow's scoring server -----------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow model of a tiny network, with m.pt beside it."""
    folder = tmp_path_factory.mktemp("served")
    save_network(folder / "m.pt", unpool(32), scale=1.0)
    (folder / "e.json").write_text("{}")
    save_pyfunc(folder / "m.pt", folder / "e.json", folder / "model")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[int]:
    """The port of the process that `mlflow models serve` would start: 40,000 px and 200,000 bytes per request."""
    from mlflow.pyfunc import scoring_server

    port = free_port()
    command, environment = scoring_server.get_cmd(str(folder / "model"), port, "127.0.0.1", 60, 1)
    environment |= {"WEAKSEG_MAX_PIXELS": "40000", "WEAKSEG_MAX_BYTES": "200000", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with started([sys.executable, "-m", *command.split()], folder, environment) as process:
        wait_for(port, process, folder / "log")
        yield port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in ``folder`` that writes into ``log`` there, and its children, until the block ends."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            link.request("GET", "/ping")
            if link.getresponse().status == 200:
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def invoke(port: int, body: Any, **headers: str) -> tuple[int, Any]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    link.request("POST", "/invocations", content, {"Content-Type": "application/json", **headers})
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, json.loads(text)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def rows(*given: dict[str, Any], **params: Any) -> dict[str, Any]:
    return {"dataframe_records": list(given), "params": params}


def test_the_server_answers_files_and_arrays_with_predict_s_map(server: int, folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE[..., ::-1])
    predict_raster(folder / "m.pt", tmp_path / "a.png", tmp_path / "o.tif", confidence=tmp_path / "c.tif", machine=CPU)
    with rasterio.open(tmp_path / "o.tif") as o, rasterio.open(tmp_path / "c.tif") as c:
        classes, confidence = o.read(1).tolist(), c.read(1).tolist()
    names = list(ISPRS.names)
    file, other = b64((tmp_path / "a.png").read_bytes()), b64(geotiff(np.dstack([IMAGE, IMAGE[..., 0]])))
    status, found = invoke(server, rows({"file": file}, confidence=True))
    assert (status, found) == (
        200, {"predictions": [{"classes": classes, "names": names, "confidence": confidence}]}
    )  # fmt: skip
    plain = {"predictions": [{"classes": classes, "names": names}]}
    assert invoke(server, rows({"pixels": IMAGE.tolist()})) == (200, plain)
    assert invoke(server, {"inputs": {"file": [file]}}) == (200, plain)
    assert invoke(server, {"inputs": {"file": [file, file]}}) == (200, {"predictions": plain["predictions"] * 2})
    assert invoke(server, {"inputs": {"file": file}}) == (200, plain)
    assert invoke(server, {"inputs": {"pixels": [IMAGE.tolist()]}}) == (200, plain)
    assert invoke(server, {"dataframe_split": {"columns": ["file"], "data": [[file]]}}) == (200, plain)
    assert invoke(server, rows({"file": other}, bands="1,2,3")) == (200, plain)
    deep = b64(geotiff(IMAGE.astype(np.uint16) * 8))
    assert invoke(server, rows({"file": deep}, stretch="0,2040")) == (200, plain)
    status, found = invoke(server, rows({"file": file}, {"file": file}, png=True))
    assert (status, len(found["predictions"])) == (200, 2)
    picture = np.frombuffer(base64.b64decode(found["predictions"][1]["classes"]), np.uint8)
    assert cv2.imdecode(picture, cv2.IMREAD_UNCHANGED).tolist() == classes


def test_the_input_example_is_a_request(server: int, folder: Path) -> None:
    status, found = invoke(server, (folder / "model" / "serving_input_example.json").read_bytes())
    assert (status, np.shape(found["predictions"][0]["classes"])) == (200, (48, 64))


BAD: dict[str, tuple[Any, int, str]] = {
    "garbage": (rows({"file": b64(b"garbage")}), 400, "image 0: starts with b'garb'; expected a GeoTIFF, PNG or JPEG"),
    "cut off": (rows({"file": b64(encode_png(IMAGE)[:900])}), 400, "image 0: cannot be read (a PNG that ends early"),
    "four bands": (rows({"file": b64(geotiff(np.ones((9, 9, 4), np.uint8)))}), 400, "image 0: 4 band(s)"),
    "one band": (rows({"pixels": np.zeros((9, 9, 1), int).tolist()}), 400, "image 0: 1 band(s); expected 3 bands"),
    "no base64": ({"inputs": {"file": ["@@@"]}}, 400, "image 0: file is neither bytes nor base64 (3 characters)"),
    "a number": ({"inputs": {"file": [1e12]}}, 400, "row 0 with neither file nor pixels"),
    "no whole base64": (rows({"file": "abcde"}), 400, "image 0: file is neither bytes nor base64 (5 characters)"),
    "two alphabets": (rows({"file": "ab+-"}), 400, "image 0: file is neither bytes nor base64"),
    "half base64": (rows({"file": "abc"}), 400, "image 0: starts with b'i\\xb7'; expected a GeoTIFF, PNG or JPEG"),
    "no file": (rows({"file": ""}), 400, "image 0: an empty file"),
    "a data URI of text": (rows({"file": "data:text/plain,hello"}), 400, "image 0: a data URI that is not in base64"),
    "a data URI of no image": (rows({"file": "data:;base64,aGVsbG8="}), 400, "image 0: starts with b'hell'"),
    "channels first": (rows({"pixels": IMAGE.transpose(2, 0, 1).tolist()}), 400, "looks like channels first"),
    "a batch": (rows({"pixels": IMAGE[None].tolist()}), 400, "shape (1, 40, 56, 3)"),
    "ragged": (rows({"pixels": [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]}), 400, "rows of different lengths"),
    "no pixels": (rows({"pixels": []}), 400, "image 0: rows of different lengths, or none"),
    "16-bit values": (rows({"pixels": (IMAGE * np.int64(16)).tolist()}), 400, "16 to 4080; expected height x width"),
    "negative": (rows({"pixels": [[[-1, 2, 3]]]}), 400, "-1 to 3; expected"),
    "shares of white": (rows({"pixels": (IMAGE / 255).tolist()}), 400, "may be shares of white or very dark"),
    "zeros and ones": (rows({"pixels": [[[0.0, 1.0, 1.0]]]}), 400, "times 255 and rounded if 1 is white"),
    "NaN": (b'{"dataframe_records": [{"pixels": [[[NaN, 2.0, 3.0]]]}]}', 400, "with NaN or infinity"),
    "null": (rows({"pixels": [[[None, 2, 3]]]}), 400, "of object"),
    "words": (rows({"pixels": [[["1", "2", "3"]]]}), 400, "of <U1"),
    "fractions": (rows({"pixels": [[[0.5, 1, 2]]]}), 400, "whole numbers from 0 to 255"),
    "XML": (b"<a/>", 400, "valid JSON"),
    "too many px": (rows({"file": b64(encode_png(np.zeros((201, 200, 3), np.uint8)))}), 413, "201 x 200 px; expected"),
    "too many px together": (
        rows(*[{"file": b64(encode_png(np.zeros((150, 150, 3), np.uint8)))}] * 2), 413, "image 1: 150 x 150 px"),
    "too many bytes": (b" " * 200_001, 413, "request: 0.191 MiB; expected at most 0.191 MiB"),
    "two columns": (rows({"file": "AAAA", "pixels": [[[1, 2, 3]]]}), 400, "row 0 with file and pixels"),
    "no column": (rows({"image": "AAAA"}), 400, "request without images"),
    "bands in words": (rows({"file": "AAAA"}, bands="red"), 400, "bands 'red'; expected numbers and commas"),
    "no JSON": (b"{not JSON", 400, "valid JSON"),
    "a list": ([1, 2], 400, "must be a JSON dictionary"),
    "16 bits": (rows({"file": b64(geotiff(IMAGE.astype(np.uint16)))}), 400, "image 0: dtype uint16; expected uint8"),
    "half a stretch": (rows({"file": b64(geotiff(IMAGE))}, stretch="5"), 400, "stretch of 1 number(s); expected two"),
    "a wrong parameter": (rows({"file": "AAAA"}, confidence="maybe"), 400, "confidence"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_4xx_and_one_short_sentence(server: int, name: str) -> None:
    body, status, words = BAD[name]
    found, answer = invoke(server, body)
    assert (found, sorted(answer)) == (status, ["error_code", "message"])
    assert words in answer["message"]
    assert "\n" not in answer["message"]
    assert "Traceback" not in answer["message"]
    assert len(answer["message"]) <= 300


def test_a_body_of_unknown_length_is_refused(server: int) -> None:
    link = http.client.HTTPConnection("127.0.0.1", server, timeout=60)
    link.request("POST", "/invocations", iter([b"{}"]), {"Content-Type": "application/json"}, encode_chunked=True)
    answer = link.getresponse()
    assert (answer.status, b"expected Content-Length" in answer.read()) == (411, True)
    link.close()


@pytest.mark.parametrize(
    "kind", ["data URI", "no padding", "url-safe", "line breaks", "escaped data URI", "whole floats"]
)
def test_what_can_be_read_in_one_way_only_is_read(server: int, kind: str) -> None:
    content = geotiff(IMAGE)
    content += bytes((1 - len(content)) % 3)  # so that there is padding to lose; a TIFF may end in zeros
    file = b64(content)
    assert file.endswith("==")
    assert {"+", "/"} < set(file)
    sent = {
        "data URI": {"file": f"data:image/tiff;base64,{file}"},
        "no padding": {"file": file.rstrip("=")},
        "url-safe": {"file": base64.urlsafe_b64encode(content).decode()},
        "line breaks": {"file": base64.encodebytes(content).decode()},
        "escaped data URI": {"file": "data:image/tiff;base64," + file.replace("+", "%2B").replace("=", "%3D")},
        "whole floats": {"pixels": IMAGE.astype(float).tolist()},
    }[kind]
    status, found = invoke(server, rows(sent))
    assert (status, found) == invoke(server, rows({"file": file}))
    assert status == 200
    plain = invoke(server, rows({"pixels": IMAGE.tolist()}))
    assert found == plain[1]


def test_a_content_type_that_is_none_of_mlflow_s_is_one_sentence(server: int) -> None:
    status, answer = invoke(server, b"hello", **{"Content-Type": "text/plain"})
    assert (status, sorted(answer)) == (415, ["error_code", "message"])
    assert "Got 'text/plain'" in answer["message"]


def test_a_fault_of_the_model_is_500_and_its_traceback_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": "oh", "stack_trace": "Traceback: line 7"}).encode()
    assert shorten(400, body) == (500, "BAD_REQUEST", "the model failed; its traceback is in the log of the server")
    assert "line 7" in caplog.text
    assert shorten(504, b"Request took too long") == (504, "INTERNAL_ERROR", "Request took too long")
    assert shorten(400, json.dumps({"message": "two\nlines " + "x" * 900}).encode())[2].startswith("two lines xxx")
    assert len(shorten(400, json.dumps({"message": "x" * 900}).encode())[2]) == 300


@pytest.fixture
def in_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process looks like MLflow's scoring server, and FastAPI is as before afterwards."""
    monkeypatch.setenv("__pyfunc_model_path__", "/model")
    monkeypatch.delenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", raising=False)
    monkeypatch.setattr("fastapi.FastAPI.__call__", FastAPI.__call__)


@pytest.mark.usefixtures("in_server")
def test_a_server_that_takes_no_guard_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def other_framework(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard_requests(Limits(content=10))
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.pyfunc.scoring_server.init", lambda model: other_framework)
        with pytest.raises(TrackingError, match=r"a body over the limit is let in\); expected mlflow>=3\.17,<3\.18; "):
            guard_requests(Limits(content=10))
    monkeypatch.delattr("mlflow.pyfunc.scoring_server.init")
    with pytest.raises(TrackingError, match=r"MLflow 3\.\S+ takes no limits on requests \(AttributeError"):
        guard_requests(Limits(content=10))


def test_a_process_that_is_no_server_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FastAPI.__call__
    guard_requests(Limits(content=10))
    assert FastAPI.__call__ is before
    for sign in ("environment", "module", "command"):
        with monkeypatch.context() as patch:
            if sign == "environment":
                patch.setenv("__pyfunc_model_path__", "/model")
            elif sign == "module":
                patch.setitem(sys.modules, "mlflow.pyfunc.scoring_server.app", json)
            else:
                patch.setitem(sys.modules, "uvicorn", json)
                patch.setattr(sys, "argv", ["uvicorn", "mlflow.serving:app"])
            assert in_mlflow_server()
        assert not in_mlflow_server()


def test_the_model_describes_its_requests(folder: Path) -> None:
    from mlflow.models import Model

    model = Model.load(str(folder / "model" / "MLmodel"))
    assert str(model.signature.inputs) == "['file': Any (optional), 'pixels': Any (optional)]"
    assert [spec.name for spec in model.signature.outputs] == ["classes", "names", "confidence"]
    assert [(spec.name, spec.default) for spec in model.signature.params] == [
        ("confidence", False), ("png", False), ("bands", ""), ("stretch", "")
    ]  # fmt: skip
    needs = (folder / "model" / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in needs} >= {"mlflow", "torch", "rasterio", "opencv-python-headless", "scipy"}
    assert all("==" in line for line in needs)


# ---- docs/serving.md -------------------------------------------------------------------------------------------------

BLOCKS = re.findall(r"```\n(.*?)```", (PROJECT / "docs" / "serving.md").read_text(), flags=re.DOTALL)
COMMANDS, _, _, _, SERVE, ASK_FILE, ASK_PIXELS, OWN_SERVER, DEMO = BLOCKS


def test_the_requests_and_options_of_the_docs_are_known(server: int, folder: Path, tmp_path: Path) -> None:
    from mlflow.models.cli import serve

    known = {text for parameter in serve.params for text in (*parameter.opts, *parameter.secondary_opts)}
    words = SERVE.splitlines()[-1].split()
    assert words[:3] == ["mlflow", "models", "serve"]
    assert {word for word in words if word.startswith("-")} <= known
    cv2.imwrite(str(tmp_path / "scene.tif"), IMAGE[..., ::-1])
    for block in (ASK_FILE, ASK_PIXELS):
        script = block.replace(":5001/", f":{server}/")
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert list(json.loads(done.stdout)) == ["predictions"]
    assert np.shape(json.loads(done.stdout)["predictions"][0]["classes"]) == (1, 2)


@pytest.mark.slow
def test_every_command_of_the_docs_works_in_a_workspace(workspace: Path) -> None:
    """As typed, in a workspace with a trained and evaluated model."""
    from weakseg.stages import evaluate, segment, tiles

    tiles.run(workspace)
    segment.run(workspace, "pixel")
    evaluate.run(workspace, "pixel")
    (workspace / ".venv").symlink_to(sys.prefix)
    shutil.copy(workspace / "data" / "images" / "v1.tif", workspace / "scene.tif")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
    subprocess.run(["bash", "-ec", COMMANDS], cwd=workspace, env=environment, check=True)
    maps = []
    for name in ("map", "same", "again"):
        with rasterio.open(workspace / f"{name}.tif") as file:
            maps.append(file.read(1))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).mean() < 0.01  # ONNX

    port = free_port()
    script = SERVE.replace("--port 5001", f"--port {port}").replace("mlflow models", "exec mlflow models")
    with started(["bash", "-ec", script], workspace, environment) as process:
        wait_for(port, process, workspace / "log")
        done = subprocess.run(
            ["bash", "-ec", ASK_FILE.replace(":5001/", f":{port}/")], cwd=workspace, capture_output=True, check=True
        )
    assert json.loads(done.stdout)["predictions"][0]["classes"] == maps[0].tolist()

    for line in DEMO.splitlines():
        words = [*re.sub(r" --port \d+", "", line).split(), "--port", "0"]
        with started(words, workspace, environment) as process:
            for _ in range(1200):
                found = re.search(r"http://127\.0\.0\.1:(\d+) shows", (workspace / "log").read_text())
                if found or process.poll() is not None:
                    break
                time.sleep(0.2)
            assert found, (workspace / "log").read_text()
            link = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
            link.request("POST", "/map", (workspace / "scene.tif").read_bytes())
            reply = json.loads(link.getresponse().read())
        picture = np.frombuffer(base64.b64decode(reply["classes"]), np.uint8)
        np.testing.assert_array_equal(cv2.imdecode(picture, cv2.IMREAD_UNCHANGED), maps[0])
