"""Claim: `weakseg predict` takes 1/2.5 of the CPU time of an older build on processors with bf16, 1/1.4 on AVX2.

    python benchmarks/builds.py MODEL IMAGE --old OLD/src [--size 2944] [--repeats 3] [--ways auto-auto]

The older tree (`git archive COMMIT src | tar x -C OLD`; issue 25 was filed at c68c383, before engines) and this one in
processes of their own, one thread, the same model file and raster (an image repeated to a side of ``--size``), the
windows of `weakseg predict` (512 px). In turn, by CPU time: from file to file, the map alone, with the model open; in
memory, from an array to an array; and the whole command, start of Python, of torch and of the engine included
(``--commands``). Ratios are of the best times, and the median of the ratios within a repeat. Maps are compared with
the older tree's. ``auto-auto`` is what a user gets who says nothing. Exit code 1 if a float32 map has another class on
more than one pixel of 100,000.

As the processor is, and with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2. OpenVINO's convolutions keep to the
second; of what else it compiles nobody promises that, so ``--layers`` prints which code ran how long.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "WEAKSEG_THREADS": "1", "WEAKSEG_TRACKING": "off", "WEAKSEG_DEVICE": "cpu"}
os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}  # for both builds

import numpy as np

OLD = "older build"
TREE = str(Path(__file__).parents[1] / "src")


class Build:
    """A process of one tree that predicts when it is asked to."""

    def __init__(self, name: str, tree: str, model: Path, folder: Path) -> None:
        self.name, self.tree, self.model, self.folder = name, tree, model, folder
        self.environment = os.environ | {"PYTHONPATH": tree}
        command = [sys.executable, "-W", "ignore", __file__, str(model), str(folder / "in.tif"), "--inside", name]
        self.process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, what: str) -> dict[str, Any]:
        """CPU seconds and what is said of ``what``; the map lies in the folder."""
        if what == "command":
            return self._command()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended at {what}")

    def _command(self) -> dict[str, Any]:
        target = map_file(self.folder, self.name, "command")
        target.unlink(missing_ok=True)
        words = [sys.executable, "-W", "ignore", "-m", "weakseg", "predict", str(self.folder / "in.tif"), str(target)]
        words += ["--model", str(self.model)]
        if self.name != OLD:
            engine, precision = self.name.split("-")
            words += ["--engine", engine, "--precision", precision]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "said": ""}


def map_file(folder: Path, name: str, what: str) -> Path:
    """Where a build writes its map."""
    return folder / f"{name.replace(' ', '_')}.{what}.tif"


def inside(model: Path, source: Path, name: str) -> None:
    """In the process: a line of JSON for each line that comes in."""
    import rasterio
    import torch

    from weakseg.inference.allocation import keep_buffers
    from weakseg.inference.model import load_predictor
    from weakseg.inference.options import Options
    from weakseg.inference.predict import predict, run_predictor
    from weakseg.inference.scene import PLAIN
    from weakseg.raster.stream import inspect_source
    from weakseg.training.machine import Machine

    torch.set_num_threads(1)
    keep_buffers()
    machine = Machine(device="cpu", quiet=True)
    if name == OLD:
        predictor = load_predictor(model, PLAIN, machine)
    else:
        engine, precision = name.split("-")
        predictor = load_predictor(model, PLAIN, machine.at_precision(precision), engine=engine)  # type: ignore[arg-type, call-arg]
    with rasterio.open(source) as file:
        image = np.ascontiguousarray(np.moveaxis(file.read(), 0, -1))
    for line in sys.stdin:
        what = line.strip()
        target, said = map_file(source.parent, name, what), ""
        target.unlink(missing_ok=True)
        began = time.process_time()
        if what == "file":
            done = run_predictor(predictor, inspect_source(source, None), target, Options(512, 0.25, 4), gsd="ignore")
            spent = time.process_time() - began
            choice = getattr(done, "engine", None)
            said = "" if choice is None else "; ".join(filter(None, [str(choice), choice.parity, choice.why]))
        else:
            found = predict(predictor, image, gsd="ignore")
            spent = time.process_time() - began
            with rasterio.open(target, "w", driver="GTiff", count=1, dtype="uint8", **sides(found)) as file:
                file.write(found, 1)
        print(json.dumps({"cpu": spent, "said": said}), flush=True)


def sides(image: np.ndarray) -> dict[str, int]:
    """Of a raster."""
    return {"height": image.shape[0], "width": image.shape[1]}


def layers(model: Path, source: Path) -> None:
    """Print what OpenVINO in float32 spends its time on, by kind of layer and of code, and what torch does."""
    import openvino
    import rasterio
    import torch

    from weakseg.data.crops.augment import normalise
    from weakseg.inference.engine import network_bytes, openvino_settings
    from weakseg.networks.portable import ExportNet, write_onnx
    from weakseg.training.segmenter import load_segmenter

    torch.set_num_threads(1)
    network = load_segmenter(model)[0].eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with rasterio.open(source) as file:
        pixels = torch.from_numpy(file.read()[None, :, :512, :512])
    images = normalise(pixels, network.preprocessing)
    with torch.inference_mode(), torch.profiler.profile() as profile:
        for _ in range(8):
            network(images)
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))
    core = openvino.Core()
    known = core.read_model(network_bytes(lambda file: write_onnx(ExportNet(network).eval(), file)))
    known.reshape([1, *images.shape[1:]])
    settings = {**openvino_settings("float32", 1), "PERF_COUNT": True}
    request = core.compile_model(known, "CPU", settings).create_infer_request()
    spent: Counter[tuple[str, str]] = Counter()
    for turn in range(9):
        request.infer({"image": images.numpy()})
        for layer in request.profiling_info if turn else ():
            spent[layer.node_type, layer.exec_type] += layer.real_time.total_seconds() / 8  # type: ignore[assignment]
    print("| OpenVINO, layer | code | ms per window of 512 px |\n| --- | --- | --- |")
    for (kind, code), seconds in spent.most_common(12):
        print(f"| {kind} | {code} | {1000 * seconds:.2f} |")
    print(f"| all | | {1000 * sum(spent.values()):.2f} |")


def compare(given: argparse.Namespace, source: Path) -> int:
    """Print a row per way; 1 where a map is another."""
    import rasterio

    folder, whats = source.parent, ["file", "memory", *["command"] * given.commands]
    builds = [Build(OLD, given.old, given.model, folder)]
    builds += [Build(name, TREE, given.model, folder) for name in given.ways]
    spent: dict[tuple[str, str], list[float]] = {}
    said: dict[str, str] = {}
    for turn in range(given.repeats + 1):
        for what in whats:
            for build in builds:
                if turn == 0 and what == "command":
                    continue  # nothing to warm
                answer = build.ask(what)
                said[build.name] = answer["said"] or said.get(build.name, "")
                if turn:  # the first run starts the engine
                    spent.setdefault((build.name, what), []).append(answer["cpu"])
    for build in builds:
        build.process.communicate()
    print(f"{given.size} x {given.size} px, one thread, best of {given.repeats}\n")
    print(
        "| build | " + " | ".join(f"{what}: CPU s, older over it, median, same class" for what in whats) + " | engine |"
    )
    print("| --- " * (len(whats) + 2) + "|")
    good = True
    for build in builds:
        cells = []
        for what in whats:
            maps = []
            for name in (OLD, build.name):
                with rasterio.open(map_file(folder, name, what)) as file:
                    maps.append(file.read(1))
            same = float((maps[0] == maps[1]).mean())
            good &= same >= 0.99999 or not build.name.endswith("float32")
            ours, before = (np.array(spent[key, what]) for key in (build.name, OLD))
            ratios = f"{before.min() / ours.min():.2f}, {np.median(before / ours):.2f}"
            cells.append(f"{ours.min():.2f}, {ratios}, {same:.4%}")
        print(f"| {build.name} | {' | '.join(cells)} | {said[build.name]} |")
    return int(not good)


def main() -> int:
    """As the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--old", default="", help="src of the older tree")
    parser.add_argument("--size", type=int, default=2944)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=["torch-float32", "openvino-float32", "openvino-bf16"])
    parser.add_argument("--commands", action="store_true", help="the whole command too")
    parser.add_argument("--layers", action="store_true", help="only: what the network's time goes into")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(given.model.resolve(), given.image, given.inside)
        return 0
    if not given.old and not given.layers:
        parser.error("--old: the src folder of an older tree")
    import cv2

    from weakseg.raster.write import write_raster

    image = cv2.imread(str(given.image), cv2.IMREAD_COLOR_RGB)
    times = -(-given.size // min(image.shape[:2]))
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.tif"
        image = np.ascontiguousarray(np.tile(image, (times, times, 1))[: given.size, : given.size])
        write_raster(source, image, compress=True)
        if given.layers:
            layers(given.model, source)
            return 0
        given.model, given.old = given.model.resolve(), str(Path(given.old).resolve())
        return compare(given, source)


if __name__ == "__main__":
    sys.exit(main())
