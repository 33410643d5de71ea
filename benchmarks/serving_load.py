"""32 clients ask `weakseg serve` for a minute: what is answered, how fast, and how much memory the server takes.

    python benchmarks/serving_load.py MODEL [--seconds 60] [--clients 32]

The server runs as its users start it, on two threads. Half of the clients post images of 512 x 512 px to /map, a
quarter asks for /tiles of the model applied to a raster of 4000 x 4000 px, a quarter opens that raster as the page does
and asks for tiles of its picture and its map, all at random places. A client that is told to come again (503) waits as
long as ``Retry-After`` says. Any other status than 200 and 503, and any broken connection, is an error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import psutil
import rasterio
from rasterio.io import MemoryFile
from rasterio.warp import transform

from weakseg.maps.mercator import MERCATOR, tile_bounds
from weakseg.raster.pyramid import TILE

ZOOM: Final = 19
PLACE: Final = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_400_000)}


def picture(side: int, seed: int) -> np.ndarray:
    """A smooth picture uint8 (3, side, side)."""
    coarse = np.random.default_rng(seed).integers(1, 256, (side // 16, side // 16, 3), dtype=np.uint8)
    return np.moveaxis(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), -1, 0)


def geotiff(layers: np.ndarray) -> bytes:
    """The bytes of a GeoTIFF."""
    bands, height, width = layers.shape
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=bands, height=height, width=width, dtype="uint8", **PLACE) as file:
            file.write(layers)
        return bytes(memory.read())


def tile_numbers(side: int, seed: int) -> list[tuple[int, int, int]]:
    """Tiles at random places of the raster."""
    places = np.random.default_rng(seed).uniform(0, side * 0.2, (200, 2))
    xs, ys = transform("EPSG:25832", MERCATOR, (500_000 + places[:, 0]).tolist(), (5_400_000 - places[:, 1]).tolist())
    left, _, right, top = tile_bounds(0, 0, 0)
    width = (right - left) / (1 << ZOOM)
    return [(ZOOM, int((x - left) // width), int((top - y) // width)) for x, y in zip(xs, ys, strict=True)]


class Client(threading.Thread):
    """Asks until the time is over."""

    def __init__(self, port: int, number: int, until: float, side: int) -> None:
        super().__init__()
        self.port, self.number, self.until = port, number, until
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.kind = ("tiles", "map", "page", "map")[number % 4]
        self.body = geotiff(picture(512, number)) if self.kind == "map" else b""
        self.tiles = tile_numbers(side, number)
        self.places = np.random.default_rng(number).integers(0, side // TILE, (200, 2)).tolist()
        self.key = ""

    def run(self) -> None:
        turn = 0
        while time.monotonic() < self.until:
            began = time.monotonic()
            try:
                status, wait = self.ask(turn)
            except (OSError, http.client.HTTPException) as error:
                status, wait = type(error).__name__, 1.0
            self.statuses[str(status)] += 1
            if status == 200:
                self.seconds.append(time.monotonic() - began)
            time.sleep(wait)
            turn += 1

    def ask(self, turn: int) -> tuple[int, float]:
        """(status, seconds to wait)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            if self.kind == "map":
                connection.request("POST", "/map", self.body)
            elif self.kind == "page" and not self.key:
                said = json.dumps({"path": "scene.tif"})
                connection.request("POST", "/rasters", said, {"Content-Type": "application/json"})
            elif self.kind == "page":
                column, row = self.places[turn % len(self.places)]
                layer = "image" if turn % 2 else "map"
                connection.request("GET", f"/rasters/{self.key}/{layer}/0/{column}/{row}{'' if turn % 2 else '.png'}")
            else:
                zoom, column, row = self.tiles[turn % len(self.tiles)]
                connection.request("GET", f"/tiles/{zoom}/{column}/{row}.png")
            answer = connection.getresponse()
            content = answer.read()
            if self.kind == "page" and not self.key and answer.status == 200:
                self.key = json.loads(content)["key"]
            return answer.status, float(answer.getheader("Retry-After") or 0)
        finally:
            connection.close()


def main() -> None:
    """Start, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        scene, side = Path(folder) / "scene.tif", 4000
        scene.write_bytes(geotiff(picture(side, 0)))
        words = [sys.executable, "-m", "weakseg", "--root", folder, "serve"]
        words += ["--model", str(options.model.resolve()), "--tiles", str(scene)]
        environment = {**os.environ, "WEAKSEG_THREADS": "2", "OMP_NUM_THREADS": "2"}
        server = subprocess.Popen([*words, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL)
        try:
            watched = psutil.Process(server.pid)
            while True:
                try:
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
                    break
                except OSError:
                    time.sleep(0.2)
            idle, peak = watched.memory_info().rss, 0
            until = time.monotonic() + options.seconds
            clients = [Client(port, number, until, side) for number in range(options.clients)]
            for client in clients:
                client.start()
            while any(client.is_alive() for client in clients):
                peak = max(peak, watched.memory_info().rss)
                time.sleep(0.1)
        finally:
            server.terminate()
            try:
                server.wait(120)
            except subprocess.TimeoutExpired:  # on a machine that others keep busy
                server.kill()
    statuses: Counter[str] = sum((client.statuses for client in clients), Counter())
    kinds = {kind: [client for client in clients if client.kind == kind] for kind in ("map", "tiles", "page")}
    times = {name: np.array([s for c in some for s in c.seconds]) for name, some in kinds.items()}
    found = {
        "clients": options.clients,
        "seconds": options.seconds,
        "statuses": dict(statuses),
        "errors": sum(count for status, count in statuses.items() if status not in ("200", "503")),
        "median_seconds": {name: round(float(np.median(t)), 2) for name, t in times.items() if len(t)},
        "slowest_seconds": {name: round(float(t.max()), 2) for name, t in times.items() if len(t)},
        "memory_idle_mib": round(idle / 2**20),
        "memory_peak_mib": round(peak / 2**20),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
