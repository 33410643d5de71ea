"""What only a process of its own can show: memory that does not grow with the raster, and a kill in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.inference.one_raster import predict_raster
from tests.inference.test_predict import CPU, UTM, linear, model_file, picture, predictor, save

from weakseg.core.classes import IGNORE
from weakseg.inference import sweep as sweeping
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.raster import finished_rows as spool
from weakseg.raster.stream import BLOCK, inspect_source

TALL = """
import resource, sys
from pathlib import Path
import torch
from weakseg.core.classes import ISPRS
from weakseg.raster import stream as streaming
from weakseg.inference.run import run_predictor
from weakseg.inference.options import Options
from weakseg.inference.model import Predictor
torch.set_num_threads(1)
streaming._CACHE = 8 << 20  # GDAL's cache fills up to its bound, which would hide what grows here
folder = Path(sys.argv[1])
forward = lambda images: images.float().mean(1, keepdim=True).expand(-1, 5, -1, -1)
for name in ("low", "tall"):
    run = run_predictor(
        Predictor(forward, ISPRS, 1.0, None, torch.device("cpu"), ""),
        streaming.inspect_source(folder / f"{name}.tif", None), folder / f"o_{name}.tif", Options(512, 0.25, 4))
    print(run.windows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def sparse(path: Path, height: int, width: int) -> None:
    """Nodata but for 600 x 900 px in the last rows."""
    shape = {"count": 3, "height": height, "width": width, "dtype": "uint8", "nodata": 0, **UTM}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True, "interleave": "pixel"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **tiles) as file:
        file.write(np.full((3, 600, 900), 100, np.uint8), window=((height - 700, height - 100), (1000, 1900)))


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    """12 times as many rows: 33 MB as uint8 and 660 MB as probabilities, if anything kept them."""
    sparse(tmp_path / "low.tif", 1_000, 3_000)
    sparse(tmp_path / "tall.tif", 12_000, 3_000)
    script = [sys.executable, "-c", TALL, str(tmp_path)]
    answer = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    low_windows, low_peak, tall_windows, tall_peak = map(int, answer)
    assert 4 <= low_windows <= 16
    assert 4 <= tall_windows <= 16
    assert tall_peak - low_peak < 20
    with rasterio.open(tmp_path / "o_tall.tif") as file:
        found = file.read(1)
    assert (found != IGNORE).sum() == 600 * 900
    assert found[11_300:11_900, 1000:1900].max() == 0


def test_a_killed_process_leaves_what_the_next_one_needs_for_the_identical_file(tmp_path: Path) -> None:
    model, source = model_file(tmp_path / "m.pt"), save(tmp_path / "a.tif", picture(12 * BLOCK, 300), **UTM)
    target, settings = tmp_path / "o.tif", {"window": 64, "overlap": 0.25, "batch": 4, "machine": CPU}
    command = [sys.executable, "-m", "weakseg", "predict", str(source), str(target), "--model", str(model)]
    command += ["--window", "64", "--overlap", "0.25", "--batch", "4"]
    environment = {**os.environ, "WEAKSEG_DEVICE": "cpu", "WEAKSEG_PRECISION": "no", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / ".o.tif.part" / "000001.z").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    (tmp_path / ".123-o.tmp.tif").write_bytes(b"half a map of a process that was killed while writing it")
    again = predict_raster(model, source, target, **settings)
    once = predict_raster(model, source, tmp_path / "once" / "o.tif", **settings)
    assert 2 <= again.resumed < 12
    assert again.windows < once.windows
    assert target.read_bytes() == (tmp_path / "once" / "o.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "m.pt", "o.tif", "once"]


def test_reading_the_network_and_writing_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six bands of four windows: while the network works on most of them, windows are read and bands are written."""
    source = save(tmp_path / "a.tif", picture(6 * BLOCK, 4 * BLOCK))
    spans: dict[str, list[tuple[float, float]]] = {"read": [], "network": [], "write": []}

    def slowed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            started = time.monotonic()
            time.sleep(0.02)
            result = function(*arguments)
            spans[kind].append((started, time.monotonic()))
            return result

        return run

    monkeypatch.setattr(sweeping, "read_network_window", slowed("read", sweeping.read_network_window))
    monkeypatch.setattr(spool.zlib, "compress", slowed("write", zlib.compress))
    network = predictor(slowed("network", linear))
    options = Options(window=BLOCK, overlap=0.0, batch=1)
    assert run_predictor(network, inspect_source(source, None), tmp_path / "o.tif", options).windows == 24
    assert [len(found) for found in spans.values()] == [24, 24, 6]
    meanwhile = {
        kind: sum(any(begin < e and b < end for b, e in spans["network"]) for begin, end in spans[kind])
        for kind in ("read", "write")
    }
    assert meanwhile["read"] >= 12
    assert meanwhile["write"] >= 4  # nothing is left to predict while the last one is written
