"""Exports of one size: ONNX as the QGIS plugin Deepness runs it, torch.export, STAC items of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pystac
import pystac.validation
import pytest
import torch
from pystac.extensions.mlm import MLMExtension
from tests.generators.small_networks import save_network, unpool
from tests.inference.test_predict import picture, save
from typer.testing import CliRunner

from weakseg import open_model, predict
from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import ParamsError, WeightsError
from weakseg.export import fixed, model_files
from weakseg.export.fixed import deepness_metadata, export_deepness, export_pt2
from weakseg.export.item import write_model_item

SIDE = 96
UNET: dict[str, Any] = {"name": "unet", "encoder": "tf_efficientnet_lite0", "width": 1, "encoder_depth": 5}
UNET |= {"decoder_channels": [16, 16, 8]}
ENCDEC = unpool(32)


@pytest.fixture(params=[ENCDEC, UNET], ids=["encdec_unpool", "unet"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model file as segment@SOURCE writes it: trained at half the size of rasters of 0.1 m."""
    return save_network(tmp_path / "m.pt", request.param, seed=1, scale=0.5, gsd=0.1)


class Plugin:
    """What Deepness does with a model of type Segmentor, after its model_base.py, preprocessing_utils.py and
    map_processor_segmentation.py (read 2026-11-28; written anew): older ones want a batch of 1, all a square of known
    size, and the metadata as JSON.
    """

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (self.input,) = self.session.get_inputs()
        (output,) = self.session.get_outputs()
        if output.shape[0] != 1 or output.shape[2] != output.shape[3] or not isinstance(output.shape[3], int):
            raise ValueError(output.shape)
        self.metadata = self.session.get_modelmeta().custom_metadata_map

    def value(self, key: str) -> Any:
        return json.loads(self.metadata[key])

    def class_names(self) -> list[str]:
        rows = sorted(self.value("class_names").items(), key=lambda row: int(row[0]))
        assert [int(key) for key, _ in rows] == list(range(len(rows)))
        return [name for _, name in rows]

    def classes(self, tile: np.ndarray) -> np.ndarray:
        """uint8 (side, side, bands) -> classes (side, side)."""
        images = np.float32(tile[None, ..., : self.input.shape[1]] * (1.0 / 255.0))
        mean, std = (np.array(self.value(f"standardization_{key}"), np.float32) for key in ("mean", "std"))
        found = self.session.run(None, {self.input.name: ((images - mean) / std).transpose(0, 3, 1, 2)})[0]
        found[found < self.value("seg_thresh")] = 0
        return np.asarray(found.argmax(1)[0])


def test_deepness_reads_all_it_needs_and_gets_our_classes(tmp_path: Path, model: Path) -> None:
    assert export_deepness(model, tmp_path / "m.onnx", side=SIDE) <= model_files.PARITY
    plugin = Plugin(tmp_path / "m.onnx")
    assert plugin.value("model_type").capitalize() == "Segmentor"
    assert plugin.class_names() == list(ISPRS.names)
    assert (plugin.value("tile_size"), plugin.value("tiles_size"), plugin.value("tiles_overlap")) == (SIDE, SIDE, 25)
    assert plugin.value("resolution") == pytest.approx(20), "cm per px: rasters of 0.1 m at half their size"
    assert plugin.value("seg_small_segment") == 0
    image = np.moveaxis(picture(SIDE, SIDE), 0, -1)
    ours = classes_of(model, image)
    assert len(np.unique(ours)) > 1
    assert (plugin.classes(image) == ours).mean() > 0.999, "but for ties in float32"


def classes_of(model: Path, image: np.ndarray) -> np.ndarray:
    """weakseg's classes of an image at the network's resolution."""
    maps = open_model(model).forward(torch.from_numpy(image).permute(2, 0, 1)[None])
    return np.asarray(maps[0, : len(ISPRS)].argmax(0).numpy())


def test_what_deepness_cannot_know_is_left_out() -> None:
    settings = {"mean": [0.5], "std": [0.25], "scale": 1.0, "gsd": None}
    assert "resolution" not in deepness_metadata(ISPRS, settings, 512)


def test_any_size_is_what_deepness_refuses(tmp_path: Path) -> None:
    """Why it has a file of its own: it compares the names of free sides, `height` and `width`."""
    model_files.export_onnx(save_network(tmp_path / "m.pt", ENCDEC, seed=1, scale=1.0), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="height"):
        Plugin(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["pt2", "deepness"])
def test_an_export_of_one_size_predicts_as_its_model(tmp_path: Path, model: Path, kind: str) -> None:
    target = tmp_path / ("m.pt2" if kind == "pt2" else "m.onnx")
    assert {"pt2": export_pt2, "deepness": export_deepness}[kind](model, target, side=SIDE) <= model_files.PARITY
    raster = save(tmp_path / "a.tif", picture(300, 340))
    first, second = (open_model(path) for path in (model, target))
    assert (second.scheme, second.scale, second.gsd) == (first.scheme, 0.5, 0.1)
    maps = [predict(one, raster, window=SIDE) for one in (first, second)]
    assert (maps[0] == maps[1]).mean() > 0.999
    small = [predict(one, picture(20, 31).transpose(1, 2, 0)) for one in (first, second)]
    assert small[1].shape == (20, 31)
    with pytest.raises(ParamsError, match=f"--window {SIDE}"):
        predict(second, raster)


def test_a_program_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_network(tmp_path / "m.pt", ENCDEC, seed=1, scale=1.0)
    monkeypatch.setattr(model_files, "PARITY", -1.0)
    for export, name in ((fixed.export_pt2, "m.pt2"), (fixed.export_deepness, "m.onnx")):
        with pytest.raises(WeightsError, match="differ"):
            export(model, tmp_path / name, side=64)
        assert not (tmp_path / name).exists()
    with pytest.raises(ParamsError, match=r"ends in \.pt2"):
        export_pt2(model, tmp_path / "m.bin")


@pytest.mark.parametrize("kind", ["onnx", "deepness", "torchscript", "pt2", "bundle"])
def test_the_stac_item_of_an_export_is_valid(tmp_path: Path, kind: str) -> None:
    model = save_network(tmp_path / "m.pt", ENCDEC, seed=1, scale=0.5, gsd=0.1)
    target = tmp_path / ("folder" if kind == "bundle" else "my model.onnx")
    side = 512 if kind in ("pt2", "deepness") else None
    text = json.loads(write_model_item(model, target, kind, side=side).read_text())
    pystac.validation.validate_dict({**text, "stac_extensions": []})  # those of extensions lie on the network
    item = pystac.Item.from_dict(text)
    extension = MLMExtension.ext(item)
    assert extension.framework == ("PyTorch" if kind in ("torchscript", "pt2") else "ONNX")
    assert [str(task) for task in extension.tasks] == ["semantic-segmentation"]
    (image,), (output,) = extension.input, extension.output
    free = side or -1
    assert (image.input.shape, image.input.data_type) == ([-1, 3, free, free], "float32")
    assert output.result.shape == [-1, 5, free, free]
    assert output.classes is not None
    assert [row.name for row in output.classes] == list(ISPRS.names)
    assert image.value_scaling is not None
    assert len(text["properties"]["mlm:input"][0]["value_scaling"]) == 3
    assert "0.2 m per px" in (image.description or "")
    (asset,) = item.assets.values()
    assert asset.roles == ["mlm:model"]
    assert asset.href == ("./folder/model.onnx" if kind == "bundle" else "./my model.onnx")


def test_the_command_writes_the_item_and_says_what_is_deprecated(tmp_path: Path) -> None:
    model = save_network(tmp_path / "m.pt", ENCDEC, seed=1, scale=1.0)
    done = CliRunner().invoke(app, ["export", str(model), str(tmp_path / "m.onnx")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m.onnx.stac.json").is_file()
    done = CliRunner().invoke(app, ["export", str(model), str(tmp_path / "m.ts"), "--to", "torchscript"])
    assert "deprecated TorchScript" in done.output
    for words in (["--to", "pt2", "--applicability"], ["--to", "deepness", "--int8"], ["--to", "banana"]):
        assert isinstance(CliRunner().invoke(app, ["export", str(model), "x", *words]).exception, ParamsError)
