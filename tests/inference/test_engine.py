"""Engines: the choice, its check on the raster's own windows, and what OpenVINO does unasked."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from tests.generators.small_networks import save_network, unpool
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import ParamsError, WeightsError
from weakseg.export.held_precision import add_held
from weakseg.export.model_files import export_onnx, open_network
from weakseg.inference import engine as engines
from weakseg.inference import model as models
from weakseg.inference.engine import Choice, Runner, open_onnxruntime, open_openvino, openvino_settings
from weakseg.inference.model import load_predictor
from weakseg.inference.options import Options
from weakseg.inference.precision import Held
from weakseg.inference.run import run_predictor
from weakseg.inference.scene import DIHEDRAL, PLAIN
from weakseg.inference.signal_stack import signal_stack
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_raster
from weakseg.training.machine import Machine

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
CPU = Machine(device="cpu", precision="no", quiet=True)
UNET = {
    "name": "unet",
    "encoder": "tf_efficientnet_lite0",
    "width": 4,
    "encoder_depth": 3,
    "decoder_channels": [16, 8, 8],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net in a model file, and beside it as ONNX."""
    folder = tmp_path_factory.mktemp("engines")
    save_network(folder / "m.pt", UNET, scale=1.0)
    export_onnx(folder / "m.pt", folder / "m.onnx")
    return folder / "m.pt"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines start however little there is to do."""
    monkeypatch.setattr(engines, "WORTH", 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    write_raster(tmp_path / "in.tif", pixels)
    return tmp_path / "in.tif"


def mapped(
    model: Path, source: Path, *, views: Any = PLAIN, machine: Machine = CPU, **how: Any
) -> tuple[np.ndarray, dict[str, str]]:
    """Classes, probabilities and tags of a map."""
    target, beside = source.with_name("map.tif"), source.with_name("probabilities.tif")
    predictor = load_predictor(model, views, machine, **how)
    run_predictor(predictor, inspect_source(source, None), target, Options(64, 0.25, 4, beside, resume=False))
    with rasterio.open(target) as file, rasterio.open(beside) as second:
        return np.concatenate([file.read(), second.read()]), file.tags()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_map_of_an_engine_is_torchs_and_says_so(model: Path, source: Path, engine: Any) -> None:
    expected, tags = mapped(model, source, engine="torch", views=DIHEDRAL)
    assert tags["WEAKSEG_ENGINE"] == "torch float32"
    assert "WEAKSEG_PARITY" not in tags
    found, tags = mapped(model, source, engine=engine, views=DIHEDRAL)
    assert tags["WEAKSEG_ENGINE"] == f"{engine} float32"
    assert tags["WEAKSEG_PARITY"].endswith("at most, 100.000% same class, 3 windows")
    assert float(tags["WEAKSEG_PARITY"].split()[0]) <= 1e-5
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.abs(found[1:].astype(int) - expected[1:]).max() <= 1  # of 254


@pytest.mark.usefixtures("eager")
def test_auto_takes_openvino_then_onnxruntime_then_torch(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"openvino", "onnxruntime"}
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
    for expected, package in (("openvino", "openvino"), ("onnx", "onnxruntime"), ("torch", "")):
        assert mapped(model, source)[1]["WEAKSEG_ENGINE"] == f"{expected} float32"
        installed.discard(package)
    for engine, extra in (("openvino", "openvino"), ("onnx", "export")):
        with pytest.raises(ParamsError, match=rf"no .*install weakseg\[{extra}\]"):
            load_predictor(model, PLAIN, CPU, engine=engine)  # type: ignore[arg-type]


def test_auto_stays_with_torch_for_small_rasters_and_a_named_engine_does_not(model: Path, source: Path) -> None:
    assert mapped(model, source)[1]["WEAKSEG_ENGINE"] == "torch float32"
    assert mapped(model, source, engine="openvino")[1]["WEAKSEG_ENGINE"] == "openvino float32"


Answer = Callable[[torch.Tensor], list[torch.Tensor]]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def three_windows() -> torch.Tensor:
    return images(3, 3, 16, 16)


def probabilities() -> torch.Tensor:
    return images(3, 5, 16, 16).softmax(1)


def runner(found: Answer, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Runner:
    """Torch says :func:`probabilities`; OpenVINO what ``found`` says; ONNX Runtime is right."""
    monkeypatch.setattr(engines, "open_openvino", lambda *_: found)
    monkeypatch.setattr(engines, "open_onnxruntime", lambda *_: lambda x: [probabilities()])
    return Runner("torch", lambda x, index: [probabilities()], to_onnx=lambda index: b"", **how)


def test_an_engine_that_differs_is_passed_over_and_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = probabilities()
    wrong[2, 1, 3, 3] += 2e-5
    choice = runner(lambda x: [wrong], monkeypatch).settle(engines.WORTH, three_windows)
    assert str(choice) == "onnx float32"
    assert (choice.difference, choice.windows) == (0.0, 3)
    assert choice.passed_over == ("openvino: differs by 2.0e-05, 100.000% same class",)
    with pytest.raises(WeightsError, match=r"openvino: differs by 2\.0e-05.*on 3 windows.*--engine torch"):
        runner(lambda x: [wrong], monkeypatch, wanted="openvino").settle(0, three_windows)


@pytest.mark.parametrize("index", [False, True])
def test_the_network_that_is_compared_is_the_one_that_runs(index: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    held = runner(lambda x: [probabilities(), probabilities()[:, :1]], monkeypatch)
    held._to_onnx = lambda index: bytes(made.append(index) or 0)
    assert held.settle(engines.WORTH, three_windows, index).engine == "openvino"
    held(three_windows(), index)
    assert made == [index]


class Wrong:
    """An engine that says something else."""

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [probabilities() + 1]


def test_an_engine_that_lost_holds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Wrong]] = []

    def open_wrong(*_: object) -> Wrong:
        engine = Wrong()
        opened.append(weakref.ref(engine))
        return engine

    held = runner(Wrong(), monkeypatch)
    monkeypatch.setattr(engines, "open_openvino", open_wrong)
    assert held.settle(engines.WORTH, three_windows).engine == "onnx"
    assert [engine() for engine in opened] == [None]


def failing(x: torch.Tensor) -> list[torch.Tensor]:
    raise RuntimeError("no such layer")


def empty(x: torch.Tensor) -> list[torch.Tensor]:
    """OpenVINO 2026.4 in bf16, where ONEDNN_MAX_CPU_ISA hides bf16 from a part of it."""
    return [torch.empty(0, 5, 0, 0)]


@pytest.mark.parametrize(("found", "words"), [(failing, "no such layer"), (empty, r"maps of \(0, 5, 0, 0\)")])
def test_an_engine_that_fails_is_passed_over(found: Answer, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner(found, monkeypatch).settle(engines.WORTH, three_windows).engine == "onnx"
    with pytest.raises(WeightsError, match=words):
        runner(found, monkeypatch, wanted="openvino").settle(0, three_windows)


def test_not_a_number_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = torch.full_like(probabilities(), torch.nan)
    assert runner(lambda x: [nothing], monkeypatch).settle(engines.WORTH, three_windows).engine == "onnx"


@pytest.mark.parametrize(("wrong", "expected"), [(23, "openvino bf16"), (24, "torch bf16")])
def test_bf16_is_held_to_its_classes(wrong: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 768 pixels 23 (2.99 %) may change class, 24 (3.1 %) not; ONNX Runtime has no bf16, so torch is next."""
    flat = probabilities().permute(0, 2, 3, 1).reshape(-1, 5).clone()
    flat[:wrong] = flat[:wrong].roll(1, 1)
    maps = flat.reshape(3, 16, 16, 5).permute(0, 3, 1, 2)
    choice = runner(lambda x: [maps], monkeypatch, precision="bf16").settle(engines.WORTH, three_windows)
    assert str(choice) == expected
    assert len(choice.passed_over) == (expected == "torch bf16")


def test_work_is_counted_with_views_and_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    one = runner(lambda x: [probabilities()], monkeypatch, passes=8.0)
    for pixels, expected in ((engines.WORTH / 8, "openvino"), (engines.WORTH / 8 - 1, "torch")):
        assert one.settle(pixels, three_windows).engine == expected
    assert one.settle(engines.WORTH, lambda: torch.empty(0, 3, 16, 16)).engine == "torch"  # nothing to compare on


def test_engines_that_cannot_run_a_model_are_refused(model: Path) -> None:
    with pytest.raises(ParamsError, match=r"engine quick; expected auto \| openvino \| onnx \| torch"):
        load_predictor(model, PLAIN, CPU, engine="quick")  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match=r"engine torch in float32; expected onnx, openvino for this model"):
        load_predictor(model.with_name("m.onnx"), PLAIN, CPU, engine="torch")
    with pytest.raises(ParamsError, match=r"engine onnx in bf16; expected torch, openvino"):
        load_predictor(model, PLAIN, CPU.at_precision("bf16"), engine="onnx")


# ---- auto takes bf16 where the hold-out allowed it ------------------------------------------------------------------

HELD = Held("openvino", "bf16", "2026.4.1", 0.5, 0.4995)
WHY = "bf16: mIoU of the hold-out 0.4995, in float32 0.5000 (openvino 2026.4.1)"
AUTO = Machine(device="cpu", quiet=True)


def by_precision(bf16: Answer, opened: list[str]) -> Callable[[bytes, str, int], Answer]:
    """OpenVINO that is right in float32."""

    def open_engine(model: bytes, precision: str, threads: int) -> Answer:
        opened.append(precision)
        return bf16 if precision == "bf16" else lambda x: [probabilities()]

    return open_engine


def test_the_faster_precision_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for wanted in ("auto", "openvino"):
        held = runner(failing, monkeypatch, faster="bf16", why=WHY, wanted=wanted)
        monkeypatch.setattr(engines, "open_openvino", by_precision(lambda x: [probabilities() + 1e-3], opened))
        choice = held.settle(engines.WORTH, three_windows)
        assert (str(choice), choice.why, choice.passed_over) == ("openvino bf16", WHY, ())
        monkeypatch.setattr(engines, "open_openvino", by_precision(empty, opened))
        held = Runner("torch", held._own_run, to_onnx=lambda index: b"", faster="bf16", why=WHY, wanted=wanted)
        choice = held.settle(engines.WORTH, three_windows)
        assert str(choice) == "openvino float32"
        assert choice.passed_over[0].startswith("openvino bf16: maps of (0, 5, 0, 0)")
    assert opened == ["bf16", "bf16", "float32"] * 2


def test_a_small_raster_stays_with_torch_in_float32_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = runner(failing, monkeypatch, faster="bf16", why=WHY).settle(engines.WORTH - 1, three_windows)
    assert (str(choice), choice.why) == ("torch float32", "float32: bf16 is worth its start from 8 Mpx on")
    choice = runner(failing, monkeypatch, why="float32: because").settle(engines.WORTH - 1, three_windows)
    assert (str(choice), choice.why) == ("torch float32", "float32: because")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["pt", "onnx"])
def test_a_model_that_may_is_run_in_bf16_and_its_map_says_why(
    model: Path, source: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every processor: what is opened as bf16 here is float32."""
    monkeypatch.setattr(models, "has_native_bf16", lambda: True)
    monkeypatch.setattr(
        engines, "open_openvino", lambda content, _, threads: open_openvino(content, "float32", threads)
    )
    told = source.with_name("told.pt")
    add_held(model, told, HELD)
    if kind == "onnx":
        export_onnx(told, source.with_name("told.onnx"))
        told = source.with_name("told.onnx")
    found, tags = mapped(told, source, machine=AUTO)
    assert (tags["WEAKSEG_ENGINE"], tags["WEAKSEG_PRECISION"]) == ("openvino bf16", WHY)
    np.testing.assert_array_equal(found[0], mapped(model, source, engine="torch")[0][0])
    assert "WEAKSEG_PRECISION" not in mapped(told, source)[1]  # float32 was asked for
    assert mapped(told, source)[1]["WEAKSEG_ENGINE"] == "openvino float32"
    tags = mapped(model.with_suffix(f".{kind}"), source, machine=AUTO)[1]
    assert tags["WEAKSEG_ENGINE"] == "openvino float32"
    assert tags["WEAKSEG_PRECISION"].startswith("float32: this model file does not say")
    monkeypatch.setattr(models, "has_native_bf16", lambda: False)
    tags = mapped(told, source, machine=AUTO)[1]
    assert tags["WEAKSEG_ENGINE"] == "openvino float32"
    assert "WEAKSEG_PRECISION" not in tags


@pytest.mark.usefixtures("eager")
def test_an_exported_file_runs_under_openvino_too(model: Path, source: Path) -> None:
    expected, tags = mapped(model.with_name("m.onnx"), source, engine="onnx")
    assert tags["WEAKSEG_ENGINE"] == "onnx float32"
    found, tags = mapped(model.with_name("m.onnx"), source)
    assert tags["WEAKSEG_ENGINE"] == "openvino float32"
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.usefixtures("eager")
def test_a_network_whose_ties_rounding_decides_has_torchs_map(source: Path) -> None:
    """Max-unpooling moves whole values where rounding decides a tie."""
    model = save_network(source.with_name("m.pt"), unpool(16), scale=1.0)
    expected, _ = mapped(model, source, engine="torch")
    found, _ = mapped(model, source)
    assert (found[0] == expected[0]).mean() > 0.999


# ---- what OpenVINO does unasked -------------------------------------------------------------------------------------


def test_the_precision_is_stated(model: Path) -> None:
    core, content = openvino.Core(), model.with_name("m.onnx").read_bytes()
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, kind in (("float32", openvino.Type.f32), ("bf16", openvino.Type.bf16)):
        if precision == "float32" or has_bf16:
            settings = dict(openvino_settings(precision, 1))
            compiled = core.compile_model(core.read_model(content), "CPU", settings)
            assert compiled.get_property("INFERENCE_PRECISION_HINT") == kind
            assert settings["CACHE_DIR"] == ""
    if not has_bf16:
        with pytest.raises(RuntimeError, match="no bf16"):
            open_openvino(content, "bf16", 1)


@pytest.mark.parametrize("open_engine", [open_openvino, open_onnxruntime])
def test_a_later_run_writes_into_no_earlier_answer(model: Path, open_engine: Any) -> None:
    run = open_engine(model.with_name("m.onnx").read_bytes(), "float32", 1)
    first, second = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    given = first.clone()
    answer = run(first)[0]
    kept = answer.clone()
    other = run(second)[0]
    assert torch.equal(answer, kept)
    assert not torch.equal(answer, other)
    assert torch.equal(first, given)
    first.zero_()  # what the caller does with its image is its own
    assert torch.equal(run(given)[0], kept)


@pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack(2)")
def test_signals_are_handled_where_they_were(model: Path) -> None:
    """OpenVINO's own stack for them is too small where AMX is in use: a loader process that ended killed this one."""
    before = signal_stack()
    run = open_openvino(model.with_name("m.onnx").read_bytes(), "float32", 1)
    run(images(1, 3, 32, 32))
    run(images(1, 3, 32, 48))
    assert signal_stack() == before


@pytest.mark.parametrize("channels_last", [False, True])
def test_any_size_and_number_of_images_is_torchs(model: Path, channels_last: bool) -> None:
    """Four sizes have a network of their own; what comes later shares one, and the first ones still answer."""
    sizes = [(32, 32), (32, 48), (48, 32), (33, 21), (64, 40), (5, 7)]
    network = open_network(model)[0]
    run = open_openvino(model.with_name("m.onnx").read_bytes(), "float32", 1)
    for count, size in enumerate([*sizes, *sizes[:2]], 1):
        image = images(count, 3, *size)
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = network(image)
        (found,) = run(image)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= engines.EXACT


def test_new_weights_under_an_old_name_are_new(source: Path) -> None:
    maps = []
    for seed in (0, 1):
        model = save_network(source.with_name("same.pt"), UNET, seed=seed, scale=1.0)
        found, tags = mapped(model, source, engine="openvino")
        assert tags["WEAKSEG_ENGINE"] == "openvino float32"
        maps.append(found)
    assert not np.array_equal(*maps)


# ---- words ----------------------------------------------------------------------------------------------------------


def test_the_command_says_what_ran(model: Path, source: Path) -> None:
    words = ["predict", str(source), str(source.with_name("map.tif")), "--model", str(model), "--window", "64"]
    said = CliRunner().invoke(app, [*words, "--engine", "openvino", "--precision", "float32"])
    assert said.exit_code == 0, said.output
    assert ", openvino float32 (against torch: " in said.output
    said = CliRunner().invoke(app, [*words, "--precision", "half"])
    assert "precision half" in f"{said.output}{said.exception}"


def test_the_words_of_a_choice() -> None:
    assert str(Choice("torch", "float32")) == "torch float32"
    assert Choice("torch", "float32").parity == ""
    assert Choice("openvino", "bf16", 0.02, 0.9942, 3).parity == "2.0e-02 at most, 99.420% same class, 3 windows"
