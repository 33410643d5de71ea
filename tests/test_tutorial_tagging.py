"""docs/tutorial_tagging.md, run as it stands, by a scripted annotator in a browser: from no tag to a better map."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import rasterio
from tests.tagging.test_page import SPACE, Page

from weakseg.core.classes import ISPRS
from weakseg.evaluation.metrics import confusion_matrix, scores_of
from weakseg.raster.open import read_mask

ROOT = Path(__file__).parents[1]
BATCHES: Final = (300, 100)  # crops, as the page says


def commands() -> list[str]:
    """The lines of all blocks without a language."""
    text = (ROOT / "docs" / "tutorial_tagging.md").read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [line for language, block in found if not language for line in block.splitlines()]


def opens_a_page(line: str) -> bool:
    """Whether the command serves crops until somebody ends it."""
    return line.startswith("weakseg tag") and "--merge" not in line


class Shell:
    """Runs lines one after the other; ``cd`` lasts."""

    def __init__(self, place: Path) -> None:
        self.place, self.said = place, ""
        who = {f"GIT_{role}_{key}": f"{key}@x" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        self.environment = (
            os.environ
            | who
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "src"),
                "WEAKSEG_TRACKING": "off",
            }
        )

    def run(self, line: str) -> None:
        if line.startswith("cd "):
            self.place = (self.place / line.removeprefix("cd ")).resolve()
            return
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=3600
        )
        assert done.returncode == 0, f"{line}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
        self.said += f"$ {line}\n{done.stdout}"

    def serve(self, line: str, use: Callable[[str], None]) -> None:
        """Start a page, hand its address to ``use``, and end it as Ctrl-C does."""
        words = [*line.split(), "--port", "0"]
        with subprocess.Popen(
            words,
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what a shell starts by & ignores it
        ) as server:
            try:
                assert server.stdout is not None
                use(server.stdout.readline().strip())
                server.send_signal(signal.SIGINT)
                assert server.wait(60) == 0
            finally:
                server.kill()


def tag_by_truth(browser: Any, address: str, count: int, truth: Path) -> float:
    """Tag so many crops by keyboard as a person who sees everything would; returns the seconds of it."""
    page = Page(browser, address)
    masks: dict[str, Any] = {}
    began = time.monotonic()
    for _ in range(count):
        area, (row, column, height, width) = page.crop()
        mask = masks.setdefault(area, read_mask(truth / f"{area}.tif", ISPRS))
        here = set(np.unique(mask[row : row + height, column : column + width]).tolist())
        asked = [ISPRS.index(name) for name in page.run("return current.crops[0].asks")]
        states = page.states()
        wanted = [index for index in asked if (states[index] == "+") != (index in here)]
        page.press("".join(str(index + 1) for index in wanted) + SPACE)
    return time.monotonic() - began


def miou_of_maps(maps: Path, truth: Path, tagged: set[str]) -> float:
    """Of the maps of the tagged images, whose truth nobody on the page knows."""
    found = np.zeros((len(ISPRS), len(ISPRS)), np.int64)
    for area in tagged:
        with rasterio.open(maps / f"{area}.tif") as file:
            found += confusion_matrix(read_mask(truth / f"{area}.tif", ISPRS), file.read(1), len(ISPRS))
    return float(scores_of(found, ISPRS.names)["miou"])


def miou_of(said: str) -> list[tuple[float, float]]:
    """(task i, task ii) of each comparison, in order."""
    return [(float(a), float(b)) for a, b in re.findall(r"^mIoU +(\S+) +(\S+) ", said, flags=re.MULTILINE)]


@pytest.mark.slow
def test_a_stranger_tags_trains_asks_and_tags_again(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    shell, batches, maps = Shell(tmp_path), iter(BATCHES), list[float]()
    thirty, labels = tmp_path / "work" / "thirty", tmp_path / "truth" / "data" / "labels"
    shell.run(f"{sys.executable} -m weakseg --root truth data synth")
    for line in commands():
        if opens_a_page(line):
            count = next(batches)
            shell.serve(line, lambda address, n=count: tag_by_truth(browser, address, n, labels))
        else:
            shell.run(line)
        if line.startswith("weakseg predict ../thirty/images"):
            plain = line.partition(" --tags")[0].replace("thirty/maps", "thirty/plain")
            shell.run(plain)
            tagged = {row.split(",")[0] for row in (shell.place / "data/tags/tags.csv").read_text().splitlines()[1:]}
            maps += [miou_of_maps(thirty / folder, labels, tagged) for folder in ("plain", "maps")]
    print(shell.said)
    workspace = tmp_path / "work" / "tagging"
    rows = (workspace / "data" / "tags" / "tags.csv").read_text().splitlines()[1:]
    assert len(rows) == sum(BATCHES)
    first, second = miou_of(shell.said)
    assert first[1] > first[0], shell.said  # task (ii) beats task (i)
    assert second[1] > second[0], shell.said
    assert re.search(r"^- crops: 100 added, 0 removed, 0 changed$", shell.said, flags=re.MULTILINE)
    assert re.search(r"^- work: Ana 100 answers about 100 crops in ", shell.said, flags=re.MULTILINE)
    assert re.search(
        r"^\| task \(ii\): consistency with tags \| 0\.\d+ \| 0\.\d+ \| [+-]", shell.said, flags=re.MULTILINE
    )
    print(f"maps of the tagged images: without tags and held, after 300 and 400: {maps}")
    assert maps[0] < maps[1] < maps[3], "each batch of tags mends the map of the images it is of"
    assert maps[2] == maps[0], "the same network"
    assert (thirty / "map.tif").is_file()
