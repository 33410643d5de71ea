"""What bf16 costs on the hold-out: measured, carried by every file that leaves a workspace, read again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.generators.small_networks import save_network
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.evaluation.holdout import digest_of_n1
from weakseg.export import held_precision
from weakseg.export.held_precision import export_measured, measure_bf16
from weakseg.export.model_files import export_bundle, export_onnx
from weakseg.export.own_data import check_own
from weakseg.export.quantise import export_int8
from weakseg.inference.model import SETTINGS
from weakseg.inference.onnx_file import describe_folder
from weakseg.inference.precision import Held, has_native_bf16
from weakseg.raster.gsd import load_gsd, save_gsd
from weakseg.stages import tiles
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint

pytest.importorskip("onnxruntime")
GOOD = Held("openvino", "bf16", "1", 0.5, 0.4995)
WORSE = Held("openvino", "bf16", "1", 0.7, 0.6)
UNET = {"name": "unet", "encoder": "tf_efficientnet_lite0", "width": 1, "encoder_depth": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """A tiny workspace after the tiles stage, with a network of random weights as m.pt."""
    root = make_workspace(tmp_path_factory.mktemp("workspace"))
    tiles.run(root)
    save_own(root / "m.pt", root / "out" / "tiles")
    return Layout(root)


def save_own(path: Path, of: Path, **more: Any) -> Path:
    """A network of random weights that says it was trained on these tiles."""
    facts = {"gsd": load_gsd(of), "n1": digest_of_n1(of), **more}
    return save_network(path, {**UNET, "decoder_channels": [16, 8, 8]}, scale=0.5, **facts)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bf16, and OpenVINO."""
    monkeypatch.setattr(held_precision, "has_native_bf16", lambda: True)
    monkeypatch.setattr(held_precision, "find_spec", lambda name: object())


@pytest.mark.usefixtures("able")
def test_the_network_that_loses_more_counts(place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, unseen = tmp_path / "m.pt", tmp_path / "choosing" / "m.pt"
    shutil.copyfile(place.root / "m.pt", model)
    found = {model: GOOD, unseen: WORSE}
    monkeypatch.setattr(held_precision, "_measure", lambda file, tiles: found[file])
    held, said = measure_bf16(model, place.tiles)
    assert held == GOOD
    assert said.endswith("0.4995, in float32 0.5000 (openvino 1), taken by --precision auto")
    unseen.parent.mkdir()
    shutil.copyfile(model, unseen)
    held, said = measure_bf16(model, place.tiles)
    assert held == WORSE
    assert said.endswith("not taken by --precision auto")


def test_where_it_cannot_be_measured_it_says_why(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.root / "m.pt"
    monkeypatch.setattr(held_precision, "has_native_bf16", lambda: False)
    assert measure_bf16(model, place.tiles) == (None, "bf16 is not measured: this processor has none")
    with pytest.raises(StageError, match=r"processor has none.*export on such a machine"):
        export_measured(model, tmp_path / "n.pt", tiles=place.tiles)
    assert not (tmp_path / "n.pt").exists()
    monkeypatch.setattr(held_precision, "has_native_bf16", lambda: True)
    monkeypatch.setattr(held_precision, "find_spec", lambda name: None)
    assert measure_bf16(model, place.tiles)[1].endswith("wants weakseg[openvino]")
    monkeypatch.setattr(held_precision, "find_spec", lambda name: object())
    held, said = measure_bf16(model, tmp_path / "none")
    assert held is None
    assert "bf16 is not measured: " in said


@pytest.mark.usefixtures("able")
def test_a_network_of_other_classes_is_not_measured(place: Layout, tmp_path: Path) -> None:
    shutil.copytree(place.tiles, tmp_path / "tiles")
    text = (tmp_path / "tiles" / "classes.yaml").read_text()
    (tmp_path / "tiles" / "classes.yaml").write_text(text.replace("name: tree", "name: palm"))
    held, said = measure_bf16(place.root / "m.pt", tmp_path / "tiles")
    assert held is None
    assert "palm" in said


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(("its", "ours"), [(0.09, 0.3), (0.09, None), (None, 0.3)])
def test_a_network_of_another_workspace_is_not_measured(
    place: Layout, tmp_path: Path, its: float | None, ours: float | None
) -> None:
    """Low in both precisions, such a network lost nothing, and bf16 was allowed."""
    shutil.copytree(place.tiles, tmp_path / "tiles")
    (tmp_path / "tiles" / "sampling.json").unlink(missing_ok=True)
    save_gsd(tmp_path / "tiles", ours)
    save_own(tmp_path / "m.pt", place.tiles, gsd=its)
    held, said = measure_bf16(tmp_path / "m.pt", tmp_path / "tiles")
    assert held is None
    assert "measure it in the workspace that trained it" in said


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("folder", ["holdout", "images"])
def test_a_network_of_other_areas_is_not_measured(place: Layout, tmp_path: Path, folder: str) -> None:
    """Of the same size, classes and px: other images of N1, or another hold-out of them."""
    shutil.copytree(place.tiles, tmp_path / "tiles")
    array = np.load(tmp_path / "tiles" / folder / "p1.npy")
    array.flat[-1] += 1
    np.save(tmp_path / "tiles" / folder / "p1.npy", array)
    held, said = measure_bf16(place.root / "m.pt", tmp_path / "tiles")
    assert held is None
    assert "was trained on other images or another hold-out" in said
    with pytest.raises(DataError, match=r"other images or another hold-out.*in the workspace that trained it"):
        export_int8(place.root / "m.pt", tmp_path / "m.onnx", tiles=tmp_path / "tiles")
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_of_before_counts_as_own_among_the_checkpoints_alone(place: Layout, tmp_path: Path) -> None:
    content = load_checkpoint(place.root / "m.pt")
    del content["n1"]
    save_checkpoint(tmp_path / "m.pt", content)
    save_checkpoint(place.checkpoints("pixel") / "seed0.pt", content)
    check_own(place.checkpoints("pixel") / "seed0.pt", place.tiles)
    with pytest.raises(DataError, match=r"does not say what it was trained on.*train it again"):
        check_own(tmp_path / "m.pt", place.tiles)


@pytest.mark.skipif(not has_native_bf16(), reason="this processor has no bf16")
def test_openvino_in_bf16_is_scored_on_the_hold_out(place: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    held, said = measure_bf16(place.root / "m.pt", place.tiles)
    if held is None:  # random weights: hardly a pixel is sure of its class
        assert "same class" in said
        return
    assert (held.engine, held.precision) == ("openvino", "bf16")
    assert abs(held.after - held.before) < 0.1


@pytest.mark.usefixtures("able")
def test_every_file_that_openvino_can_run_carries_it(
    place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = place.root / "m.pt"
    monkeypatch.setattr(held_precision, "_measure", lambda file, tiles: GOOD)
    assert export_measured(model, tmp_path / "n.pt", tiles=place.tiles) == GOOD
    before, after = load_checkpoint(model), load_checkpoint(tmp_path / "n.pt")
    assert after.pop("precisions") == GOOD.entries()["precisions"]
    weights = after.pop("weights")
    assert all(torch.equal(weights[name], value) for name, value in before.pop("weights").items())
    assert after == before
    export_onnx(tmp_path / "n.pt", tmp_path / "n.onnx")  # said by the file that it is made of
    export_bundle(model, tmp_path / "bundle", held=GOOD)
    settings = {entry.key: entry.value for entry in onnx.load(tmp_path / "n.onnx").metadata_props}[SETTINGS]
    assert json.loads(settings)["precisions"] == GOOD.entries()["precisions"]
    assert describe_folder(tmp_path / "bundle").held == GOOD
    export_bundle(tmp_path / "n.pt", tmp_path / "small", write=lambda file, target: export_onnx(model, target))
    assert describe_folder(tmp_path / "small").held is None  # whatever was written: another network
    with pytest.raises(DataError, match="is the model itself"):
        export_measured(model, model, tiles=place.tiles)


@pytest.mark.usefixtures("able")
def test_the_command_says_what_it_found(place: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_precision, "_measure", lambda file, tiles: GOOD)

    def ran(*words: str) -> Any:
        return CliRunner().invoke(app, ["--root", str(place.root), "export", str(place.root / "m.pt"), *words])

    said = ran(str(tmp_path / "n.pt"), "--to", "model")
    assert said.exit_code == 0, said.output
    assert "bf16: mIoU of the hold-out 0.4995, in float32 0.5000 (openvino 1)" in said.output
    said = ran(str(tmp_path / "n.onnx"))
    assert "taken by --precision auto" in said.output
    assert "largest difference of a probability" in said.output
    assert "expected onnx | torchscript | bundle" in str(ran(str(tmp_path / "n"), "--to", "other").exception)
