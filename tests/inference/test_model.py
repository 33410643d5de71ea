"""Every kind of model file gives the same probabilities, and one that is none of them says so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from tests.generators.small_networks import save_network, unpool

from weakseg.core.classes import ISPRS
from weakseg.core.errors import WeightsError
from weakseg.export.model_files import export_bundle, export_onnx, export_torchscript
from weakseg.inference import mapper, onnx_file
from weakseg.inference.model import load_predictor
from weakseg.inference.onnx_file import open_bundle, runs_on_cpu
from weakseg.inference.scene import DIHEDRAL, PLAIN
from weakseg.training.machine import Machine

CPU = Machine(device="cpu", precision="no", quiet=True)
KINDS = ("m.onnx", "m.ts", "bundle")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network as m.pt, m.onnx, m.ts (TorchScript) and bundle."""
    folder = tmp_path_factory.mktemp("models")
    save_network(folder / "m.pt", unpool(16), scale=0.5, gsd=0.09)
    export_onnx(folder / "m.pt", folder / "m.onnx")
    export_torchscript(folder / "m.pt", folder / "m.ts")
    export_bundle(folder / "m.pt", folder / "bundle")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_predicts_as_its_model_file(models: Path, kind: str) -> None:
    images = torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours, other = (load_predictor(models / name, DIHEDRAL, CPU) for name in ("m.pt", kind))
    assert (other.scheme, other.scale, other.gsd) == (ISPRS, 0.5, 0.09)
    expected, found = ours.forward(images), other.forward(images)
    # a max-unpooling network moves whole values where rounding decides a tie
    assert (expected - found).abs().median() < 1e-6
    assert ((expected - found).abs() > 1e-4).float().mean() < 1e-3
    assert len({load_predictor(models / kind, views, CPU).digest for views in (PLAIN, DIHEDRAL)} | {ours.digest}) == 3


def test_files_that_are_no_models_are_named(models: Path, tmp_path: Path) -> None:
    for name in ("none.pt", "none.onnx"):
        with pytest.raises(WeightsError, match=rf"no model .*{name}.*models:/NAME@ALIAS; check the path"):
            load_predictor(tmp_path / name, PLAIN, CPU)
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise\.onnx does not load .*expected an ONNX model"):
        load_predictor(tmp_path / "noise.onnx", PLAIN, CPU)
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise\.pt does not load .*expected a weakseg checkpoint"):
        load_predictor(tmp_path / "noise.pt", PLAIN, CPU)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_exports_of_other_programs_are_refused(models: Path, tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Identity()).save(tmp_path / "other.pt")
    model = onnx.load(models / "m.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    for name in ("other.pt", "other.onnx"):
        with pytest.raises(WeightsError, match=rf"{name} does not say its classes.*export the model again"):
            load_predictor(tmp_path / name, PLAIN, CPU)


def test_a_program_of_torch_export_is_loaded_without_pickles(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(*_: object, **__: object) -> None:
        seen.append(os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))
        raise KeyError("none")

    monkeypatch.setattr("torch.export.load", load)
    (models / "none.pt2").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"none\.pt2 does not load .*expected a torch\.export program"):
        load_predictor(models / "none.pt2", PLAIN, CPU)
    assert seen == ["1"]
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize(("side", "passes"), [(512, [1, 1, 1]), (400, [1, 1, 1]), (362, [2, 1]), (64, [3])])
def test_a_cpu_sees_a_large_window_at_a_time(
    models: Path, side: int, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network needs of memory grows with the px of a pass: four windows of 512 px took a gigabyte (issue 23)."""
    found: list[int] = []

    def blank(images: torch.Tensor) -> torch.Tensor:
        found.append(len(images))
        return torch.zeros(len(images), 5, side, side)

    predictor = replace(load_predictor(models / "m.pt", PLAIN, CPU), forward=blank)
    images = np.zeros((3, 3, side, side), np.uint8)
    assert predictor.network()(images).shape == (3, 5, side, side)
    assert found == passes
    replace(predictor, together=True).network()(images)
    assert found == [*passes, 3]
    found.clear()
    monkeypatch.setattr(onnx_file, "run_session", lambda _, values: [blank(values).numpy()])
    open_bundle(models / "bundle", 1).network()(images)
    assert found == passes


@pytest.mark.parametrize("kind", ["m.pt", *KINDS])
def test_windows_in_passes_have_the_same_numbers(models: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapper, "PASS", 2 * 96 * 128)
    predictor = load_predictor(models / kind, PLAIN, CPU)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 128), np.uint8)
    np.testing.assert_array_equal(predictor.network()(images), replace(predictor, together=True).network()(images))


def test_only_providers_of_this_processor_are_a_cpu() -> None:
    for names, expected in (
        (["CPUExecutionProvider"], True),
        (["AzureExecutionProvider", "CPUExecutionProvider"], True),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], False),
    ):
        session = SimpleNamespace(get_providers=lambda names=names: names)
        assert runs_on_cpu(session) is expected
