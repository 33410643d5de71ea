"""One band of floats, and sixteen of int16, from tiles to a map: networks, jitter, dense CRF, PAMR, exports."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from tests.slim import slim

from weakseg.core.bands import Bands, known_band, load_bands
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.data.store import open_array
from weakseg.export.model_files import export_onnx
from weakseg.inference.model import load_predictor
from weakseg.inference.predict import predict
from weakseg.inference.scene import PLAIN
from weakseg.methods.scores import load_scores
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster
from weakseg.training.machine import Machine

FEWER = {"steps": 2, "batch": 2, "report_every": 2}
CPU = Machine(device="cpu", precision="no", quiet=True)
PLAN = (
    *(("tiles", ""), ("classifier", ""), ("cam", ""), ("crf", ""), ("single_stage", ""), ("segment", "pixel")),
    *(("teacher", ""), ("evaluate", "pixel")),
)


def rewrite(root: Path, count: int, dtype: str) -> Bands:
    """Pictures of as many bands, mixed of the tiny workspace's three; below 0 where the dtype can be."""
    members = [known_band(name, dtype=dtype, low=-500, high=500) for name in ("red", "green", "blue", "nir")]
    members += [known_band(f"b{number}", dtype=dtype, low=-500, high=500) for number in range(5, 17)]
    bands = Bands(tuple([known_band("pan", dtype=dtype, low=-500, high=500)] if count == 1 else members[:count]))
    mix = np.random.default_rng(0).dirichlet(np.ones(3), count) * 4
    for path in sorted((root / "data" / "images").iterdir()):
        values = read_image(path).astype(np.float32) @ mix.T.astype(np.float32) - 500
        write_raster(path, values.astype(dtype))
    bands.save(root / "data" / "bands.yaml")
    return bands


def slimmer(root: Path) -> None:
    path = root / "params.yaml"
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    slim(raw)
    raw["cam"]["flips"] = False
    for section in ("classifier", "single_stage"):
        raw[section]["optimiser"] |= FEWER
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def run(root: Path, *stages: tuple[str, str]) -> None:
    for stage, source in stages:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)


@pytest.mark.parametrize(("count", "dtype"), [(1, "float32"), (16, "int16")])
def test_stages_take_one_band_and_sixteen(count: int, dtype: str, workspace: Path) -> None:
    bands, layout = rewrite(workspace, count, dtype), Layout(workspace)
    slimmer(workspace)
    run(workspace, *PLAN)
    tile = open_array(layout.tiles / "images", "t1")
    assert isinstance(tile, np.memmap)
    assert (tile.dtype, tile.shape[2]) == (np.dtype(dtype), count)
    assert tile.min() < 0
    known = load_bands(layout.tiles)
    assert known.names == bands.names
    assert all(band.statistics is not None for band in known.members)
    for method in ("cam", "crf", "single_stage", "teacher"):
        assert np.isfinite(load_scores(layout.scores(method) / "t1.npz").scores).all()
    check_maps(layout, count)


def check_maps(layout: Layout, count: int) -> None:
    """Model file and ONNX file give the same classes of a raster, and of its pixels."""
    file, image = layout.checkpoints("pixel") / "seed0.pt", layout.images / "v1.tif"
    export_onnx(file, layout.root / "m.onnx")
    maps = [predict(load_predictor(path, PLAIN, CPU), image, window=48) for path in (file, layout.root / "m.onnx")]
    with rasterio.open(image) as raster:
        pixels = np.moveaxis(raster.read(), 0, -1)
    assert pixels.shape[2] == count
    np.testing.assert_array_equal(predict(load_predictor(file, PLAIN, CPU), pixels, window=48), maps[0])
    assert (maps[0] == maps[1]).mean() > 0.99


def test_areas_that_lack_infrared_train_and_are_mapped_beside_others(workspace: Path) -> None:
    """Heights are in test_five_bands."""
    bands = rewrite(workspace, 4, "int16")
    members = (*bands.members[:3], replace(bands.members[3], drop=True))
    Bands(members, {"t1": ("nir",), "v1": ("nir",)}).save(workspace / "data" / "bands.yaml")
    run(workspace, ("tiles", ""))
    with pytest.raises(StageError, match=r"t1 lacks nir \(2 areas lack some\).*drop_band"):
        run(workspace, ("segment", "pixel"))
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["segment"]["augment"]["drop_band"] = 0.5
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    run(workspace, ("segment", "pixel"), ("teacher", ""), ("segment", "consistency"), ("evaluate", "consistency"))
    layout = Layout(workspace)
    mean = load_bands(layout.tiles).fill_value(3)
    for folder, area in ((layout.tiles, "t1"), (layout.validation, "v1")):
        assert np.unique(open_array(folder / "images", area)[..., 3]).tolist() == [mean]
    assert len(np.unique(open_array(layout.tiles / "images", "t2")[..., 3])) > 9
    assert np.isfinite(load_scores(layout.scores("teacher") / "t1.npz").scores).all()


def test_bands_that_no_area_of_n1_has_are_refused(workspace: Path) -> None:
    bands = rewrite(workspace, 4, "int16")
    members = (*bands.members[:3], known_band("height", dtype="int16"))
    Bands(members, {"p1": ("height",), "p2": ("height",)}).save(workspace / "data" / "bands.yaml")
    with pytest.raises(DataError, match=r"no value of band height.*areas of N1 that have every band"):
        run(workspace, ("tiles", ""))
