"""Pictures of the MLflow and Optuna pages for docs/experiments.md, taken in a headless Chromium.

    apt-get install chromium chromium-driver
    python scripts/screenshots.py --root . --compare segment@pixel segment@consistency

Works on copies of the workspace's records (``mlflow.db``, ``.weakseg/tuning.journal``), so a running pipeline is not
disturbed. Writes ``mlflow_compare.png``, ``mlflow_charts.png`` and ``optuna_dashboard.png``; what is not recorded is
left out with a word.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from weakseg.tracking import find_run

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds: on a busy machine MLflow takes long to start
SIZE = (1500, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="workspace whose records are shown")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--compare", nargs=2, default=["evaluate@pixel", "evaluate@consistency"], metavar="STAGE")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browser() as page:
        if (options.root / "mlflow.db").is_file():
            take_mlflow(page, options.root, Path(scratch), options.compare, options.pictures)
        else:
            print(f"no {options.root}/mlflow.db: run `make demo` first")
        if (options.root / ".weakseg" / "tuning.journal").is_file():
            take_optuna(page, options.root, Path(scratch), options.pictures)
        else:
            print(f"no {options.root}/.weakseg/tuning.journal: run `weakseg tune` first")


def take_mlflow(page: Any, root: Path, scratch: Path, stages: Sequence[str], pictures: Path) -> None:
    """The comparison of two runs, and the charts of their experiment."""
    store = scratch / "mlflow.db"
    with (
        contextlib.closing(sqlite3.connect(root / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(store)) as copy,
    ):
        source.backup(copy)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store}"
    runs = [find_run(scratch, stage).info for stage in stages]
    experiment = runs[0].experiment_id
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{store}", "--workers", "1"]
    with server(command, "/health") as address:
        query = {"runs": json.dumps([run.run_id for run in runs]), "experiments": json.dumps([experiment])}
        compare = f"{address}/#/compare-runs?{urllib.parse.urlencode(query)}"
        shoot(page, compare, "Comparing 2 Runs", pictures / "mlflow_compare.png")
        charts = f"{address}/#/experiments/{experiment}/runs?compareRunsMode=CHART"
        shoot(page, charts, "val/miou", pictures / "mlflow_charts.png")


def take_optuna(page: Any, root: Path, scratch: Path, pictures: Path) -> None:
    """The newest study on optuna-dashboard."""
    journal = scratch / "tuning.journal"
    shutil.copy(root / ".weakseg" / "tuning.journal", journal)
    with server(["optuna-dashboard", str(journal)], "/api/studies") as address:
        with urllib.request.urlopen(f"{address}/api/studies") as answer:
            number = json.load(answer)["study_summaries"][-1]["study_id"]
        shoot(page, f"{address}/dashboard/studies/{number}", "Importance", pictures / "optuna_dashboard.png")


@contextlib.contextmanager
def server(command: list[str], probe: str) -> Iterator[str]:
    """Address of a server that answers at ``probe``; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    program = str(Path(sys.executable).parent / command[0])
    process = subprocess.Popen([program, *command[1:], "--host", "127.0.0.1", "--port", str(port)])
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
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    chrome.set_script_timeout(PATIENCE)
    chrome.set_page_load_timeout(PATIENCE)
    try:
        yield chrome
    finally:
        chrome.quit()


def shoot(page: Any, address: str, text: str, picture: Path) -> None:
    """Open the page, wait until it shows ``text`` and has stopped changing, and write it as PNG."""
    page.get(address)
    wait(lambda: text in page.execute_script("return document.body.innerText"), f"{text!r} on {address}")
    before = b""
    for _ in range(20):
        time.sleep(3)
        if (now := page.get_screenshot_as_png()) == before:
            break
        before = now
    picture.write_bytes(before)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
