"""Exported models: the same probabilities at any size, and a bundle that runs without weakseg and torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import rasterio
import torch
from tests.generators.small_networks import save_network
from tests.inference.one_raster import predict_raster

from weakseg.core.errors import DataError, ParamsError, WeightsError
from weakseg.evaluation.applicability import fit_applicability
from weakseg.export import model_files as export
from weakseg.export.model_files import export_bundle, export_onnx, export_torchscript
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import DIHEDRAL, PLAIN
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

CPU = Machine(device="cpu", precision="no", quiet=True)
UNET = {
    "name": "unet",
    "encoder": "tf_efficientnet_lite0",
    "width": 1,
    "encoder_depth": 5,
    "decoder_channels": [16, 16, 8],
}
UNPOOL = {"name": "encdec_unpool", "encoder": "", "width": 32, "encoder_depth": 5, "decoder_channels": [16, 16, 8]}


def model_file(path: Path, network: dict[str, object], scale: float = 1.0) -> Path:
    """A model file as segment@SOURCE writes it, with random weights that do not say the same everywhere."""
    return save_network(path, network, seed=1, scale=scale)


def _load_script(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(str(path))


def write_picture(path: Path, bands: int = 3) -> Path:
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 256, (20, 24, bands), dtype=np.uint8)
    image = cv2.resize(coarse, (190, 150), interpolation=cv2.INTER_LINEAR)
    image[:30, :30] = 0
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.08, 0.03, 497000.0, 0.03, -0.08, 5420000.0)}
    shape = {"count": bands, "height": 150, "width": 190, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
        file.write(np.moveaxis(image, -1, 0))
    return path


def taught_file(path: Path, network: dict[str, object]) -> Path:
    """The same with temperatures and an area of applicability of random places."""
    model, _ = load_segmenter(model_file(path, network))
    depth = sum(feature.shape[1] for feature in model.encode(torch.zeros(1, 3, 32, 32)).features[1:])
    places = torch.randn(60, depth, generator=torch.Generator().manual_seed(0)).abs()
    known = fit_applicability(places, torch.arange(60) % 3).content()
    return save_network(path, network, seed=1, scale=1.0, temperatures=[1.5, 1, 1, 2, 1], applicability=known)


@pytest.mark.parametrize("network", [UNET, UNPOOL], ids=["unet", "encdec_unpool"])
@pytest.mark.parametrize("kind", ["onnx", "torchscript", "bundle"])
def test_an_export_with_applicability_says_what_the_model_says(
    tmp_path: Path, network: dict[str, object], kind: str
) -> None:
    file, target = taught_file(tmp_path / "m.pt", network), tmp_path / f"m.{kind}"
    write = {"onnx": export_onnx, "torchscript": export_torchscript, "bundle": export_bundle}[kind]
    assert write(file, target, applicability=True) < 1e-4
    ours, theirs = (load_predictor(path, DIHEDRAL[:2], CPU) for path in (file, target))
    assert (theirs.temperatures, theirs.applicable) == ((1.5, 1, 1, 2, 1), True)
    images = torch.randint(0, 256, (2, 3, 70, 45), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    assert ours.with_index is not None
    assert theirs.with_index is not None
    torch.testing.assert_close(theirs.with_index(images), ours.with_index(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.forward(images), ours.forward(images), atol=1e-4, rtol=1e-4)
    write(file, target)
    plain = load_predictor(target, PLAIN, CPU)
    assert (plain.temperatures, plain.applicable, plain.forward(images).shape[1]) == (ours.temperatures, False, 5)


def test_a_model_that_does_not_know_exports_no_applicability(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="does not know what it was trained on"):
        export_onnx(model_file(tmp_path / "m.pt", UNPOOL), tmp_path / "m.onnx", applicability=True)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("network", [UNET, UNPOOL], ids=["unet", "encdec_unpool"])
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_export_gives_the_network_s_probabilities_at_any_size(
    tmp_path: Path, network: dict[str, object], kind: str
) -> None:
    file, target = model_file(tmp_path / "m.pt", network), tmp_path / f"m.{kind}"
    difference = export_onnx(file, target) if kind == "onnx" else export_torchscript(file, target)
    assert difference < 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["m.pt", target.name])
    model, _ = load_segmenter(file)
    if kind == "onnx":
        session = onnxruntime.InferenceSession(target)
        shapes = [(port.name, port.shape[0], port.shape[2:]) for port in session.get_inputs()]
        assert shapes == [("image", "batch", ["height", "width"])]
    loaded = None if kind == "onnx" else _load_script(target)
    for shape in ((1, 3, 96, 32), (2, 3, 1, 47), (4, 3, 31, 64)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = model(images).softmax(1).numpy()
            found = session.run(None, {"image": images.numpy()})[0] if kind == "onnx" else loaded(images).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_an_export_that_differs_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = model_file(tmp_path / "m.pt", UNPOOL)
    monkeypatch.setattr(export, "PARITY", -1.0)
    with pytest.raises(WeightsError, match="probabilities differ"):
        export_onnx(file, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="probabilities differ"):
        export_bundle(file, tmp_path / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize(("scale", "bands"), [(1.0, 3), (0.6, 4)])
def test_the_bundle_runs_alone_and_gives_weakseg_s_classes(tmp_path: Path, scale: float, bands: int) -> None:
    file = model_file(tmp_path / "m.pt", UNPOOL, scale)
    source, bundle = write_picture(tmp_path / "a.tif", bands), tmp_path / "bundle"
    export_bundle(file, bundle)
    names = ["INSTRUCTIONS.md", "classes.json", "model.onnx", "modules", "predict.py", "preprocessing.json"]
    assert sorted(p.name for p in bundle.iterdir()) == [*names, "requirements.txt"]
    assert "| 4 | car | 255, 255, 0 |" in (bundle / "INSTRUCTIONS.md").read_text()
    assert json.loads((bundle / "preprocessing.json").read_text())["scale"] == scale
    chosen = (1, 2, 3) if bands == 3 else (4, 1, 2)
    script = (
        "import runpy, sys; sys.argv[0] = 'predict.py'; runpy.run_path('predict.py', run_name='__main__'); "
        "taboo = {'torch', 'mlflow', 'pydantic'} & set(sys.modules); sys.exit(f'imported {taboo}' if taboo else 0)"
    )
    arguments = [str(source), str(tmp_path / "alone.tif"), "--window", "64", "--bands", ",".join(map(str, chosen))]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=bundle, env=clean, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "4 car: " in run.stdout
    predict_raster(file, source, tmp_path / "ours.tif", window=64, bands=chosen, machine=CPU)
    predict_raster(bundle, source, tmp_path / "onnx.tif", window=64, bands=chosen, machine=CPU)
    with rasterio.open(tmp_path / "ours.tif") as ours:
        classes = ours.read(1)
        assert len(np.unique(classes)) >= 3
        for name in ("alone.tif", "onnx.tif"):
            with rasterio.open(tmp_path / name) as other:
                # a max-unpooling network moves whole values where rounding decides a tie; a few px at most
                assert (classes != other.read(1)).mean() <= 1e-3
                assert (ours.crs, ours.transform, ours.nodata) == (other.crs, other.transform, other.nodata)
                assert ours.colormap(1)[4] == other.colormap(1)[4]


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    file = model_file(tmp_path / "m.pt", UNPOOL)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another name"):
        export_bundle(file, tmp_path / "precious")
    assert (tmp_path / "precious" / "work.txt").read_text() == "mine"
