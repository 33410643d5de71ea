"""`weakseg serve` over real HTTP: maps, tiles, limits, health and metrics."""

from __future__ import annotations

import http.client
import json
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
import uvicorn
from rasterio.io import MemoryFile
from rasterio.warp import transform
from tests.generators.plain_rasters import save_raster
from tests.serving.test_service import IMAGE, OWN_SERVER, blurred, geotiff, service
from torch import Tensor
from typer.main import get_command

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.maps.mercator import tile_bounds
from weakseg.raster.pyramid import NoTileError
from weakseg.raster.stream import inspect_source
from weakseg.serving.application import make_application
from weakseg.serving.service import Limits, MapService
from weakseg.serving.xyz import MapTiles, ModelTiles, coloured, open_tiles

Ask = Callable[..., tuple[int, dict[str, str], bytes]]
UTM = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)}
CENTRE = (500_000 + 0.25 * 700, 5_400_000 - 0.25 * 600)


@contextmanager
def running(application: object, *, port: int = 0) -> Iterator[Ask]:
    """A function that asks the application over HTTP: (status, headers, body)."""
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="error"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        found = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    try:
        yield ask
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with running(make_application(service(pixels=20_000, content=200_000), "models:/weakseg@champion")) as found:
        yield found


def message(body: bytes) -> str:
    return str(json.loads(body)["message"])


# ---- maps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["classes", "confidence", "probabilities", "margin"])
def test_a_file_is_answered_with_the_file_that_predict_writes(ask: Ask, tmp_path: Path, layer: str) -> None:
    content = geotiff(IMAGE)
    status, headers, body = ask("POST", f"/map?layer={layer}", content)
    assert (status, headers["content-type"]) == (200, "image/tiff")
    (tmp_path / "a.tif").write_bytes(content)
    options = Options() if layer == "classes" else Options(**{layer: tmp_path / f"{layer}.tif"})  # type: ignore[arg-type]
    run_predictor(service().predictor, inspect_source(tmp_path / "a.tif", None), tmp_path / "classes.tif", options)
    with MemoryFile(body) as memory, memory.open() as found, rasterio.open(tmp_path / f"{layer}.tif") as expected:
        np.testing.assert_array_equal(found.read(), expected.read())
        assert (found.crs, found.transform, found.nodata) == (expected.crs, expected.transform, 255)


def test_a_picture_has_the_colours_of_the_classes(ask: Ask) -> None:
    status, headers, body = ask("POST", "/map", geotiff(IMAGE), Accept="image/png")
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    classes = service().answer_file(geotiff(IMAGE)).classes
    assert (status, headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(picture[..., 2::-1], np.array(ISPRS.colours)[classes])


def test_the_page_gets_what_it_shows(ask: Ask) -> None:
    status, headers, body = ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"view.js" in body
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert json.loads(ask("GET", "/about")[2])["max_pixels"] == 20_000
    status, _, body = ask("POST", "/map", geotiff(IMAGE), Accept="application/json")
    assert (status, json.loads(body)["width"]) == (200, 56)


REFUSED = {
    "no image": (b"hello", 400, "expected a GeoTIFF, PNG or JPEG"),
    "too many px": (geotiff(np.ones((200, 200, 3), np.uint8)), 413, "200 x 200 px; expected at most 20000 px"),
    "too many bytes": (bytes(300_000), 413, "expected at most 0.191 MiB"),
    "four bands": (geotiff(np.ones((9, 9, 4), np.uint8)), 400, "4 band"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_sender_can_mend_is_one_sentence(ask: Ask, name: str) -> None:
    content, expected, sentence = REFUSED[name]
    status, _, body = ask("POST", "/map", content)
    assert status == expected
    assert sentence in message(body)


def test_bands_are_chosen_in_the_address(ask: Ask) -> None:
    four = geotiff(np.dstack([IMAGE, IMAGE[..., :1]]))
    assert ask("POST", "/map?bands=1&bands=2&bands=3", four)[0] == 200
    assert ask("POST", "/map?bands=1&bands=2", four)[0] == 400
    assert ask("POST", "/map?layer=nothing", geotiff(IMAGE))[0] == 422


def test_no_temporary_files_are_left(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ask("POST", "/map", geotiff(IMAGE))[0] == 200
    assert ask("POST", "/map", b"hello")[0] == 400
    assert ask("POST", "/map?format=png", geotiff(IMAGE))[0] == 200
    time.sleep(0.2)  # the background task follows the answer
    assert list(tmp_path.iterdir()) == []


def test_the_requests_of_the_docs_do_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").write_bytes(geotiff(IMAGE))
    start, *requests = OWN_SERVER.splitlines()
    known = {text for parameter in get_command(app).commands["serve"].params for text in parameter.opts}  # type: ignore[attr-defined]
    assert {word for word in start.split() if word.startswith("--")} <= known
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(make_application(service(), "m"), port=port):
        for line in requests:
            subprocess.run(["bash", "-ec", line.replace(":8009/", f":{port}/")], cwd=tmp_path, check=True)
    for name in ("map", "sure"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.shape == IMAGE.shape[:2]
    assert cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_UNCHANGED).shape == (*IMAGE.shape[:2], 4)


# ---- health, metrics, admission -------------------------------------------------------------------------------------


def test_health_metrics_and_openapi(ask: Ask) -> None:
    status, _, body = ask("GET", "/healthz")
    assert (status, json.loads(body)["status"]) == (200, "ok")
    paths = json.loads(ask("GET", "/openapi.json")[2])["paths"]
    assert {"/map", "/tiles/{zoom}/{column}/{row}.png", "/healthz", "/metrics", "/about"} == {
        path for path in paths if not path.startswith("/rasters")
    }
    text = ask("GET", "/metrics")[2].decode()
    assert 'weakseg_requests_total{path="/healthz",status="200"}' in text
    assert 'weakseg_request_seconds_count{path="/healthz"}' in text


def test_another_name_of_this_machine_is_refused(ask: Ask) -> None:
    assert ask("GET", "/healthz", Host="evil.example")[0] == 400


def test_more_than_are_at_work_are_told_to_come_again() -> None:
    """Two at work, ten ask: the network waits until eight have been refused, and then answers the two."""
    gate = threading.Event()

    def slow(images: Tensor) -> Tensor:
        gate.wait(30)
        return blurred(images)

    held = MapService(Predictor(slow, ISPRS, 1.0, None, torch.device("cpu"), "digest"), Limits(content=500_000))
    content = geotiff(np.random.default_rng(0).integers(1, 256, (200, 200, 3), dtype=np.uint8))
    with running(make_application(held, "m", at_work=2)) as ask, ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(ask, "POST", "/map", content) for _ in range(10)]
        while sum(future.done() for future in waiting) < 8:
            time.sleep(0.01)
        refused = [future.result() for future in waiting if future.done()]
        assert ask("GET", "/healthz")[0] == 200
        gate.set()
        statuses = sorted(future.result()[0] for future in waiting)
    assert statuses == [200] * 2 + [503] * 8
    assert {headers["retry-after"] for status, headers, _ in refused} == {"2"}
    assert message(refused[0][2]) == "2 requests are at work; expected fewer; come again in 2 s"


# ---- tiles ----------------------------------------------------------------------------------------------------------


def test_the_bounds_of_tiles_by_hand() -> None:
    half = math.pi * 6_378_137
    assert tile_bounds(0, 0, 0) == pytest.approx((-half, -half, half, half))
    assert tile_bounds(1, 1, 0) == pytest.approx((0, 0, half, half))
    assert tile_bounds(2, 0, 3) == pytest.approx((-half, -half, -half / 2, -half / 2))


@pytest.mark.parametrize("place", [(1, 2, 0), (1, 0, 2), (-1, 0, 0), (25, 0, 0), (3, -1, 0)])
def test_tiles_that_are_none(place: tuple[int, int, int]) -> None:
    with pytest.raises(NoTileError, match="use XYZ numbers"):
        tile_bounds(*place)


def tile_at(zoom: int, x: float, y: float) -> tuple[int, int, int]:
    """The tile that holds a place of EPSG:25832."""
    (east,), (north,) = transform("EPSG:25832", "EPSG:3857", [x], [y])
    side = 2 * math.pi * 6_378_137 / (1 << zoom)
    half = math.pi * 6_378_137
    return zoom, int((east + half) // side), int((half - north) // side)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smooth picture of 600 x 700 px of 0.5 m; the first 40 rows have no data."""
    coarse = np.random.default_rng(1).integers(1, 256, (30, 35, 3), dtype=np.uint8)
    layers = np.moveaxis(cv2.resize(coarse, (700, 600), interpolation=cv2.INTER_LINEAR), -1, 0).copy()
    layers[:, :40] = 0
    return save_raster(tmp_path_factory.mktemp("scene") / "a.tif", layers, nodata=0, **UTM)


@pytest.mark.parametrize("zoom", [16, 18, 20])
def test_tiles_of_a_model_are_those_of_the_map_that_predict_writes(scene: Path, tmp_path: Path, zoom: int) -> None:
    answering = service()
    run_predictor(answering.predictor, inspect_source(scene, None), tmp_path / "map.tif", Options())
    made, applied = open_tiles(tmp_path / "map.tif", answering), open_tiles(scene, answering)
    assert (type(made), type(applied)) == (MapTiles, ModelTiles)
    for x, y in (CENTRE, (500_010, 5_400_000 - 21)):  # the middle, and a corner with rows without data
        bounds = tile_bounds(*tile_at(zoom, x, y))
        one, two = made.classes(bounds), applied.classes(bounds)
        assert (one != two).mean() < 1e-3  # a px whose centre lies on an edge
        assert (one != 255).any()
        assert zoom > 16 or (one == 255).any()


def test_a_tile_shows_the_class_that_lies_there(tmp_path: Path, scene: Path) -> None:
    """At zoom 20 a px is 0.1 m: the class of the map at the place of the middle of the tile."""
    answering = service()
    run_predictor(answering.predictor, inspect_source(scene, None), tmp_path / "map.tif", Options())
    left, _, right, high = bounds = tile_bounds(*tile_at(20, *CENTRE))
    step = (right - left) / 256
    (x,), (y,) = transform("EPSG:3857", "EPSG:25832", [left + 128.5 * step], [high - 100.5 * step])
    with rasterio.open(tmp_path / "map.tif") as file:
        expected = file.read(1)[file.index(x, y)]
    assert MapTiles(tmp_path / "map.tif").classes(bounds)[100, 128] == expected


def test_a_look_from_too_far_is_refused_and_elsewhere_there_is_nothing(tmp_path: Path) -> None:
    big = save_raster(tmp_path / "big.tif", np.ones((3, 3000, 3000), np.uint8), **UTM)
    tiles = ModelTiles(service().predictor, big)
    with pytest.raises(NoTileError, match="zoom in, or predict the raster"):
        tiles.classes(tile_bounds(*tile_at(10, *CENTRE)))
    assert (tiles.classes(tile_bounds(10, 0, 0)) == 255).all()
    with pytest.raises(DataError, match=r"n\.tif has no place on Earth"):
        ModelTiles(service().predictor, save_raster(tmp_path / "n.tif", np.ones((3, 9, 9), np.uint8)))


def test_a_raster_at_another_distance_is_shown_in_its_place(scene: Path) -> None:
    """Trained at 1 m, the raster has 0.5: the network sees half the side, and the tile still covers the raster."""
    coarse = ModelTiles(service(gsd=1.0).predictor, scene)
    assert (coarse.grid.height, coarse.grid.width) == (300, 350)
    bounds = tile_bounds(*tile_at(16, *CENTRE))
    one, two = coarse.classes(bounds), ModelTiles(service().predictor, scene).classes(bounds)
    assert ((one == 255) == (two == 255)).mean() > 0.99


def test_windows_are_run_once(scene: Path) -> None:
    runs = []

    def counting(images: Tensor) -> Tensor:
        runs.append(len(images))
        return blurred(images)

    tiles = ModelTiles(Predictor(counting, ISPRS, 1.0, None, torch.device("cpu"), "digest"), scene)
    for _ in range(3):
        tiles.classes(tile_bounds(*tile_at(16, *CENTRE)))
    assert sum(runs) == 4  # 600 x 700 px in windows of 512


def test_tiles_over_http(scene: Path) -> None:
    answering = service()
    zoom, column, row = tile_at(18, *CENTRE)
    with running(make_application(answering, "m", tiles=open_tiles(scene, answering))) as ask:
        status, headers, body = ask("GET", f"/tiles/{zoom}/{column}/{row}.png")
        assert (status, headers["content-type"]) == (200, "image/png")
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (256, 256, 4)
        assert {tuple(colour) for colour in picture[picture[..., 3] == 255][:, 2::-1].tolist()} <= set(ISPRS.colours)
        status, _, body = ask("GET", "/tiles/1/2/0.png")
        assert (status, message(body)[:10]) == (404, "tile 1/2/0")


def test_without_a_raster_there_are_no_tiles(ask: Ask) -> None:
    status, _, body = ask("GET", "/tiles/0/0/0.png")
    assert status == 404
    assert "weakseg serve --tiles FILE" in message(body)


def test_colours_and_transparency() -> None:
    picture = cv2.imdecode(
        np.frombuffer(coloured(np.array([[0, 255]], np.uint8), ISPRS), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert picture[0, 0].tolist() == [*ISPRS.colours[0][::-1], 255]
    assert picture[0, 1, 3] == 0


def test_a_body_that_is_no_json_is_refused_in_a_sentence(ask: Ask) -> None:
    """FastAPI's own answer would repeat the bytes, and fail at it."""
    for body in (b"\x89PNG", b"[1]", b"{"):
        status, _, answer = ask("POST", "/rasters", body, Content_Type="application/json")
        assert status in (400, 422)
        assert message(answer)
    status, _, answer = ask("POST", "/rasters", b"\x89PNG")
    assert (status, "expected what /openapi.json says" in message(answer)) == (422, True)
