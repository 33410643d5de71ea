"""All weak-label stages on five bands of 16 bits, red, green, blue, infrared and heights; one area has no heights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.slim import slim

from weakseg.core.bands import Bands, known_band, load_bands
from weakseg.core.classes import ISPRS
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.data.store import open_array
from weakseg.methods.scores import load_scores
from weakseg.raster.open import read_image, read_mask
from weakseg.raster.write import write_raster
from weakseg.training.checkpoints import load_checkpoint
from weakseg.training.segmenter import load_segmenter

PLAN = (
    *(("tiles", ""), ("classifier", ""), ("cam", ""), ("crf", ""), ("irnet", ""), ("single_stage", "")),
    *(("segment", "pixel"), ("teacher", ""), ("fused", ""), ("pseudo", "fused"), ("audit", "fused")),
    *(("segment", "fused"), ("segment", "consistency"), ("evaluate", "pixel")),
)
NODATA, RISE = 65535, (0, 900, 0, 500, 150)  # cm above ground, by class
OPTICAL: dict[str, Any] = {"dtype": "uint16", "low": 0, "high": 10200}
BANDS = Bands(
    (
        *(known_band(name, **OPTICAL) for name in ("red", "green", "blue")),
        known_band("nir", **OPTICAL),
        known_band("height", dtype="uint16", unit="cm", low=0, high=1000, nodata=NODATA),
    ),
    {"t2": ("height",)},
)


def widen(root: Path) -> None:
    """Turn the pictures of a tiny workspace into five bands of 16 bits; t2 has no heights, p1 a hole."""
    for path in sorted((root / "data" / "images").iterdir()):
        picture, mask = read_image(path), read_mask(root / "data" / "labels" / path.name, ISPRS)
        rise = np.array([*RISE, *[0] * 251], np.uint16)[mask]
        if path.stem == "p1":
            rise[:4, :4] = NODATA
        if path.stem == "t2":
            rise[:] = NODATA
        infrared = np.where((mask == 2) | (mask == 3), 8000, 2000).astype(np.uint16)
        layers = [picture.astype(np.uint16) * 40, infrared[..., None], rise[..., None]]
        write_raster(path, np.concatenate(layers, axis=2))
    BANDS.save(root / "data" / "bands.yaml")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    root = make_workspace(tmp_path_factory.mktemp("five"))
    widen(root)
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["tiles"]["scale"] = 0.75
    slim(raw)
    raw["segment"]["augment"]["drop_band"] = 0.5
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)
    return Layout(root)


def test_tiles_keep_the_depth_and_fill_holes_with_the_mean_of_n1(done: Layout) -> None:
    bands = load_bands(done.tiles)
    assert bands.names == ("red", "green", "blue", "nir", "height")
    heights = bands.members[4].statistics
    assert heights is not None
    raw = [np.array(RISE)[read_mask(done.labels / f"{a}.tif", ISPRS).clip(0, 4) % 255] for a in ("p1", "p2")]
    masks = [read_mask(done.labels / f"{a}.tif", ISPRS) for a in ("p1", "p2")]
    values = [np.where(mask == 255, 0, rise).astype(float) for mask, rise in zip(masks, raw, strict=True)]
    values[0][:4, :4] = np.nan
    assert heights.mean == pytest.approx(np.nanmean(values))
    assert heights.std == pytest.approx(np.nanstd(values))
    image = open_array(done.tiles / "images", "t2")
    assert (image.dtype, image.shape) == (np.uint16, (48, 48, 5))
    assert np.unique(image[..., 4]).tolist() == [round(heights.mean)]
    assert open_array(done.tiles / "images", "p1")[0, 0, 4] == round(heights.mean)
    assert isinstance(open_array(done.tiles / "images", "p1"), np.memmap)


@pytest.mark.parametrize("method", ["cam", "crf", "irnet", "single_stage", "teacher", "fused"])
def test_every_method_scores_five_bands(done: Layout, method: str) -> None:
    for area in ("p1", "t1", "t2"):
        scores = load_scores(done.scores(method) / f"{area}.npz").scores
        assert scores.shape == (5, 48, 48)
        assert np.isfinite(scores).all()
        assert scores.any()


def test_a_model_file_says_its_bands_and_opens_by_them(done: Layout) -> None:
    file = done.checkpoints("pixel") / "seed0.pt"
    model, content = load_segmenter(file)
    assert content["bands"] == load_bands(done.tiles).content()
    assert load_checkpoint(file)["weights"]["net.encoder.stages.0.0.weight"].shape[1] == 5
    image = torch.from_numpy(np.array(open_array(done.tiles / "images", "p1"))).permute(2, 0, 1)[None]
    assert len(model.preprocessing.mean) == 5
    assert image.dtype == torch.uint16


def test_areas_without_a_band_need_band_dropout(workspace: Path) -> None:
    widen(workspace)
    import_module("weakseg.stages.tiles").run(workspace)
    with pytest.raises(StageError, match=r"t2 lacks height.*segment\.augment\.drop_band"):
        import_module("weakseg.stages.segment").run(workspace, "pixel")
