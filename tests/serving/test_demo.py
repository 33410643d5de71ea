"""The local page: the map that predict gives, in a browser; and a server that answers this machine alone."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.serving.test_service import geotiff
from torch import Tensor
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.inference.model import Predictor
from weakseg.serving.demo import make_server
from weakseg.serving.service import Limits, MapService


def brightest(images: Tensor) -> Tensor:
    """A network that everybody can check: impervious, building or low vegetation by the brightest band."""
    scores = images.float() / 25
    return torch.cat([scores, torch.zeros_like(scores[:, :2])], 1).softmax(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    predictor = Predictor(brightest, ISPRS, 1.0, 0.09, torch.device("cpu"), "digest")
    service = MapService(predictor, Limits(pixels=20_000, content=50_000))
    with make_server(service, "models:/weakseg@champion") as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def picture() -> np.ndarray:
    """uint8 (60, 90, 3): stripes of red, green and blue, 20 rows each."""
    image = np.full((60, 90, 3), 30, np.uint8)
    for band in range(3):
        image[20 * band : 20 * band + 20, :, band] = 220
    return image


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1] if image.shape[2] == 3 else image)[1].tobytes()


def ask(server: Any, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """(status, parsed JSON or bytes, headers) of one request; ``Host`` and others by keyword."""
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    link.putrequest(method, path, skip_host="Host" in headers)
    for key, value in {"Content-Length": str(len(body)), **headers}.items():
        link.putheader(key.replace("_", "-"), value)
    link.endheaders(body)
    answer = link.getresponse()
    content, kind = answer.read(), answer.headers.get("Content-Type", "")
    link.close()
    return answer.status, json.loads(content) if "json" in kind else content, dict(answer.headers)


def layer(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_posted_image_comes_back_as_its_map(server: Any) -> None:
    status, reply, _ = ask(server, "POST", "/map", png(picture()))
    assert (status, reply["height"], reply["width"]) == (200, 60, 90)
    np.testing.assert_array_equal(layer(reply["classes"]), np.repeat([0, 1, 2], 20)[:, None] * np.ones((1, 90), int))
    assert reply["shares"] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    e = np.exp([220 / 25, 30 / 25, 0])
    assert np.unique(layer(reply["confidence"])).tolist() == [round(254 * e[0] / (e[0] + 2 * e[1] + 2 * e[2]))]
    shown = layer(reply["image"])[..., ::-1].astype(int)
    assert np.abs(shown[5:15] - picture()[5:15]).max() < 12  # a JPEG


def test_the_model_is_described_and_the_page_is_locked_to_this_server(server: Any) -> None:
    status, about, _ = ask(server, "GET", "/about")
    assert (status, about["model"], about["gsd"], about["max_pixels"]) == (
        200,
        "models:/weakseg@champion",
        0.09,
        20_000,
    )
    assert about["classes"][4] == {"name": "car", "colour": [255, 255, 0]}
    status, page, headers = ask(server, "GET", "/")
    assert (status, page[:15]) == (200, b"<!doctype html>")
    assert b"http://" not in page
    assert b"https://" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"garbage", 400, "scene.png: starts with b'garb'; expected a GeoTIFF, PNG or JPEG"),
        (geotiff(np.ones((9, 9, 4), np.uint8)), 400, "scene.png: 4 band(s); expected 3 bands"),
        (png(picture())[:-20], 400, "scene.png: cannot be read (a PNG that ends early"),
        (png(np.zeros((200, 101, 3), np.uint8)), 413, "scene.png: 200 x 101 px; expected at most 20000 px"),
        (bytes(50_001), 413, "scene.png: 0.0477 MiB; expected at most 0.0477 MiB"),
        (b"", 400, "scene.png: starts with b''"),
    ],
)
def test_a_bad_image_is_4xx_and_one_sentence(server: Any, body: bytes, status: int, words: str) -> None:
    found, reply, _ = ask(server, "POST", "/map", body, X_File_Name="scene.png")
    assert found == status
    assert words in reply["message"]
    assert "\n" not in reply["message"]


def test_a_fault_of_ours_is_500_and_the_server_lives_on(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("weakseg.serving.demo.encode_png", lambda layer: 1 / 0)
    status, reply, _ = ask(server, "POST", "/map", png(picture()))
    assert (status, reply) == (
        500, {"message": "the prediction failed; the traceback is in the terminal of weakseg demo"}
    )  # fmt: skip
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    assert ask(server, "POST", "/map", png(picture()))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example:80"}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "127.0.0.1"}],
)
def test_requests_from_elsewhere_are_refused(server: Any, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/"), ("POST", "/map")):
        status, reply, _ = ask(server, method, path, **headers)
        assert (status, "from elsewhere" in reply["message"]) == (403, True)


def test_other_addresses_are_404_and_the_name_localhost_is_known(server: Any) -> None:
    assert ask(server, "GET", "/../params.yaml")[0] == 404
    assert ask(server, "POST", "/")[0] == 404
    assert ask(server, "GET", "/about", Host=f"localhost:{server.server_port}")[0] == 200
    assert server.server_address[0] == "127.0.0.1"


def test_nothing_is_written(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ask(server, "POST", "/map", png(picture()))[0] == 200
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named(server: Any) -> None:
    with pytest.raises(ParamsError, match=rf"port {server.server_port}: .*expected a free port; choose another --port"):
        make_server(server.RequestHandlerClass.args[0], "m", port=server.server_port)


def test_the_command_names_its_address_and_ends_by_ctrl_c(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    predictor = server.RequestHandlerClass.args[0].predictor
    monkeypatch.setattr("weakseg.inference.model.load_predictor", lambda *_: predictor)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupted)
    result = CliRunner().invoke(app, ["demo", "--model", str(tmp_path / "m.pt"), "--port", "0", "--bands", "3,2,1"])
    assert result.exit_code == 0, result.output
    assert f"shows {tmp_path / 'm.pt'}; Ctrl-C ends it" in result.output
    assert result.output.startswith("http://127.0.0.1:")


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(server: Any, browser: Any) -> Any:
    """The open page with nothing uploaded and an empty console."""
    browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    wait(browser, lambda: browser.execute_script("return document.body.dataset.ready") == "yes")
    return browser


def wait(browser: Any, done: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: done())


def upload(page: Any, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    page.find_element("id", "file").send_keys(str(path))
    wait(page, lambda: text(page, "facts") or text(page, "message"))


def text(page: Any, name: str) -> str:
    return str(page.find_element("id", name).text)


def overlay(page: Any, x: int, y: int) -> list[int]:
    """RGBA of one pixel of the map."""
    script = """
        const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        copy.drawImage(document.getElementById("overlay"), -arguments[0], -arguments[1]);
        return [...copy.getImageData(0, 0, 1, 1).data]"""
    return list(page.execute_script(script, x, y))


def test_the_page_shows_the_map_with_legend_and_opacity(page: Any, tmp_path: Path) -> None:
    rows = page.find_elements("css selector", "#legend li")
    assert [row.get_attribute("data-name") for row in rows] == list(ISPRS.names)
    colours = page.execute_script(
        "return [...document.querySelectorAll('#legend .colour')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert colours == [f"rgb({r}, {g}, {b})" for r, g, b in ISPRS.colours]
    assert "trained at 0.09 m per pixel" in text(page, "model")

    upload(page, tmp_path / "stripes.png", png(picture()))
    assert text(page, "facts").startswith("stripes.png: 90 × 60 px, mapped in ")
    assert [overlay(page, 45, y) for y in (0, 19, 20, 59)] == [
        [255, 255, 255, 255], [255, 255, 255, 255], [0, 0, 255, 255], [0, 255, 255, 255]
    ]  # fmt: skip
    assert [row.find_element("class name", "share").text for row in rows] == ["33.3 %"] * 3 + ["0.0 %"] * 2

    look = "return getComputedStyle(document.getElementById('overlay')).opacity"
    assert float(page.execute_script(look)) == pytest.approx(0.6)
    slider = page.find_element("id", "opacity")
    slider.send_keys("\ue010")  # End
    assert (float(page.execute_script(look)), text(page, "percent")) == (1.0, "100 %")
    slider.send_keys("\ue011")  # Home
    assert float(page.execute_script(look)) == 0.0

    rows[1].find_element("tag name", "button").click()  # hides building
    assert overlay(page, 45, 30)[3] == 0
    page.find_element("css selector", "label[for=show-confidence]").click()
    assert overlay(page, 45, 5)[:3] != [255, 255, 255]
    assert page.get_log("browser") == []


def test_the_page_says_what_is_wrong_with_a_file(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path / "notes.png", b"these are no pixels")
    assert text(page, "message").startswith("notes.png: starts with b'thes'; expected a GeoTIFF, PNG or JPEG")
    assert text(page, "facts") == ""
    page.get_log("browser")  # Chromium itself notes the status 400

    (tmp_path / "notes.png").unlink()
    upload(page, tmp_path / "long.png", bytes(60_000))
    wait(page, lambda: text(page, "message").startswith("long.png: 0.0572 MiB; expected at most 0.0477 MiB"))
    assert page.get_log("browser") == []


HOSTILE = ("<b>x</b>", "a\"b'c", "&amp;", "tree", "car")


@pytest.fixture(scope="module")
def hostile() -> Iterator[Any]:
    """A server of a model, and of classes, whose names would be markup."""
    predictor = Predictor(brightest, ClassScheme(HOSTILE, ISPRS.colours), 1.0, 0.09, torch.device("cpu"), "digest")
    with make_server(MapService(predictor, Limits()), "<b>m</b>") as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_names_go_to_the_page_as_data_alone(hostile: Any) -> None:
    """The page is the same file whatever the classes are called."""
    assert b"<b>" not in ask(hostile, "GET", "/")[1]
    status, about, headers = ask(hostile, "GET", "/about")
    assert (status, headers["Content-Type"], headers["X-Content-Type-Options"]) == (200, "application/json", "nosniff")
    assert (about["model"], [one["name"] for one in about["classes"]]) == ("<b>m</b>", list(HOSTILE))
    status, reply, headers = ask(hostile, "POST", "/map", b"none", X_File_Name="<b>f</b>.png")
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert reply["message"].startswith("<b>f</b>.png: ")


def test_names_are_shown_as_text_and_never_as_markup(hostile: Any, browser: Any, tmp_path: Path) -> None:
    browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{hostile.server_port}/")
    wait(browser, lambda: browser.execute_script("return document.body.dataset.ready") == "yes")
    assert text(browser, "model").startswith("weakseg, model <b>m</b>, 5 classes")
    rows = browser.find_elements("css selector", "#legend li")
    assert [row.get_attribute("data-name") for row in rows] == list(HOSTILE)
    assert [row.find_element("class name", "name").text for row in rows] == list(HOSTILE)
    upload(browser, tmp_path / "<b>x&amp;\"y'.png", png(picture()))
    wait(browser, lambda: text(browser, "facts").startswith("<b>x&amp;\"y'.png: 90 × 60 px"))
    browser.execute_script("""
        const box = stage.getBoundingClientRect();
        stage.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + place.x + 2 * place.scale,
          clientY: box.top + place.y + 2 * place.scale, bubbles: true}))""")
    assert "<b>x</b>, " in text(browser, "here")
    (tmp_path / "<i>bad.png").write_bytes(b"these are no pixels")
    browser.find_element("id", "file").send_keys(str(tmp_path / "<i>bad.png"))
    wait(browser, lambda: text(browser, "message").startswith("<i>bad.png: starts with"))
    assert browser.execute_script("return document.querySelectorAll('b, main i i, p i').length") == 0
    browser.get_log("browser")  # Chromium notes the status 400
