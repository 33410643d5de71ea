"""The server of `weakseg tag`: what it hands out, keeps and refuses, and that nothing is lost, whoever is killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from weakseg.core.classes import ISPRS, load_classes
from weakseg.core.errors import DataError, ParamsError, StageError
from weakseg.labels.answer_file import read_answers
from weakseg.labels.crop_order import write_order
from weakseg.labels.opinions import opinions_of
from weakseg.raster.open import read_window
from weakseg.raster.write import write_raster
from weakseg.tagging.merging import merge_tags
from weakseg.tagging.run import tag_server


class Client:
    """Asks the server as the page does, as one annotator in one window."""

    def __init__(self, address: str, annotator: str = "Ana", page: str = "p1") -> None:
        host, self.path = address.removeprefix("http://").split("/", 1)
        self.link = http.client.HTTPConnection(host, timeout=30)
        self.annotator, self.page = annotator, page

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
        """(status, JSON or bytes, headers)."""
        self.link.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = self.link.getresponse()
        content, kind = answer.read(), answer.headers.get("Content-Type", "")
        return answer.status, json.loads(content) if "json" in kind else content, answer.headers

    def get(self, name: str) -> Any:
        status, value, _ = self.ask("GET", f"/{self.path}{name}")
        assert status == 200, value
        return value

    def post(self, address: str, expect: int = 200, **body: Any) -> Any:
        content = json.dumps({"annotator": self.annotator, "page": self.page, **body}).encode()
        status, value, _ = self.ask("POST", f"/{self.path}{address}", content, Content_Type="application/json")
        assert status == expect, value
        return value

    def next(self, count: int = 1, **more: Any) -> Any:
        return self.post("next", count=count, **more)

    def answer(self, crop: Any, identity: str, present: tuple[str, ...] = ("tree",), **more: Any) -> Any:
        absent = [name for name in ISPRS.names if name not in present]
        body = {"id": identity, "area": crop["area"], "window": crop["window"], "seconds": 1.5}
        body |= {"present": list(present), "absent": absent, "unsure": []} | more.pop("answer", {})
        return self.post("answers", answers=[body], **more)


@pytest.fixture
def serve(workspace: Path) -> Iterator[Callable[..., str]]:
    """Starts the server of the tiny workspace (32 crops of t1 and t2) and gives its address."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**options: Any) -> str:
            server, said = stack.enter_context(tag_server(workspace, **{"model": "none"} | options))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            return said.splitlines()[0]

        yield start


def answers(workspace: Path) -> Any:
    return read_answers(workspace / "tagging" / "answers.jsonl", load_classes(workspace / "data" / "classes.yaml"))


def test_a_crop_is_handed_out_answered_and_on_disk(workspace: Path, serve: Callable[..., str]) -> None:
    client = Client(serve())
    told = client.next(2)
    first, second = told["crops"]
    assert {first["area"], second["area"]} == {"t1", "t2"}  # every area early
    assert (told["mine"], told["done"], told["all"]) == (0, 0, 32)
    assert first["window"][2:] == [16, 16]
    assert client.answer(first, "x1") == {"kept": 1, "mine": 1, "done": 1, "all": 32}
    (kept,) = answers(workspace)
    assert (kept.area, list(kept.window), kept.present) == (first["area"], first["window"], ("tree",))
    assert (kept.annotator, kept.seconds, kept.raster, kept.mode) == ("Ana", 1.5, (64, 64), "crop")
    assert [crop["key"] for crop in client.next(1)["crops"]] == [second["key"]]


def test_an_answer_that_is_sent_again_is_not_doubled(workspace: Path, serve: Callable[..., str]) -> None:
    client = Client(serve())
    (crop,) = client.next()["crops"]
    assert client.answer(crop, "x1")["kept"] == 1
    assert client.answer(crop, "x1")["kept"] == 0
    assert len(answers(workspace)) == 1


def test_undo_takes_the_last_answer_back_and_shows_it_again(workspace: Path, serve: Callable[..., str]) -> None:
    client = Client(serve())
    first, second = client.next(2)["crops"]
    client.answer(first, "x1", ("car", "tree"))
    client.answer(second, "x2")
    for _ in range(2):  # the second is the same request again
        told = client.post("undo", id="u1")
        assert [crop["key"] for crop in told["crops"]] == [second["key"]]
    assert (told["mine"], told["crops"][0]["answer"]["tree"], told["crops"][0]["answer"]["car"]) == (1, True, False)
    assert [one.id for one in answers(workspace)] == ["x1"]
    assert client.post("undo", id="u2")["crops"][0]["answer"]["car"] is True
    assert client.post("undo", id="u3")["crops"] == []
    assert answers(workspace) == []
    other = Client(client_address(client), "Ben", "p2")
    client.answer(first, "x3")
    assert other.post("undo", id="u4")["crops"] == []  # nobody takes back what another has said


def client_address(client: Client) -> str:
    return f"http://{client.link.host}:{client.link.port}/{client.path}"


def test_a_grid_is_kept_and_taken_back_as_a_whole(workspace: Path, serve: Callable[..., str]) -> None:
    client = Client(serve())
    crops = client.next(5, name="car")["crops"]
    body = [
        {"id": f"g{index}", "area": crop["area"], "window": crop["window"], "seconds": 0.5, "unsure": [],
         "present": ["car"] if index < 2 else [], "absent": [] if index < 2 else ["car"]}
        for index, crop in enumerate(crops)
    ]  # fmt: skip
    assert client.post("answers", answers=body, mode="grid", batch="b1") == {"kept": 5, "mine": 5, "done": 5, "all": 32}
    assert [one.present for one in answers(workspace)] == [("car",), ("car",), (), (), ()]
    assert len(client.next(32, name="car")["crops"]) == 27
    told = client.post("undo", id="u1")
    assert (len(told["crops"]), told["mode"], told["name"]) == (5, "grid", "car")
    assert answers(workspace) == []


def test_pictures_show_the_crop_in_its_surroundings_and_the_scene(workspace: Path, serve: Callable[..., str]) -> None:
    client = Client(serve())
    crop = next(one for one in client.next(32)["crops"] if one["window"][:2] == [16, 0] and one["area"] == "t1")
    assert crop["frame"] == [10, 0, 28, 22]  # 6 px around, but for the rim
    picture = cv2.imdecode(np.frombuffer(client.get(f"picture?key={crop['key']}"), np.uint8), 1)[..., ::-1]
    expected = read_window(workspace / "data" / "images" / "t1.tif", (10, 0, 28, 22))
    assert picture.shape == (28, 22, 3)
    assert np.abs(picture.astype(int) - expected).mean() < 12  # a JPEG of noise
    scene = cv2.imdecode(np.frombuffer(client.get("overview?area=t1"), np.uint8), 1)
    assert scene.shape == (64, 64, 3)
    assert len(list((workspace / ".weakseg" / "overviews").iterdir())) == 1


def test_crops_without_data_are_passed_over(workspace: Path, serve: Callable[..., str]) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    valid = np.zeros((64, 64), bool)
    valid[:16, :17] = True
    write_raster(workspace / "data" / "images" / "t1.tif", image, valid=valid)
    told = Client(serve(areas=["t1"])).next(32)
    assert sorted(crop["window"][:2] for crop in told["crops"]) == [[0, 0], [0, 16]]


def test_an_order_is_served_as_it_is(workspace: Path, serve: Callable[..., str]) -> None:
    crops = [("t2", (3, 5, 20, 30)), ("v1", (0, 0, 64, 64)), ("t1", (0, 0, 9, 9))]
    write_order(workspace / "next.csv", crops)
    found = Client(serve(order=workspace / "next.csv")).next(9)["crops"]
    assert [(crop["area"], tuple(crop["window"])) for crop in found] == crops


def test_a_table_that_is_half_known_is_gone_on_with(workspace: Path, serve: Callable[..., str]) -> None:
    (workspace / "data" / "tags").mkdir()
    (workspace / "data" / "tags" / "tags.csv").write_text(
        "area,row,column,height,width,tags,unknown\n"
        "t1,0,0,16,16,tree,\nt1,0,16,16,16,tree,car building\nt1,0,32,16,16,,\n"
    )
    told = Client(serve()).next(32)
    mine = {tuple(crop["window"]): crop["known"] for crop in told["crops"] if crop["area"] == "t1" and crop["known"]}
    assert mine == {(0, 16, 16, 16): {"impervious_surface": False, "low_vegetation": False, "tree": True}}
    assert told["all"] == 15 + 16


def test_nobody_sees_what_another_has_said(workspace: Path, serve: Callable[..., str]) -> None:
    """A grid for one class, merged into the table: her own answer is there for her and not for him."""
    ana = Client(serve(overlap=1.0), "Ana", "p1")
    (crop,) = ana.next(1, name="car")["crops"]
    body = {"id": "g1", "area": crop["area"], "window": crop["window"], "seconds": 0.5}
    ana.post("answers", answers=[body | {"present": ["car"], "absent": [], "unsure": []}], mode="grid", batch="b")
    merge_tags(workspace)
    ben = Client(client_address(ana), "Ben", "p2")
    found = {who.annotator: who.next(1)["crops"][0] for who in (ana, ben)}
    assert {name: (one["key"], one["known"]) for name, one in found.items()} == {
        "Ana": (crop["key"], {"car": True}), "Ben": (crop["key"], {}),
    }  # fmt: skip


def test_two_people_share_the_work_and_some_crops_twice_on_purpose(workspace: Path, serve: Callable[..., str]) -> None:
    address = serve(overlap=0.25)
    people = [Client(address, name, f"p-{name}") for name in ("Ana", "Ben")]

    def work(client: Client) -> None:
        while crops := client.next()["crops"]:
            client.answer(crops[0], f"{client.annotator}-{crops[0]['key']}")

    threads = [threading.Thread(target=work, args=(client,)) for client in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = opinions_of(answers(workspace))
    twice = sum(len(by) == 2 for by in found.values())
    assert len(found) == 32
    assert 4 <= twice <= 14
    assert len(answers(workspace)) == 32 + twice


@pytest.mark.parametrize("name", ["next", "answers", "undo", "release"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"annotator": "Ana"}', b'{"annotator": "Ana", "page": "p", "count": 0, "more": 1}']
)
def test_strange_requests_are_400_and_a_sentence(serve: Callable[..., str], name: str, body: bytes) -> None:
    client = Client(serve())
    status, value, _ = client.ask("POST", f"/{client.path}{name}", body, Content_Type="application/json")
    assert status == 400
    assert "; expected what the page sends; load it again" in value["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": [60, 0, 16, 16]}, "window (60, 0, 16, 16) of t1; expected one inside the area"),
        ({"area": "../../etc"}, "area '../../etc'; expected an area of data/images"),
        ({"present": ["house"]}, "class 'house'"),
        ({"present": [], "absent": [], "unsure": []}, "an answer about no class"),
        ({"seconds": -5}, "-5.0 seconds"),
    ],
)
def test_answers_without_sense_are_refused_and_not_kept(
    workspace: Path, serve: Callable[..., str], changes: dict[str, Any], words: str
) -> None:
    client = Client(serve())
    body = {"id": "x", "area": "t1", "window": [0, 0, 16, 16], "present": ["tree"], "absent": [], "unsure": []}
    told = client.post("answers", 400, answers=[body | {"seconds": 1} | changes])
    assert words in told["message"]
    assert answers(workspace) == []


def test_nothing_is_answered_without_the_token(serve: Callable[..., str]) -> None:
    client = Client(serve())
    for path in ("/", "/about", "/wrong/about", f"/{client.path[:-2]}/about", "/%2e%2e/about"):
        status, value, _ = client.ask("GET", path)
        assert (status, value["message"][:25]) == (403, "no token in the address; ")
    assert client.ask("POST", "/wrong/next", b"{}", Content_Type="application/json")[0] == 403


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example:80"}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "127.0.0.1"}],
)
def test_requests_from_elsewhere_are_refused(serve: Callable[..., str], headers: dict[str, str]) -> None:
    client = Client(serve())
    for method, name in (("GET", ""), ("GET", "about"), ("POST", "next")):
        body = {"body": b"{}", "Content_Type": "application/json"} if method == "POST" else {}
        status, value, _ = client.ask(method, f"/{client.path}{name}", **body, **headers)  # type: ignore[arg-type]
        assert (status, "from elsewhere" in value["message"]) == (403, True)


def test_other_forms_of_requests_are_refused(serve: Callable[..., str]) -> None:
    client = Client(serve())
    assert client.ask("POST", f"/{client.path}next", b"{}", Content_Type="text/plain")[0] == 400
    big = b" " * ((1 << 20) + 1)
    status, value, _ = client.ask("POST", f"/{client.path}next", big, Content_Type="application/json")
    assert (status, value["message"][:24]) == (400, "a body of 1048577 bytes;")
    assert client.ask("POST", f"/{client.path}about", b"{}", Content_Type="application/json")[0] == 404
    assert client.next()["crops"]
    status, value, headers = client.ask("DELETE", f"/{client.path}next")
    assert (status, value["message"]) == (501, "Not Implemented; expected GET or POST; load the page")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert client.ask("GET", f"/{client.path}about", b"GET /x HTTP/1.1")[0] == 200  # what follows is no request
    assert client.next()["crops"]


@pytest.mark.parametrize(
    "name",
    ["../params.yaml", "..%2f..%2fparams.yaml", "params.yaml", "data/images/t1.tif", "tag.html", "page/tag.js"],
)
def test_no_other_file_is_served(serve: Callable[..., str], name: str) -> None:
    client = Client(serve())
    assert client.ask("GET", f"/{client.path}{name}")[0] == 404


@pytest.mark.parametrize(
    "query",
    ["picture?key=0_0_16_16_../../params", "picture?key=0_0_16_16_t9", "picture?key=0_0_99_99_t1", "picture",
     "picture?key=0_0_-1_16_t1", "overview?area=../labels/t1", "overview", "guess?keys=nonsense"],
)  # fmt: skip
def test_pictures_of_nothing_known_are_refused(serve: Callable[..., str], query: str) -> None:
    client = Client(serve())
    status, value, _ = client.ask("GET", f"/{client.path}{query}")
    assert (status, "; expected" in value["message"]) == (400, True)


def test_the_page_may_load_its_own_files_alone(serve: Callable[..., str]) -> None:
    client = Client(serve())
    status, page, headers = client.ask("GET", f"/{client.path}")
    assert (status, page[:15]) == (200, b"<!doctype html>")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    for name, kind in (("tag.js", "text/javascript"), ("tag.css", "text/css")):
        _, text, headers = client.ask("GET", f"/{client.path}{name}")
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert b"http://" not in text
        assert b"https://" not in text
        assert b"innerHTML" not in text
    about = client.get("about")
    assert [one["name"] for one in about["classes"]] == list(ISPRS.names)
    assert about["said"] == "32 crops of 2 areas (those of tiles.areas.tags), grid of 16 px"


def test_a_fault_of_ours_is_500_and_the_server_lives_on(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(serve())
    monkeypatch.setattr("weakseg.tagging.pictures.encode_jpeg", lambda image: 1 / 0)
    status, value, _ = client.ask("GET", f"/{client.path}picture?key=0_0_16_16_t1")
    assert (status, value) == (500, {"message": "weakseg tag failed; the traceback is in its terminal"})
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert client.next()["crops"]


def test_the_token_is_the_owners_and_outlives_a_restart(workspace: Path) -> None:
    addresses = []
    for _ in range(2):
        with tag_server(workspace, model="none") as (_, said):
            addresses.append(said.split("/")[3])
    assert addresses[0] == addresses[1]
    assert len(addresses[0]) >= 20
    assert (workspace / ".weakseg" / "tagging_token").stat().st_mode & 0o077 == 0


def test_a_second_server_of_the_workspace_is_refused(workspace: Path, serve: Callable[..., str]) -> None:
    serve()
    with pytest.raises(StageError, match="another `weakseg tag` serves"), tag_server(workspace, model="none"):
        pass


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"overlap": 1.5}, ParamsError, "--overlap 1.5; expected a share from 0 to 1"),
        ({"order": Path("x.csv"), "areas": ["t1"]}, ParamsError, "--order with --areas or --disputes"),
        ({"order": Path("x.csv")}, DataError, "no file x.csv; expected a CSV of crops"),
        ({"disputes": True}, DataError, "nothing to tag: 0 crops on which the annotators are divided; expected crops"),
        ({"areas": ["t9"]}, DataError, "area t9; expected areas of data/images: p1, p2, t1, t2, v1"),
    ],
)
def test_options_that_do_not_fit_are_named(
    workspace: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught, tag_server(workspace, model="none", **options):
        pass
    assert words in str(caught.value)


def test_guesses_of_a_model_are_told_and_kept_with_the_answer(
    workspace: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that everybody can check: as likely tree as green is bright."""

    def predict(area: str, image: Any) -> Any:
        green = image[..., 1].astype(np.float32) / 255
        return np.stack([1 - green, green])

    monkeypatch.setattr(
        "weakseg.tagging.run._loader", lambda file, images: lambda: (("moss", "tree"), "digest", predict)
    )
    image = np.zeros((64, 64, 3), np.uint8)
    image[0:2, 0:2, 1] = 204  # four px of 256: as many as have a say
    image[16:20, 0:1, 1] = 102
    write_raster(workspace / "data" / "images" / "t1.tif", image)
    client = Client(serve(model="some.pt"))
    time.sleep(0.2)
    told = client.get("guess?keys=0_0_16_16_t1%0916_0_16_16_t1")
    assert told["guesses"] == {"0_0_16_16_t1": {"tree": 0.8}, "16_0_16_16_t1": {"tree": 0.4}}
    crop = {"area": "t1", "window": [0, 0, 16, 16]}
    client.answer(crop, "x1", answer={"guess": {"tree": 0.8}})
    assert [(one.guess, one.model) for one in answers(workspace)] == [({"tree": 0.8}, "digest")]


def test_without_its_model_the_page_says_so(workspace: Path, serve: Callable[..., str]) -> None:
    (workspace / "broken.pt").write_bytes(b"no model")
    client = Client(serve(model=str(workspace / "broken.pt")))
    for _ in range(200):
        told = client.get("guess?keys=0_0_16_16_t1")
        if told["fault"]:
            break
        time.sleep(0.1)
    assert told["guesses"] == {"0_0_16_16_t1": {}}
    assert "broken.pt" in told["fault"]


# ---- a server of its own process -------------------------------------------------------------------------------------


def start(workspace: Path, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    # a background job of a shell script inherits SIGINT ignored, and so would the server
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import weakseg.__main__"
    options = ["--root", str(workspace), "tag", "--model", "none", "--port", str(port)]
    command = [sys.executable, "-c", heard, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def work_until_killed(address: str, name: str, told: list[str], numbers: Iterator[int]) -> None:
    """Answer crop after crop; ``told`` gets the ids that the server has confirmed."""
    client = Client(address, name, f"page of {name}")
    try:
        while crops := client.next(1)["crops"]:
            identity = f"{name}-{next(numbers)}"
            client.answer(crops[0], identity)
            told.append(identity)
    except (OSError, http.client.HTTPException):
        return


def test_a_server_that_is_killed_loses_nothing_it_has_confirmed(workspace: Path) -> None:
    """Killed with signal 9 while three people tag; in the end every crop has one answer."""
    import itertools

    numbers, told = itertools.count(), list[str]()
    for life in range(2):
        process, address = start(workspace)
        people = [
            threading.Thread(target=work_until_killed, args=(address, name, told, numbers)) for name in ("A", "B", "C")
        ]
        before = len(told)
        for one in people:
            one.start()
        if life < 1:
            while len(told) < before + 5:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        for one in people:
            one.join()
        if life == 1:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
            assert out.rstrip().endswith("ended; all answers are on disk")
        process.wait()
    kept = answers(workspace)
    assert set(told) <= {one.id for one in kept}
    assert len({one.id for one in kept}) == len(kept)
    assert {one.crop for one in kept} == {
        (area, (row, column, 16, 16))
        for area in ("t1", "t2")
        for row in range(0, 64, 16)
        for column in range(0, 64, 16)
    }
    assert len(kept) <= 32 + 3  # an answer that was written but not confirmed is given again by its page, not here


@pytest.mark.slow
def test_a_thousand_crops_at_twenty_a_second(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script in place of people, with the pictures that a page loads; one answer per crop, none lost, none twice."""
    image = np.random.default_rng(0).integers(0, 255, (640, 800, 3), np.uint8)
    for area in ("t1", "t2"):
        write_raster(workspace / "data" / "images" / f"{area}.tif", image)
    process, address = start(workspace)
    client = Client(address)
    try:
        began, count = time.monotonic(), 0
        while count < 1000:
            for crop in client.next(3)["crops"]:
                client.get(f"picture?key={crop['key']}")
                client.answer(crop, f"x{count}")
                count += 1
        seconds = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    kept = answers(workspace)
    assert [one.id for one in kept] == [f"x{index}" for index in range(count)]
    assert len({one.crop for one in kept}) == count >= 1000
    with capsys.disabled():
        print(f"\n{count} crops in {seconds:.1f} s: {count / seconds:.0f} per second")
    assert count / seconds >= 20
