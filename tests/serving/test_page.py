"""The page of `weakseg serve`: its requests over real HTTP, and in a browser by mouse and by keyboard."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import geopandas
import numpy as np
import pytest
import torch
from rasterio.io import MemoryFile
from tests.generators.plain_rasters import save_raster
from tests.serving.test_application import Ask, message, running
from tests.serving.test_open_rasters import UTM, knowing
from torch import Tensor

from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.inference.model import Predictor
from weakseg.serving.application import make_application
from weakseg.serving.open_rasters import Rasters
from weakseg.serving.service import Limits, MapService

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
ENTER, BACKSPACE, ESCAPE, RIGHT, DOWN, END = "\ue007", "\ue003", "\ue00c", "\ue014", "\ue015", "\ue010"


def brightest(images: Tensor) -> Tensor:
    """Impervious, building or low vegetation by the brightest band."""
    scores = images.float() / 25
    return torch.cat([scores, torch.zeros_like(scores[:, :2])], 1).softmax(1)


def stripes(height: int, width: int) -> np.ndarray:
    """uint8 (3, height, width): red, green, blue from left to right, a third of the columns each."""
    layers = np.full((3, height, width), 30, np.uint8)
    for band in range(3):
        layers[band, :, band * width // 3 : (band + 1) * width // 3] = 220
    return layers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ws")
    save_raster(folder / "a.tif", stripes(600, 900), **UTM)
    save_raster(folder / "plain.tif", stripes(60, 90))
    save_raster(folder / "four.tif", np.concatenate([stripes(60, 90), stripes(60, 90)[:1]]), photometric="minisblack")
    return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[tuple[str, Ask]]:
    rasters = Rasters(knowing(forward=brightest, pixels=1 << 20, content=50_000, upload=2_000_000), root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(make_application(rasters.service, "models:/weakseg@champion", rasters=rasters), port=port) as ask:
        yield f"http://127.0.0.1:{port}/", ask
    rasters.close()


@pytest.fixture
def ask(served: tuple[str, Ask]) -> Ask:
    return served[1]


def post(ask: Ask, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    status, _, found = ask("POST", path, content, Content_Type="application/json", **headers)
    return status, json.loads(found)


# ---- requests -------------------------------------------------------------------------------------------------------


def test_the_page_loads_from_this_server_alone(ask: Ask) -> None:
    for name, kind in (
        ("", "text/html"),
        ("view.css", "text/css"),
        ("view.js", "text/javascript"),
        ("layers.js", "text/javascript"),
        ("drop.js", "text/javascript"),
    ):
        status, headers, body = ask("GET", f"/{name}")
        assert (status, headers["content-type"].split(";")[0]) == (200, kind)
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert not re.findall(rb"https?://(?!www\.w3\.org/2000/svg)", body)


def test_a_raster_is_described_and_its_tiles_are_pixels(ask: Ask) -> None:
    status, found = post(ask, "/rasters", {"path": "a.tif"})
    assert (status, found["width"], found["height"], found["levels"], found["crs"]) == (200, 900, 600, 3, "EPSG:25832")
    assert found["gsd"] == pytest.approx(0.5, rel=1e-3)
    assert found["transform"] == [0.5, 0, 500_000, 0, -0.5, 5_400_000]
    key = found["key"]
    status, headers, body = ask("GET", f"/rasters/{key}/image/1/0/0")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (256, 256, 3)
    assert np.abs(picture[50, 50].astype(int) - (30, 30, 220)).max() < 12
    status, headers, body = ask("GET", f"/rasters/{key}/map/0/1/0.png")
    values = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (status, values[10, 10, 2], values[10, 100, 2]) == (200, 0, 1)  # columns 266 and 356
    assert values[10, 10, 0] == round(100 * 220 / 128)
    assert ask("GET", f"/rasters/{key}/image/0/9/9")[0] == 404
    assert ask("GET", "/rasters/none/image/0/0/0")[0] == 404


def test_what_is_wrong_is_one_sentence(ask: Ask) -> None:
    assert "no raster of this workspace" in post(ask, "/rasters", {"path": "../x.tif"})[1]["message"]
    assert "4 band(s)" in post(ask, "/rasters", {"path": "four.tif"})[1]["message"]
    assert post(ask, "/rasters", {"path": "four.tif", "bands": [3, 2, 1]})[0] == 200
    assert post(ask, "/rasters", {"file": "a.tif"})[0] == 422
    key = post(ask, "/rasters", {"path": "plain.tif"})[1]["key"]
    assert (
        "edges cross"
        in post(ask, f"/rasters/{key}/measure", {"corners": [[0, 0], [9, 9], [9, 0], [0, 9]]})[1]["message"]
    )
    assert post(ask, f"/rasters/{key}/measure", {"corners": [[0, 0]]})[0] == 400
    assert "make it first" in message(ask("GET", f"/rasters/{key}/files/polygons")[2])
    assert ask("GET", f"/rasters/{key}/files/upload")[0] == 422


def test_a_page_elsewhere_opens_nothing(ask: Ask) -> None:
    for origin in ("http://evil.example", "null"):
        assert post(ask, "/rasters", {"path": "a.tif"}, Origin=origin)[0] == 400
        assert ask("POST", "/rasters/upload", b"II*\0", Origin=origin)[0] == 400
        assert ask("GET", "/rasters", Origin=origin)[0] == 400


def test_uploads_have_a_limit_of_their_own_and_go_to_the_disk(ask: Ask, root: Path) -> None:
    content = (root / "a.tif").read_bytes()
    assert 50_000 < len(content) < 2_000_000
    status, _, body = ask("POST", "/rasters/upload", content, X_File_Name="my%20scene.tif")
    assert (status, json.loads(body)["name"]) == (200, "my scene.tif")
    status, _, body = ask("POST", "/rasters/upload", bytes(2_000_001))
    assert status == 413
    assert "expected at most 1.91 MiB" in message(body)
    status, _, body = ask("POST", "/rasters/upload", b"hello", X_File_Name="h.tif")
    assert (status, message(body)[:10]) == (400, "h.tif: sta")
    assert ask("POST", "/map", content)[0] == 413  # what is predicted in memory stays below its own


def test_too_many_maps_are_told_to_come_again(root: Path) -> None:
    rasters = Rasters(knowing(forward=brightest), root)
    rasters._maps._most = 0
    with running(make_application(rasters.service, "m", rasters=rasters)) as ask:
        key = post(ask, "/rasters", {"path": "a.tif"})[1]["key"]
        status, headers, body = ask("POST", f"/rasters/{key}/map/make", b"")
        assert (status, headers["retry-after"]) == (503, "5")
        assert "come again in 5 s" in message(body)
        folder = rasters.get(key).folder
        assert folder.is_dir()
    assert not folder.parent.exists()  # what was made goes with the server


def test_the_whole_map_and_its_polygons_are_saved(ask: Ask, tmp_path: Path) -> None:
    key = post(ask, "/rasters", {"path": "a.tif"})[1]["key"]
    for kind in ("map", "polygons"):
        assert post(ask, f"/rasters/{key}/{kind}/make")[0] == 200
        while json.loads(ask("GET", f"/rasters/{key}")[2])[kind]["state"] != "done":
            time.sleep(0.05)
    status, headers, body = ask("GET", f"/rasters/{key}/files/map")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="a_map.tif"')
    with MemoryFile(body) as memory, memory.open() as file:
        assert (file.crs.to_epsg(), file.shape, file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"]) == (25832, (600, 900), "COG")
        np.testing.assert_array_equal(file.read(1)[0, [0, 299, 300, 600, 899]], [0, 0, 1, 2, 2])
    (tmp_path / "p.gpkg").write_bytes(ask("GET", f"/rasters/{key}/files/polygons")[2])
    found = geopandas.read_file(tmp_path / "p.gpkg")
    assert sorted(found["name"]) == sorted(ISPRS.names[:3])
    assert found["area_m2"].tolist() == pytest.approx([45_000 / 0.9996**2] * 3, rel=1e-3)


HOSTILE = ("<b>x</b>", "a\"b'c", "&amp;", "tree", "car")
NAME = "<b>x&amp;\"y'.tif"


def hostile_service() -> MapService:
    """A service whose classes have names that would be markup."""
    scheme = ClassScheme(HOSTILE, ISPRS.colours)
    return MapService(Predictor(brightest, scheme, 1.0, None, torch.device("cpu"), "digest"), Limits())


def test_names_go_to_the_page_as_data_alone(tmp_path: Path) -> None:
    """Neither HTML nor headers are built of names: the page is the same file whatever the classes are called."""
    save_raster(tmp_path / NAME, stripes(60, 90), **UTM)
    rasters = Rasters(hostile_service(), tmp_path)
    with running(make_application(rasters.service, "<b>m</b>", rasters=rasters)) as ask:
        assert b"<b>x" not in ask("GET", "/")[2]
        status, headers, body = ask("GET", "/about")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert [one["name"] for one in json.loads(body)["classes"]] == list(HOSTILE)
        status, found = post(ask, "/rasters", {"path": NAME})
        assert (status, found["name"]) == (200, NAME)
        assert post(ask, f"/rasters/{found['key']}/map/make")[0] == 200
        while json.loads(ask("GET", f"/rasters/{found['key']}")[2])["map"]["state"] != "done":
            time.sleep(0.05)
        _, headers, body = ask("GET", f"/rasters/{found['key']}/files/map")
        assert not set("<>") & set(headers["content-disposition"])
        assert headers["content-disposition"].count('"') in (0, 2)
        _, headers, body = ask("GET", f"/rasters/{found['key']}/files/style")
        assert ElementTree.fromstring(body) is not None  # QGIS' XML holds the names
        assert b"<b>" not in body
    rasters.close()


# ---- in a browser ---------------------------------------------------------------------------------------------------


class Page:
    """The page in the browser."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get_log("browser")
        browser.get("about:blank")
        browser.get(address)
        self.wait(lambda: self.run("return document.body.dataset.ready") == "yes")

    def wait(self, done: Callable[[], Any]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 30, poll_frequency=0.03).until(lambda _: done())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def element(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def text(self, name: str) -> str:
        return str(self.element(name).text)

    def open(self, path: str) -> None:
        self.element("path").clear()
        self.element("path").send_keys(path + ENTER)
        self.wait(lambda: self.text("facts").startswith(f"{path}:") or self.text("message"))
        self.settle()

    def settle(self) -> None:
        """Until nothing is asked for any more."""
        self.wait(lambda: self.run("return !waiting && raster && !images.pending && !maps.pending"))
        time.sleep(0.05)

    def press(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(keys).perform()
        self.settle()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where on the page a place (column, row) of the raster is, from the middle of the stage."""
        left, top = self.run("return toScreen(arguments[0], arguments[1])", x, y)
        width, height = self.run("return [stage.clientWidth, stage.clientHeight]")
        return left - width / 2, top - height / 2

    def click(self, x: float, y: float, *, twice: bool = False) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        left, top = self.at(x, y)
        chain = ActionChains(self.browser).move_to_element_with_offset(self.element("stage"), round(left), round(top))
        (chain.double_click() if twice else chain.click()).perform()

    def colour(self, canvas: str, x: float, y: float) -> list[int]:
        """RGBA of a canvas at a place of the raster."""
        script = """
            const [left, top] = toScreen(arguments[1], arguments[2]).map(at => Math.floor(at * devicePixelRatio));
            const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            copy.drawImage(document.getElementById(arguments[0]), -left, -top);
            return [...copy.getImageData(0, 0, 1, 1).data]"""
        return list(self.run(script, canvas, x, y))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(served: tuple[str, Ask], browser: Any) -> Page:
    return Page(browser, served[0])


RED, BLUE, CYAN = [*ISPRS.colours[0], 255], [*ISPRS.colours[1], 255], [*ISPRS.colours[2], 255]


def test_a_raster_of_the_workspace_is_seen_with_its_map(page: Page) -> None:
    offered = page.run("return [...document.querySelectorAll('#paths option')].map(one => one.value)")
    assert offered == ["a.tif", "four.tif", "plain.tif"]
    page.open("a.tif")
    assert page.text("facts") == "a.tif: 900 × 600 px, 0.5 m per pixel, EPSG:25832"
    assert [page.colour("overlay", x, 300) for x in (50, 450, 850)] == [RED, BLUE, CYAN]
    assert np.abs(np.array(page.colour("picture", 450, 300)) - (30, 220, 30, 255)).max() < 14
    assert page.colour("picture", -5, 300)[3] == 0
    page.run("document.querySelectorAll('#legend button')[1].click()")
    page.settle()
    assert page.colour("overlay", 450, 300)[3] == 0
    page.element("opacity").send_keys(END)
    assert page.text("percent") == "100 %"
    assert page.run("return getComputedStyle(overlay).opacity") == "1"
    page.browser.refresh()  # the address names the raster
    page.wait(lambda: page.text("facts").startswith("a.tif: "))
    assert page.complaints() == []


def test_layers_by_mouse_and_by_keyboard(page: Page) -> None:
    page.open("a.tif")
    page.browser.find_element("css selector", "label[for=show-confidence]").click()
    page.settle()
    assert page.colour("overlay", 50, 300)[:3] == [253, 231, 37]  # viridis' bright end: all but certain
    page.run("stage.focus()")
    page.press("3")
    # index 220 / 128 in red, 30 / 128 in the others: red and blue of the ramp
    assert page.colour("overlay", 50, 300)[0] > 180 > page.colour("overlay", 50, 300)[2]
    assert page.colour("overlay", 450, 300)[2] > 180 > page.colour("overlay", 450, 300)[0]
    assert page.text("ends") == "known\nlimit\nunlike"
    page.press("1")
    assert page.colour("overlay", 50, 300) == RED
    assert page.complaints() == []


def test_moving_by_drag_wheel_and_keys(page: Page) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open("a.tif")
    x, y, scale = page.run("return [view.x, view.y, view.scale]")
    assert (x, y) == (450, 300)
    stage = page.element("stage")
    ActionChains(page.browser).drag_and_drop_by_offset(stage, -60, 30).perform()
    moved = page.run("return [view.x, view.y, view.scale]")
    assert moved == pytest.approx([450 + 60 / scale, 300 - 30 / scale, scale], rel=0.02)
    page.run("stage.focus()")
    page.press(RIGHT + DOWN)
    assert page.run("return [view.x, view.y]") == pytest.approx([moved[0] + 80 / scale, moved[1] + 80 / scale])
    page.press("++")
    assert page.run("return view.scale") == pytest.approx(2 * scale)
    page.press("0")
    assert page.run("return [view.x, view.y, view.scale]") == pytest.approx([x, y, scale])
    under = page.run("return toRaster(100, 100)")
    page.run("""
        const top = 100 + stage.getBoundingClientRect().top;
        stage.dispatchEvent(new WheelEvent("wheel", {deltaY: -400, clientX: 100, clientY: top, cancelable: true}))""")
    page.settle()
    assert page.run("return view.scale") == pytest.approx(np.e * scale)
    assert page.run("return toRaster(100, 100)") == pytest.approx(under, abs=0.5 / scale)  # whole px of the mouse
    ActionChains(page.browser).move_to_element_with_offset(stage, 0, 0).perform()
    assert "% sure" in page.text("here")
    assert page.complaints() == []


def test_two_fingers_zoom(page: Page) -> None:
    page.open("a.tif")
    before = page.run("return view.scale")
    page.run("""
        stage.setPointerCapture = () => {};
        const box = stage.getBoundingClientRect();
        const touch = (type, id, x) => stage.dispatchEvent(new PointerEvent(type,
          {pointerId: id, pointerType: "touch", clientX: box.left + x, clientY: box.top + 200, bubbles: true}));
        touch("pointerdown", 11, 300); touch("pointerdown", 12, 400);
        touch("pointermove", 12, 500);
        touch("pointerup", 11, 300); touch("pointerup", 12, 500);
        delete stage.setPointerCapture""")
    assert page.run("return view.scale") == pytest.approx(2 * before)
    assert page.complaints() == []


def test_an_area_is_measured_by_mouse(page: Page) -> None:
    page.open("a.tif")
    page.run("view = {x: 300, y: 200, scale: 1}; draw()")
    page.settle()
    page.element("measure").click()
    for x, y in ((200, 100), (400, 100), (400, 300)):
        page.click(x, y)
    page.click(200, 300, twice=True)
    page.wait(lambda: page.text("measured").startswith("1.00"))
    # 200 x 200 px of 0.5 m, half of it red and half of it green
    first, *rows = page.text("measured").splitlines()
    assert re.fullmatch(r"1\.00\d ha \(10,0\d\d m²\)", first)
    assert [row.split()[0] for row in sorted(rows)] == ["building", "impervious"]
    assert all(48 <= float(row.split()[-2]) <= 52 for row in rows)
    page.element("clear").click()
    assert page.text("measured") == ""
    assert page.complaints() == []


def test_an_area_is_measured_by_keyboard_in_pixels_where_there_is_no_place(page: Page) -> None:
    page.open("plain.tif")
    assert page.text("facts") == "plain.tif: 90 × 60 px, no place on Earth"
    page.run("view = {x: 10, y: 10, scale: 8}; draw(); stage.focus()")
    page.press("m" + ENTER)
    page.press(RIGHT + ENTER + RIGHT + ENTER + BACKSPACE + DOWN + ENTER)
    # corners (10, 10), (20, 10) and, after one was taken back, (30, 20); Enter again ends it
    page.press(ENTER)
    page.wait(lambda: page.text("measured").startswith("50 px"))
    assert "impervious surface" in page.text("measured")
    page.press("m" + ENTER + ESCAPE)
    assert page.run("return [outline.corners.length, drawing]") == [0, False]
    assert page.complaints() == []


def test_the_whole_map_is_made_and_offered_to_be_saved(page: Page, served: tuple[str, Ask], root: Path) -> None:
    save_raster(root / "new.tif", stripes(500, 700), **UTM)
    page.open("new.tif")
    page.element("make").click()
    page.wait(lambda: page.browser.find_elements("id", "make-polygons"))
    page.settle()
    assert page.run("return raster.map.state") == "done"
    assert page.text("state") == "33 % of this raster is unlike anything the model has seen"
    assert page.colour("overlay", 50, 300) == RED
    page.element("make-polygons").click()
    page.wait(lambda: page.browser.find_elements("id", "save-polygons"))
    links = page.run("return [...document.querySelectorAll('#files a')].map(one => one.getAttribute('href'))")
    kinds = [link.rsplit("/", 1)[1] for link in links]
    assert kinds == ["map", "confidence", "applicability", "style", "polygons"]
    for link in links:
        assert served[1]("GET", f"/{link}")[0] == 200
    assert page.complaints() == []


def test_a_file_is_uploaded_and_what_is_wrong_is_said(page: Page, tmp_path: Path) -> None:
    save_raster(tmp_path / "up.tif", stripes(60, 90))
    page.element("file").send_keys(str(tmp_path / "up.tif"))
    page.wait(lambda: page.text("facts").startswith("up.tif: 90 × 60 px"))
    page.settle()
    assert page.colour("overlay", 45, 30) == BLUE
    assert page.complaints() == []
    (tmp_path / "bad.tif").write_bytes(b"these are no pixels")
    page.element("file").send_keys(str(tmp_path / "bad.tif"))
    page.wait(lambda: page.text("message").startswith("bad.tif: starts with b'thes'; expected a GeoTIFF"))
    assert page.text("facts").startswith("up.tif")  # stays
    page.open("four.tif")
    assert "4 band(s); expected 3 bands" in page.text("message")
    page.run("document.querySelector('#opening details').open = true")
    page.element("bands").send_keys("3,2,1")
    page.open("four.tif")
    page.wait(lambda: page.text("facts").startswith("four.tif"))
    page.settle()
    assert page.colour("overlay", 15, 30) == CYAN
    page.browser.get_log("browser")  # Chromium notes the status 400


def test_a_busy_server_is_asked_again(root: Path, browser: Any) -> None:
    rasters = Rasters(knowing(forward=brightest), root)
    refusals = iter(range(3))

    def busy(application: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if "/map/0" in scope.get("path", "") and next(refusals, None) is not None:
                await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"0")]})
                await send({"type": "http.response.body", "body": b"{}"})
            else:
                await application(scope, receive, send)

        return answer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(busy(make_application(rasters.service, "m", rasters=rasters)), port=port):
        page = Page(browser, f"http://127.0.0.1:{port}/#plain.tif")
        page.settle()
        page.run("stage.focus()")
        assert page.colour("overlay", 45, 30) == BLUE
        assert page.text("message") == ""
        page.browser.get_log("browser")
        page.browser.get("about:blank")
    rasters.close()
    assert next(refusals, None) is None


def test_names_are_shown_as_text_and_never_as_markup(browser: Any, tmp_path: Path) -> None:
    save_raster(tmp_path / NAME, stripes(60, 90), **UTM)
    rasters = Rasters(hostile_service(), tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(make_application(rasters.service, "<b>m</b>", rasters=rasters), port=port):
        page = Page(browser, f"http://127.0.0.1:{port}/")
        page.open(NAME)
        assert "<b>m</b>" in page.text("model")
        assert page.text("facts").startswith(f"{NAME}: 90 × 60 px")
        assert page.text("legend").splitlines()[:3] == list(HOSTILE[:3])
        page.run("view = {x: 45, y: 30, scale: 4}; draw()")
        page.settle()
        page.click(10, 30)
        assert "<b>x</b>, " in page.text("here")
        page.run("view = {x: 45, y: 30, scale: 4}; draw(); stage.focus()")
        page.press("m" + ENTER + RIGHT + ENTER + DOWN + ENTER + ENTER)
        page.wait(lambda: HOSTILE[1] in page.text("measured"))
        page.element("path").clear()
        page.element("path").send_keys("<b>none</b>" + ENTER)
        page.wait(lambda: "<b>none</b>" in page.text("message"))
        assert page.run("return document.querySelectorAll('b').length") == 0
        page.browser.get_log("browser")  # Chromium notes the status 400
    rasters.close()
