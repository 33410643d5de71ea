"""Models in 8-bit integers: what is quantised, that the file runs, and every way in which the export is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from tests.generators.small_networks import save_network
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import ParamsError, StageError, WeightsError
from weakseg.core.layout import Layout
from weakseg.data.store import open_array
from weakseg.evaluation.holdout import digest_of_n1
from weakseg.export import quantise as quantising
from weakseg.export.model_files import export_onnx
from weakseg.export.quantise import Quantised, export_int8, pixel_nodes
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import PLAIN
from weakseg.raster.gsd import save_gsd
from weakseg.stages import tiles
from weakseg.training.machine import Machine

CPU = Machine(device="cpu", precision="no", quiet=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """A tiny workspace after the tiles stage, with a network of random weights as m.pt."""
    root = make_workspace(tmp_path_factory.mktemp("workspace"))
    tiles.run(root)
    network = {"name": "unet", "encoder": "tf_efficientnet_lite0", "width": 1, "encoder_depth": 5}
    made = root / "out" / "tiles"
    save_gsd(made, 0.09)
    facts = {"scale": 0.5, "gsd": 0.09, "n1": digest_of_n1(made)}
    save_network(root / "m.pt", {**network, "decoder_channels": [16, 16, 8, 8]}, **facts)
    return Layout(root)


def test_nodes_of_pixels_are_quantised_and_nodes_of_shapes_are_not() -> None:
    def node(kind: str, name: str, inputs: str, output: str, **more: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), output.split(), name=name, **more)

    nodes = [
        node("Conv", "first", "image w0", "a"),
        node("Relu", "relu", "a", "b"),
        node("Shape", "shape", "b", "size"),  # from here a number, not pixels
        node("Add", "padding", "size one", "pads"),
        node("Pad", "pad", "b pads", "c"),
        node("Conv", "middle", "c w1", "d"),
        node("MaxPool", "indices", "d", "e places"),  # max-unpooling needs its indices exact
        node("Add", "skip", "e d", "f"),
        node("Sigmoid", "sigmoid", "f", "g"),  # pixels flow through, but not in 8 bits
        node("Mul", "scale", "g one", "h"),
        node("Conv", "last", "h w2", "logits"),
        node("Softmax", "softmax", "logits", "probabilities"),
    ]
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "g", [value], [])
    assert pixel_nodes(graph) == ["relu", "pad", "middle", "skip"]


def test_an_int8_file_is_a_model_of_8_bits_that_takes_any_size(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising, "ALLOWED", 1.0)  # random weights: rounding may move the argmax
    monkeypatch.setattr(quantising, "_CROPS", 4)
    held = export_int8(place.root / "m.pt", tmp_path / "m.onnx", tiles=place.tiles)
    assert 0 <= held.before <= 1
    assert 0 <= held.after <= 1
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    export_onnx(place.root / "m.pt", tmp_path / "plain.onnx")
    weights = [w for w in onnx.load(tmp_path / "m.onnx").graph.initializer if w.data_type == TensorProto.INT8]
    kernels = [onnx.numpy_helper.to_array(w).astype(int) for w in weights if len(w.dims) == 4]
    assert len(kernels) > 50
    assert max(abs(kernel).max() for kernel in kernels) == 64  # seven bits: two products fit into 16 bits
    assert (tmp_path / "m.onnx").stat().st_size < 0.4 * (tmp_path / "plain.onnx").stat().st_size
    ours, small = (load_predictor(path, PLAIN, CPU) for path in (place.root / "m.pt", tmp_path / "m.onnx"))
    assert (small.scheme, small.scale, small.gsd) == (ISPRS, 0.5, 0.09)
    area = torch.from_numpy(open_array(place.tiles / "images", "p1").copy()).permute(2, 0, 1)[None]
    for images in (area, area[:, :, :33, :61].repeat(2, 1, 1, 1), area[:, :, :5, :7]):
        expected, found = ours.forward(images), small.forward(images)
        assert found.shape == expected.shape
        torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
        assert (found - expected).abs().mean() < 0.05


def test_a_loss_on_the_hold_out_is_refused_and_leaves_nothing(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.6, 0.594))
    monkeypatch.setattr(quantising, "_CROPS", 1)
    monkeypatch.setattr(quantising, "holdout_miou", lambda *_: next(scores))
    said = r"hold-out falls from 0\.6000 to 0\.5940.*at most 0\.005 less; export without --int8"
    with pytest.raises(WeightsError, match=said):
        export_int8(place.root / "m.pt", tmp_path / "m.onnx", tiles=place.tiles)
    assert not list(tmp_path.iterdir())


def test_without_a_hold_out_nothing_is_checked_so_nothing_is_written(
    tmp_path: Path, workspace: Path, place: Layout
) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["tiles"]["holdout"] = 0
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    tiles.run(workspace)
    with pytest.raises(StageError, match=r"no hold-out.*tiles\.holdout above 0"):
        export_int8(place.root / "m.pt", tmp_path / "m.onnx", tiles=Layout(workspace).tiles)
    assert not (tmp_path / "m.onnx").exists()


def test_the_command_line_knows_which_kinds_can_be_int8(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = str(place.root / "m.pt"), str(tmp_path / "m.onnx")
    command = ["--root", str(place.root), "export", model, out, "--int8"]
    refused = CliRunner().invoke(app, [*command, "--to", "torchscript"])
    assert isinstance(refused.exception, ParamsError)
    assert "expected onnx | bundle" in str(refused.exception)
    calls: list[SimpleNamespace] = []

    def fake(model_file: Path, target: Path, *, tiles: Path) -> Quantised:
        calls.append(SimpleNamespace(target=target, tiles=tiles))
        return Quantised(0.61234, 0.6111)

    monkeypatch.setattr(quantising, "export_int8", fake)
    done = CliRunner().invoke(app, command)
    assert "mIoU on the hold-out 0.6111, in float32 0.6123" in " ".join(done.output.split())
    assert [(call.target, call.tiles) for call in calls] == [(Path(out), place.tiles)]
