"""Every kind of file on a disk that has room for a part of it: the old file stays whole, the error is one sentence."""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.faults import tally
from tests.faults.small_disks import PAGE, fill, small_disk

from weakseg.core.classes import ISPRS
from weakseg.core.config import save_yaml
from weakseg.core.errors import DataError, WeaksegError
from weakseg.core.files import append_line, atomic_path, write_text
from weakseg.core.refusals import refusal_of
from weakseg.data.store import save_array
from weakseg.labels.answer_file import AnswerFile
from weakseg.labels.answers import TagAnswer, now
from weakseg.labels.box_table import boxes_from_mask, write_boxes
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow
from weakseg.maps.cog import write_cog
from weakseg.maps.polygons import write_polygons
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import write_report
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_bands, write_raster
from weakseg.training.checkpoints import save_checkpoint

Writer = Callable[[Path, int], None]
"""(target, version) -> the file; versions 0 and 1 differ."""

_HELD = tempfile.TemporaryDirectory(prefix="weakseg-sources-")
SOURCES = _HELD.name  # what maps are made of, on another disk
ROOMS = 8  # drawn per writer, beside one page less than enough


def noise(version: int, *shape: int) -> Any:
    return np.random.default_rng(version).integers(0, 5, shape, np.uint8)


def write_map(target: Path, version: int) -> None:
    raster = Path(f"{SOURCES}/source-{version}.tif")
    if not raster.exists():
        write_raster(raster, noise(version, 300, 300, 3))
    write_bands(
        target, [noise(version, 1, 256, 300), noise(version, 1, 44, 300)], inspect_source(raster, None), names=["class"]
    )


def write_text_file(target: Path, version: int) -> None:
    write_text(target, "".join(f"{n}\n" for n in noise(version, 20_000)))


def write_cog_file(target: Path, version: int) -> None:
    raster = Path(f"{SOURCES}/cog-{version}.tif")
    if not raster.exists():
        write_raster(raster, noise(version, 600, 600))
    write_cog(raster, target, classes=True)


def write_vector(target: Path, version: int) -> None:
    """Polygons of a map in metres, whose classes are in blocks of 3 px."""
    raster = Path(f"{SOURCES}/map-{version}.tif")
    if not raster.exists():
        import rasterio

        blocks = np.repeat(np.repeat(noise(version, 40, 40), 3, 0), 3, 1)
        write_raster(raster, blocks, colours=ISPRS, tags={f"CLASS_{n}": name for n, name in enumerate(ISPRS.names)})
        with rasterio.open(raster, "r+") as file:
            file.crs, file.transform = "EPSG:25832", rasterio.Affine(1, 0, 500_000, 0, -1, 5_000_000)
    write_polygons(raster, target)


def write_picture(target: Path, version: int) -> None:
    from PIL import Image

    with atomic_path(target) as temporary:
        Image.fromarray(noise(version, 300, 300) * 50).save(temporary)


def write_tag_file(target: Path, version: int) -> None:
    rows = [
        TagWindow("a", row, column, 16, 16, (ISPRS.names[int(noise(version + row, 1)[0])],), ())
        for row in range(0, 800, 16)
        for column in range(0, 800, 16)
    ]
    write_tags(target, rows, ISPRS)


WRITERS: dict[str, Writer] = {
    "a.npy": lambda path, version: save_array(path.parent, "a", noise(version, 200, 200, 3)),
    "scores.npz": lambda path, version: save_scores(
        path, ScoreMaps(np.random.default_rng(version).random((5, 90, 90), np.float32), np.ones(5, bool))
    ),
    "model.pt": lambda path, version: save_checkpoint(path, {"weight": torch.full((50_000,), float(version))}),
    "plain.tif": lambda path, version: write_raster(path, noise(version, 250, 250, 3)),
    "packed.tif": lambda path, version: write_raster(path, noise(version, 600, 600, 3), compress=True),
    "mask.tif": lambda path, version: write_raster(path, noise(version, 300, 300), colours=ISPRS),
    "picture.png": lambda path, version: write_raster(path, noise(version, 300, 300, 3)),
    "map.tif": write_map,
    "cog.tif": write_cog_file,
    "polygons.gpkg": write_vector,
    "polygons.fgb": write_vector,
    "polygons.geojson": write_vector,
    "polygons.parquet": write_vector,
    "pillow.png": write_picture,
    "report.json": lambda path, version: write_report(path, {"rows": noise(version, 9000).tolist()}),
    "params.yaml": lambda path, version: save_yaml(path, {"rows": noise(version, 4000).tolist()}),
    "tags.csv": write_tag_file,
    "boxes.json": lambda path, version: write_boxes(
        path, boxes_from_mask("a", noise(version, 90, 90), ISPRS, ("car",), min_pixels=1), ISPRS, {"a": (90, 90)}
    ),
    "text.md": write_text_file,
}


@pytest.mark.faults
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_one_sentence(name: str, tmp_path: Path) -> None:
    write, free = WRITERS[name], tmp_path / "free"
    free.mkdir()
    wanted = []
    for version in (0, 1):
        write(free / name, version)
        wanted.append((free / name).read_bytes())
    assert wanted[0] != wanted[1]
    draw, size = random.Random(zlib.crc32(name.encode())), len(wanted[1])
    rooms = sorted({draw.randrange(0, size) // PAGE * PAGE for _ in range(ROOMS)} | {(size - 1) // PAGE * PAGE})
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        target = disk / "out" / name
        write(target, 0)
        old = contents(target.parent)
        for room in rooms:
            fill(disk, room)
            refused = attempt(write, target)
            tally.injected("disk without room for a file", int(refused))
            if not refused:  # it needed less than it is long, as no other file is there in the meantime
                assert same(target.read_bytes(), wanted[1], name)
            else:
                assert contents(target.parent) == old
            (disk / "filler").unlink()
            write(target, 1)
            assert same(target.read_bytes(), wanted[1], name), room
            write(target, 0)
            tally.survived("disk without room for a file", int(refused))
            old = contents(target.parent)
        fill(disk, 0)
        assert attempt(write, target)


def add_answer(file: Path, number: int) -> None:
    with AnswerFile(file, ISPRS) as answers:
        said = (ISPRS.names[:1], (), ())
        answers.add([TagAnswer(str(number), "t1", (0, 0, 16, 16), (64, 64), *said, "ann", now(), 1.0)])


ADDED: dict[str, Callable[[Path, int], None]] = {
    "answers.jsonl": add_answer,
    "promotions.jsonl": lambda file, number: append_line(file, json.dumps({"version": str(number), "why": "x" * 300})),
}
"""Name: (file, number) adds a line to it."""


@pytest.mark.faults
@pytest.mark.parametrize("name", ADDED)
def test_a_full_disk_leaves_no_half_line_in_a_file_that_grows(name: str, tmp_path: Path) -> None:
    """Lines are added until none fits; with room again the next ones follow whole ones."""
    add, kept = ADDED[name], []
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        file = disk / name
        add(file, 0)
        fill(disk, 2 * PAGE)
        while (told := sentence(add, file, len(kept) + 1)) == "":
            kept.append(len(kept) + 1)
        assert "room" in told
        assert "\n" not in told
        tally.injected("disk without room for a line")
        assert len(kept) > 5
        whole = [0, *kept]
        assert numbers(file) == whole
        (disk / "filler").unlink()
        add(file, 1000)
        assert numbers(file) == [*whole, 1000]
        tally.survived("disk without room for a line")


def sentence(add: Callable[[Path, int], None], file: Path, number: int) -> str:
    """What is said of a line that does not fit; "" where it does."""
    try:
        add(file, number)
    except (OSError, DataError) as error:
        return str(error if isinstance(error, DataError) else refusal_of(error))
    return ""


def numbers(file: Path) -> list[int]:
    """What the lines are numbered by; each is whole."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [int(row["id"] if "id" in row else row["version"]) for row in rows]


def attempt(write: Writer, target: Path) -> bool:
    """Whether the disk refused it; then in one sentence."""
    try:
        write(target, 1)
        return False
    except Exception as error:
        told = error if isinstance(error, WeaksegError) else refusal_of(error)
    assert told is not None, "no sentence"
    assert "\n" not in str(told)
    return True


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(found: bytes, wanted: bytes, name: str) -> bool:
    """GeoPackages and FlatGeobufs hold the time of writing, or are written by threads: their length must do."""
    return len(found) == len(wanted) if name.endswith((".gpkg", ".parquet")) else found == wanted
