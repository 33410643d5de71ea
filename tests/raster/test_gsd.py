"""The ground sampling distance: from the training rasters through the model file to what predict does with it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from tests.inference.one_raster import predict_raster

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.options import choose_scale
from weakseg.inference.scene import PLAIN
from weakseg.pipeline.context import open_context
from weakseg.raster.gsd import common_gsd, load_gsd, save_gsd
from weakseg.raster.header import RasterInfo
from weakseg.raster.open import read_image
from weakseg.raster.stream import inspect_source, raster_gsd
from weakseg.raster.write import write_raster
from weakseg.stages import tiles
from weakseg.stages.segment import save_segmenter
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.machine import Machine
from weakseg.training.segmenter import segmenter_of

UTM_SCALE = 0.9996  # of UTM at its central meridian; the rasters here lie 3 km beside it
CPU = Machine(device="cpu", precision="no", quiet=True)


def place(
    path: Path,
    image: np.ndarray,
    gsd: float,
    crs: str | None = "EPSG:25832",
    origin: tuple[int, int] = (497000, 5420000),
) -> Path:
    """Write an image turned by some degrees on the ground, with ``gsd`` units of its CRS per px."""
    turned = rasterio.Affine.translation(*origin) @ rasterio.Affine.rotation(20) @ rasterio.Affine.scale(gsd)
    wkt = rasterio.crs.CRS.from_string(crs).to_wkt() if crs else None
    height, width = image.shape[:2]
    write_raster(path, image, RasterInfo(height, width, 3, "uint8", wkt, tuple(turned)[:6]))
    return path


def test_rasters_share_a_distance_or_have_none(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    near, far = place(tmp_path / "a.tif", image, 0.09), place(tmp_path / "b.tif", image, 0.092)
    feet = place(tmp_path / "c.tif", image, 0.3, crs="EPSG:2263", origin=(984250, 200000))  # US survey feet
    assert common_gsd([near, far]) == pytest.approx(0.091 / UTM_SCALE, rel=1e-6)
    assert common_gsd([feet]) == pytest.approx(0.3 * 0.3048006096, rel=1e-4)
    assert common_gsd([near, feet]) == pytest.approx(0.0907, abs=1e-3)
    assert common_gsd([near, place(tmp_path / "d.tif", image, 0.1)]) is None
    assert common_gsd([near, place(tmp_path / "e.tif", image, 0.09, crs=None)]) is None
    with pytest.raises(DataError, match=r"f\.tif: its corner at 497000, 5420000 .* in EPSG:4326; expected degrees"):
        common_gsd([near, place(tmp_path / "f.tif", image, 0.09, crs="EPSG:4326")])
    assert common_gsd([]) is None
    nowhere = place(tmp_path / "g.tif", image, 1, crs=None)
    assert common_gsd([nowhere, tmp_path / "not opened.tif"]) is None  # one settles it, of 100,000


def test_what_is_unknown_is_not_written(tmp_path: Path) -> None:
    save_gsd(tmp_path, None)
    assert not list(tmp_path.iterdir())
    assert load_gsd(tmp_path) is None
    save_gsd(tmp_path, 0.25)
    assert load_gsd(tmp_path) == 0.25


def test_it_travels_in_the_model_file_and_predict_obeys_it(workspace: Path) -> None:
    for path in sorted((workspace / "data" / "images").iterdir()):
        place(path, read_image(path), 0.2)
    tiles.run(workspace)
    context, file = open_context(workspace), workspace / "model.pt"
    save_segmenter(file, segmenter_of(context.params.segment.network, 5), context)
    assert load_checkpoint(file)["gsd"] == pytest.approx(0.2 / UTM_SCALE, rel=1e-6)
    predictor = load_predictor(file, PLAIN, CPU)
    fine = place(workspace / "fine.tif", np.zeros((40, 60, 3), np.uint8), 0.1)
    assert choose_scale(predictor, inspect_source(fine, None), "auto") == pytest.approx(0.5, rel=1e-6)
    done = predict_raster(file, fine, workspace / "o.tif", window=16, overlap=0.0, machine=CPU)
    assert done.windows == 2 * 2  # 20 x 30 px for the network
    assert raster_gsd(workspace / "o.tif") == pytest.approx(0.1 / UTM_SCALE, rel=1e-6)
    with pytest.raises(DataError, match=r"0\.1 m per px; expected 0\.2001 m as in training"):
        predict_raster(file, fine, workspace / "p.tif", gsd="refuse", machine=CPU)
    old = {key: value for key, value in load_checkpoint(file).items() if key not in ("gsd", "format")}
    save_checkpoint(workspace / "old.pt", old)
    assert load_predictor(workspace / "old.pt", PLAIN, CPU).gsd is None
    assert (
        predict_raster(workspace / "old.pt", fine, workspace / "q.tif", window=16, overlap=0.0, machine=CPU).windows
        == 12
    )


def test_the_scale_is_right_in_web_mercator_and_with_sidecars(tmp_path: Path) -> None:
    """Case 18: the same ground in UTM, in EPSG:3857 (0.3 m are 0.4873 units at 52 degrees), at 0.1 m, and as a PNG."""
    unit = 0.3 / math.cos(math.radians(52))
    layouts = {
        "utm.tif": ("GTiff", "EPSG:25832", (0.3, 500000, 5762000), {}),
        "mercator.tif": ("GTiff", "EPSG:3857", (unit, 1001875, 6800125), {}),
        "fine.tif": ("GTiff", "EPSG:25832", (0.1, 500000, 5762000), {}),
        "fine.png": ("PNG", "EPSG:25832", (0.1, 500000, 5762000), {}),
        "arc.tif": ("GTiff", "EPSG:25832", (0.1, 500000, 5762000), {"profile": "BASELINE", "tfw": "YES"}),
    }
    trained = Predictor(lambda images: images.float(), ISPRS, 1.0, 0.3 / UTM_SCALE, torch.device("cpu"), "")
    found = {}
    for name, (driver, crs, (step, x, y), options) in layouts.items():
        transform = rasterio.Affine(step, 0, x, 0, -step, y)
        shape = {"count": 3, "height": 30, "width": 30, "dtype": "uint8", "crs": crs, "transform": transform}
        with rasterio.open(tmp_path / name, "w", driver=driver, **shape, **options) as file:
            file.write(np.zeros((3, 30, 30), np.uint8))
        found[name] = choose_scale(trained, inspect_source(tmp_path / name, None), "auto")
    expected = {"utm.tif": 1.0, "mercator.tif": 1.0, "fine.tif": 1 / 3, "fine.png": 1 / 3, "arc.tif": 1 / 3}
    assert found == pytest.approx(expected, rel=1e-6)
