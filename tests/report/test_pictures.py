"""Worst crops by hand, and the files of evaluate's pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.core.classes import ClassScheme
from weakseg.data.areas import Area
from weakseg.report.pictures import WorstCrop, worst_crops, write_pictures
from weakseg.report.safe_colours import safe_scheme

SCHEME = ClassScheme(("road", "tree", "car"), ((0, 0, 0), (0, 255, 0), (255, 255, 0)))


@pytest.fixture
def truth() -> dict[str, np.ndarray]:
    """Two areas of 10 x 12 and 4 x 4 px, all road."""
    return {"a": np.zeros((10, 12), np.uint8), "b": np.zeros((4, 4), np.uint8)}


def test_worst_crops_by_hand(truth: dict[str, np.ndarray]) -> None:
    guess = {name: mask.copy() for name, mask in truth.items()}
    guess["a"][:4, 8:12] = 1  # all of the crop at column 8
    guess["a"][4, 4] = 2  # 1 of 16 px
    guess["a"][9, :] = 1  # in the strip below the last whole crop
    guess["b"][0, :2] = 2  # 2 of 16 px
    found = worst_crops(truth, guess, SCHEME, side=4, count=4)
    assert found[:3] == [
        WorstCrop("a", 0, 8, 4, 1.0, "road", "tree"),
        WorstCrop("b", 0, 0, 4, 0.125, "road", "car"),
        WorstCrop("a", 4, 4, 4, 0.0625, "road", "car"),
    ]
    assert (found[3].error, found[3].truth, found[3].taken_for) == (0.0, "", "")


def test_unlabelled_pixels_are_no_error_and_thin_crops_are_left_out(truth: dict[str, np.ndarray]) -> None:
    guess = {name: mask.copy() for name, mask in truth.items()}
    guess["a"][:4, :4] = 1
    truth["a"][:2, :4] = 255  # half is labelled: counts
    assert worst_crops(truth, guess, SCHEME, side=4)[0] == WorstCrop("a", 0, 0, 4, 1.0, "road", "tree")
    truth["a"][2, 0] = 255  # less than half
    assert max(crop.error for crop in worst_crops(truth, guess, SCHEME, side=4)) == 0


def test_areas_smaller_than_a_crop_are_one_crop(truth: dict[str, np.ndarray]) -> None:
    found = worst_crops(truth, truth, SCHEME, side=50)
    assert [(crop.area, crop.side) for crop in found] == [("a", 10), ("b", 4)]


@pytest.mark.parametrize("shared", [True, False])
def test_files(tmp_path: Path, truth: dict[str, np.ndarray], shared: bool) -> None:
    areas = {name: Area(np.full((*mask.shape, 3), 90, np.uint8), mask) for name, mask in truth.items()}
    guess = {name: np.where(np.arange(mask.shape[1]) < 3, 2, mask).astype(np.uint8) for name, mask in truth.items()}
    write_pictures(tmp_path, areas, guess, SCHEME, side=4, shared=shared)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    crops = {f"worst/{n}-{kind}" for n in range(6) for kind in ("image.jpg", "truth.png", "map.png")}
    once = {"images/a.jpg", "images/b.jpg", "truth/a.png", "truth/b.png"} if shared else set()
    assert found == crops | once | {"worst.json", "maps/a.png", "maps/b.png"}
    colours = np.asarray(Image.open(io.BytesIO((tmp_path / "maps" / "a.png").read_bytes())).convert("RGB"))
    assert (colours == safe_scheme(SCHEME).to_colours(guess["a"])).all()
    worst = json.loads((tmp_path / "worst.json").read_text())
    assert worst[0] == {
        **{"area": "a", "row": 0, "column": 0, "side": 4, "error": 0.75, "truth": "road", "taken_for": "car"}
    }
    crop = np.asarray(Image.open(tmp_path / "worst" / "0-map.png").convert("RGB"))
    assert (crop == colours[:4, :4]).all()
