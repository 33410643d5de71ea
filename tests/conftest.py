"""Shared by all tests: one thread, no tracking, float32, and a tiny workspace painted on the spot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WEAKSEG_TRACKING"] = "off"
os.environ["WEAKSEG_PRECISION"] = "no"
os.environ["WEAKSEG_DEVICE"] = "cpu"

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import settings

from weakseg.core.classes import IGNORE, ISPRS

settings.register_profile("weakseg", deadline=None)  # 200 ms say nothing on a shared machine
settings.load_profile("weakseg")

PROJECT = Path(__file__).parents[1]
SIDE, CELL = 64, 16
AREAS = {"pixel": ["p1", "p2"], "tags": ["t1", "t2"], "validation": ["v1"]}
TONES = np.array([(120, 120, 124), (170, 90, 84), (150, 110, 60), (60, 150, 50), (20, 30, 210)], np.int16)


def paint_area(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Image (64, 64, 3) and mask: 16 px cells of one or two classes, a car in every quarter, one ignored corner."""
    rng = np.random.default_rng(seed)
    mask = np.repeat(np.repeat(rng.integers(0, 4, (SIDE // CELL,) * 2), CELL, 0), CELL, 1).astype(np.uint8)
    for column in range(0, SIDE, CELL):
        row = int(rng.integers(0, SIDE - 8))
        mask[row : row + 4, column + 4 : column + 12] = 4
    mask[:5, :5] = IGNORE
    image = TONES[np.where(mask == IGNORE, 0, mask)] + rng.integers(-12, 13, (SIDE, SIDE, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def tiny_params() -> dict[str, Any]:
    """params.yaml cut down until a whole training takes a second."""
    params: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    areas = {split: list(names) for split, names in AREAS.items()}
    params["tiles"] |= {
        "areas": areas,
        "holdout": 0.25,
        "tag_source": "masks",
        "tag_size": CELL,
    }
    segment = params["segment"]
    segment["crop"] = 32
    segment["network"] |= {"name": "encdec_unpool", "weights": "none", "width": 16}
    segment["optimiser"] |= {"steps": 4, "batch": 4, "report_every": 2, "lr": 0.01}
    params["students"] |= {"batch": 2, "start": 0.0, "ramp": 0.5}
    params["evaluate"] |= {"window": 48, "batch": 2, "batch_mean_tile": 32, "erosion": 1}
    params["pseudo"] |= {"scores": [0.0, 0.5], "margins": [0.0, 0.1], "min_coverage": 0.1, "per_class": True}
    params["report"] |= {"draws": 50}
    params["tune"] |= {"steps": 4}
    return params


def build_workspace(root: Path) -> Path:
    """2 N1, 2 N2 and 1 validation areas of 64 px under ``root``/data, and params.yaml."""
    from weakseg.raster.write import write_raster

    for seed, area in enumerate(name for names in AREAS.values() for name in names):
        image, mask = paint_area(seed)
        write_raster(root / "data" / "images" / f"{area}.tif", image)
        write_raster(root / "data" / "labels" / f"{area}.tif", ISPRS.to_colours(mask))
    ISPRS.save(root / "data" / "classes.yaml")
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    return root


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A fresh tiny workspace: data/ and params.yaml, nothing computed yet."""
    return build_workspace(tmp_path)


@pytest.fixture(scope="session")
def make_workspace() -> Callable[[Path], Path]:
    """:func:`build_workspace`, for fixtures of a wider scope."""
    return build_workspace


@pytest.fixture(scope="session")
def tiny() -> Callable[[], dict[str, Any]]:
    """:func:`tiny_params`."""
    return tiny_params


@pytest.fixture(scope="session")
def paint() -> Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """:func:`paint_area`."""
    return paint_area


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the precision of its first object for the whole process; every test starts without one."""
    yield
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server process on sqlite; give models and experiments names of your own."""
    folder = tmp_path_factory.mktemp("mlflow_server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/store"]
    lean = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # else eight more processes start
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, env=lean, start_new_session=True)
    try:
        for _ in range(1500):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise AssertionError((folder / "server.log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium (selenium) with its console log; ``.ci/run`` installs it, elsewhere its tests are skipped."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no headless browser here: apt install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
