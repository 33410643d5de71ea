"""Predict, serve, tag and train in turn for a given time: do memory, open files, spool or database grow?

    python benchmarks/soak.py WORKSPACE MODEL [--minutes 240] [--clients 4]

WORKSPACE is copied; MODEL is a model file of it. One `weakseg serve` answers CLIENTS all the time. Beside it one
process that lives as long as the run does, in turn: a map of a raster (`predict_rasters`), answers of `weakseg tag`
into its file, and a stage that is tracked (`pseudo`), whose journal is sent to a database. Every round notes memory and
open files of both processes, what waits in the spool, and the size of the database. Growth is that of the median of the
last quarter of the rounds over the median of the second one: the first quarter fills caches.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client(threading.Thread):
    """Posts the picture to /map until told to end; counts answers by status."""

    def __init__(self, port: int, body: bytes) -> None:
        super().__init__(daemon=True)
        self.port, self.body, self.ended = port, body, threading.Event()
        self.statuses: dict[str, int] = {}

    def run(self) -> None:
        while not self.ended.is_set():
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}/map", self.body, method="POST")
            request.add_header("Content-Type", "image/tiff")
            try:
                with urllib.request.urlopen(request, timeout=120) as reply:
                    reply.read()
                    status = str(reply.status)
            except urllib.error.HTTPError as error:
                status = str(error.code)
                self.ended.wait(1)
            except OSError as error:
                status = type(error).__name__
                self.ended.wait(1)
            self.statuses[status] = self.statuses.get(status, 0) + 1


class Worker:
    """The process that predicts, tags and trains; all in the workspace ``root``."""

    def __init__(self, root: Path, model: Path) -> None:
        from weakseg.core.classes import load_classes
        from weakseg.labels.answer_file import AnswerFile

        self.root, self.model, self.number = root, model, 0
        self.scheme = load_classes(root / "data" / "classes.yaml")
        self.images = sorted((root / "data" / "images").glob("*.tif"))
        self.answers = AnswerFile(root / "tagging" / "answers.jsonl", self.scheme)

    def turn(self) -> None:
        self._predict()
        self._tag()
        self._train()
        self.number += 1

    def _predict(self) -> None:
        from weakseg.inference.options import Options
        from weakseg.inference.predict import predict_rasters
        from weakseg.training.machine import machine_from_environment

        source = self.images[self.number % len(self.images)]
        place = self.root / "maps" / "map.tif"
        predict_rasters(self.model, str(source), place, options=Options(), machine=machine_from_environment())

    def _tag(self) -> None:
        from weakseg.labels.answers import TagAnswer, now

        names = self.scheme.object_names
        for index in range(50):
            crop = (self.images[0].stem, (0, 0, 16, 16), (64, 64))
            said = (names[:1], names[1:], ())
            key = f"{self.number}-{index}"
            self.answers.add([TagAnswer(key, *crop, *said, "soak", now(), 1.0, "crop", "", {}, "")])

    def _train(self) -> None:
        from weakseg.stages import run_stage
        from weakseg.tracking import send_spool

        run_stage(self.root, "pseudo", "cam")
        send_spool(self.root)


def measure(server: psutil.Process, root: Path) -> dict[str, float]:
    own, spool, database = psutil.Process(), root / ".weakseg" / "spool", root / "mlflow.db"
    return {
        "server MiB": server.memory_info().rss / 2**20,
        "server files": server.num_fds(),
        "worker MiB": own.memory_info().rss / 2**20,
        "worker files": own.num_fds(),
        "spool KiB": sum(file.stat().st_size for file in spool.rglob("*") if file.is_file()) / 2**10,
        "database KiB": database.stat().st_size / 2**10 if database.exists() else 0.0,
    }


def soak(workspace: Path, model: Path, minutes: float, clients: int) -> dict[str, Any]:
    """Run it and return rounds, statuses and, per number, (median of the second quarter, of the last)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(workspace, Path(folder) / "w", symlinks=True))
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db", "WEAKSEG_TRACKING": "spool"}
        port = free_port()
        command = [sys.executable, "-m", "weakseg", "serve", "--model", str(model), "--port", str(port)]
        with (root / "serve.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        asking: list[Client] = []
        try:
            _await(port)
            worker = Worker(root, model)
            asking = [Client(port, worker.images[0].read_bytes()) for _ in range(clients)]
            for client in asking:
                client.start()
            rows, until = [], time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                worker.turn()
                rows.append(measure(psutil.Process(process.pid), root))
        finally:
            for client in asking:
                client.ended.set()
            process.terminate()
            process.wait()
        statuses: dict[str, int] = {}
        for client in asking:
            for status, count in client.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
    quarter = max(1, len(rows) // 4)
    growth = {
        name: [statistics.median(row[name] for row in part) for part in (rows[quarter : 2 * quarter], rows[-quarter:])]
        for name in rows[0]
    }
    return {"minutes": minutes, "rounds": len(rows), "answers": statuses, "growth": growth}


def _await(port: int) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server does not come up")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=240.0)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    found = soak(options.workspace, options.model.resolve(), options.minutes, options.clients)
    print(json.dumps({key: value for key, value in found.items() if key != "growth"}))
    for name, (before, after) in found["growth"].items():
        print(f"{name}: {before:,.1f} to {after:,.1f} ({after / before - 1 if before else 0.0:+.1%})")


if __name__ == "__main__":
    main()
