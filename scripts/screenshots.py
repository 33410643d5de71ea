"""Pictures of `weakseg tag` (docs/tagging.md), `demo` and `serve` (docs/serving.md), MLflow and optuna-dashboard.

    apt-get install chromium chromium-driver
    make demo
    weakseg tune --workers 2
    python scripts/screenshots.py --root . --compare evaluate@pixel evaluate@joint evaluate@full
    python scripts/screenshots.py --root DUBAI --only serve

They are taken in a headless Chromium. Works on copies of the workspace's records (``mlflow.db``,
``.weakseg/tuning.journal``), so a running pipeline is not disturbed. Writes ``tag.jpg``, ``tag_grid.jpg``,
``demo_page.jpg``, ``serve.jpg``, ``mlflow_compare.png`` and ``optuna_dashboard.png``; what is not recorded is left out
with a word. ``--only tag`` takes one of them. The workspace of Dubai is that of ``weakseg init --config dubai``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from weakseg.labels.crop_order import write_order
from weakseg.tagging.proposals import propose_crops
from weakseg.tagging.run import tag_server
from weakseg.tracking import find_run

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds: on a busy machine MLflow takes long to start
COMPARED = ["evaluate@pixel", "evaluate@joint", "evaluate@full"]
WIDTH, MLFLOW_HEIGHT, OPTUNA_HEIGHT = 1300, 1446, 1240  # of the page, in pixels: as far as its tables and charts go
MOST_BYTES = 300_000
TAG_HEIGHT = 780
SERVE_HEIGHT = 860
DEMO_SIZE, DROPPED = (1280, 760), "data/images/area31.tif"  # a validation area
SERVED = (
    "data/images/tile6_004.tif",
    [(255, 120), (520, 95), (655, 330), (470, 500), (215, 415)],
)  # and what is measured
TAG_CROP = ("area8", (116, 36, 64, 64))  # all classes of the embedded scenes in one crop
# The assistant of MLflow opens its panel on the first visit and covers a quarter of the page.
BEFORE_LOADING = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
STYLE = "[data-assistant-ui], .modebar { display: none !important }"  # buttons that float over tables and charts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="workspace whose records are shown")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--compare", nargs="+", default=COMPARED, metavar="STAGE", help="last runs of these stages")
    parser.add_argument("--only", choices=["tag", "demo", "serve", "mlflow", "optuna"], help="take these alone")
    options = parser.parse_args()
    wanted = [options.only] if options.only else ["tag", "demo", "mlflow", "optuna"]
    options.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as page:
        if "tag" in wanted:
            take_tag(page, options.root, Path(scratch), options.pictures)
        if "demo" in wanted:
            take_demo(page, options.root, options.pictures)
        if "serve" in wanted:
            take_serve(page, options.root, options.pictures)
        if "mlflow" not in wanted:
            pass
        elif (options.root / "mlflow.db").is_file():
            take_mlflow(page, options.root, Path(scratch), options.compare, options.pictures)
        else:
            print(f"no {options.root}/mlflow.db: run `make demo` first")
        if "optuna" not in wanted:
            pass
        elif (options.root / ".weakseg" / "tuning.journal").is_file():
            take_optuna(page, options.root, Path(scratch), options.pictures)
        else:
            print(f"no {options.root}/.weakseg/tuning.journal: run `weakseg tune` first")


def take_tag(page: Any, root: Path, scratch: Path, pictures: Path) -> None:
    """A crop with the guesses of the demo's model, and the grid for cars, in a workspace without tags."""
    workspace = scratch / "tagged"
    (workspace / "data").mkdir(parents=True)
    for name in ("params.yaml", "data/images", "data/classes.yaml"):
        (workspace / name).symlink_to((root / name).resolve())
    crops = propose_crops(workspace, size=48).crops
    write_order(workspace / "order.csv", [TAG_CROP, *(crop for crop in crops if crop[1][2] == crop[1][3])])
    model = root / "out" / "checkpoints" / "joint" / "seed0.pt"
    options = {"order": workspace / "order.csv", "model": str(model) if model.is_file() else "none"}
    with tag_server(workspace, **options) as (server, said):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        set_window(page, WIDTH, TAG_HEIGHT)
        for _ in range(2):  # the second time the model is there
            page.get(said.splitlines()[0])
            wait(lambda: page.execute_script("return !document.getElementById('door').hidden"), "the door")
            page.execute_script("document.getElementById('name').value = 'Ana'; enter()")
            time.sleep(15)
        keep_photo(page, pictures / "tag.jpg")
        page.execute_script("change('grid', about.classes.length - 1)")
        time.sleep(30)
        keep_photo(page, pictures / "tag_grid.jpg")
        server.shutdown()


def take_demo(page: Any, root: Path, pictures: Path) -> None:
    """The page of `weakseg demo` with an image that was chosen, and its map."""
    from selenium.webdriver.common.by import By

    width, height = DEMO_SIZE
    model = root / "out" / "checkpoints" / "joint" / "seed0.pt"
    command = ["weakseg", "--root", str(root), "demo", "--model", os.path.relpath(model)]
    with server(command, "/") as address:
        set_window(page, width, height)
        page.get(address)
        page.find_element(By.ID, "file").send_keys(str((root / DROPPED).resolve()))
        wait(lambda: page.execute_script("return !$('save').disabled"), "the map")
        page.execute_script("$('model').textContent = 'weakseg, model out/checkpoints/joint/seed0.pt, 5 classes'")
        keep_photo(page, pictures / "demo_page.jpg")


def take_serve(page: Any, root: Path, pictures: Path) -> None:
    """A raster that the model has not seen, its map made where it is looked at, and an area that is measured."""
    path, corners = SERVED
    model = root / "out" / "checkpoints" / "joint" / "seed0.pt"
    command = ["weakseg", "--root", str(root), "serve", "--model", os.path.relpath(model)]
    with server(command, "/healthz") as address:
        set_window(page, WIDTH, SERVE_HEIGHT)
        page.get(f"{address}/#{path}")
        wait(lambda: page.execute_script("return document.body.dataset.ready"), "the page")
        page.execute_script("$('model').textContent = 'weakseg, model models:/weakseg@champion, 5 classes'")
        page.execute_script("outline = {corners: arguments[0], closed: true}; measure(); draw()", corners)
        page.execute_script("stage.blur(); $('clear').disabled = false")
        wait(lambda: page.execute_script("return !maps.pending && !images.pending && raster"), "the map")
        time.sleep(3)
        keep_photo(page, pictures / "serve.jpg")


def take_mlflow(page: Any, root: Path, scratch: Path, stages: Sequence[str], pictures: Path) -> None:
    """The comparison of runs by class IoU and mIoU."""
    store = scratch / "mlflow.db"
    with (
        contextlib.closing(sqlite3.connect(root / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(store)) as copy,
    ):
        source.backup(copy)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store}"
    runs = [find_run(scratch, stage).info for stage in stages]
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{store}", "--workers", "1"]
    with server(command, "/health") as address:
        query = {
            "runs": json.dumps([run.run_id for run in runs]),
            "experiments": json.dumps([runs[0].experiment_id]),
            "workflowType": "machine_learning",
        }
        comparison = f"{address}/#/compare-runs?{urllib.parse.urlencode(query)}"
        open_page(page, comparison, MLFLOW_HEIGHT, f"Comparing {len(runs)} Runs")
        click(page, "[aria-label='collapse Parameters']")
        select_metrics(page)
        keep(page, pictures / "mlflow_compare.png")


def select_metrics(page: Any) -> None:
    """Put mIoU and every class IoU on the parallel coordinates, which start with one metric of MLflow's choice."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    click(page, "[role=combobox][aria-description]")
    options = ".du-bois-light-select-item-option"
    wait(lambda: page.find_elements(By.CSS_SELECTOR, options), "the list of metrics")
    for option in page.find_elements(By.CSS_SELECTOR, options):
        name = option.get_attribute("title")
        if ("iou" in name) != (option.get_attribute("aria-selected") == "true"):
            page.execute_script("arguments[0].scrollIntoView({block: 'nearest'}); arguments[0].click()", option)
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.execute_script("document.activeElement.blur()")


def take_optuna(page: Any, root: Path, scratch: Path, pictures: Path) -> None:
    """The newest study on optuna-dashboard."""
    journal = scratch / "tuning.journal"
    shutil.copy(root / ".weakseg" / "tuning.journal", journal)
    with server(["optuna-dashboard", str(journal)], "/api/studies") as address:
        with urllib.request.urlopen(f"{address}/api/studies") as answer:
            number = json.load(answer)["study_summaries"][-1]["study_id"]
        open_page(page, f"{address}/dashboard/studies/{number}", OPTUNA_HEIGHT, "Importance")
        keep(page, pictures / "optuna_dashboard.png")


@contextlib.contextmanager
def server(command: list[str], probe: str) -> Iterator[str]:
    """Address of a server that answers at ``probe``; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    program = str(Path(sys.executable).parent / command[0])
    process = subprocess.Popen([program, *command[1:], "--port", str(port)])  # all of them answer 127.0.0.1 alone
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: answers(address + probe), f"{command[0]} at {address}")
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(condition: Callable[[], bool], what: str) -> None:
    """Until the condition holds; RuntimeError after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not there within {PATIENCE:.0f} s")
        time.sleep(0.5)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    chrome.set_script_timeout(PATIENCE)
    chrome.set_page_load_timeout(PATIENCE)
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": BEFORE_LOADING})
    try:
        yield chrome
    finally:
        chrome.quit()


def set_window(page: Any, width: int, height: int) -> None:
    """The page is laid out and photographed at this size, in px, whatever the browser's own window is."""
    window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)


def open_page(page: Any, address: str, height: int, text: str) -> None:
    """Load the page in a window of that height and wait until it shows ``text``."""
    set_window(page, WIDTH, height)
    page.get(address)
    wait(lambda: text in page.execute_script("return document.body.innerText"), f"{text!r} on {address}")
    page.execute_script(
        "document.head.appendChild(document.createElement('style')).textContent = arguments[0]",
        STYLE,
    )


def click(page: Any, selector: str) -> None:
    from selenium.webdriver.common.by import By

    wait(lambda: page.find_elements(By.CSS_SELECTOR, selector), selector)
    page.find_element(By.CSS_SELECTOR, selector).click()


def keep_photo(page: Any, picture: Path) -> None:
    """Write the page as JPEG: most of it is a photograph."""
    with Image.open(io.BytesIO(page.get_screenshot_as_png())) as image:
        image.convert("RGB").save(picture, quality=82, optimize=True)
    print(f"wrote {picture}, {picture.stat().st_size} bytes")


def keep(page: Any, picture: Path) -> None:
    """Write the page as PNG once it has stopped changing, in 256 colours."""
    before = b""
    for _ in range(20):
        time.sleep(3)
        if (now := page.get_screenshot_as_png()) == before:
            break
        before = now
    with Image.open(io.BytesIO(before)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
    if (size := picture.stat().st_size) > MOST_BYTES:
        raise RuntimeError(f"{picture} has {size} bytes, more than {MOST_BYTES}: show less of the page")
    print(f"wrote {picture}, {size} bytes")


if __name__ == "__main__":
    main()
