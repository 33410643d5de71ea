"""A checkpoint of other classes, bands or another format is refused in a sentence wherever one is opened."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.small_networks import save_network, unpool

from weakseg.core.bands import PLAIN, Bands, Statistics, known_band
from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import WeaksegError, WeightsError
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import PLAIN as ONE_VIEW
from weakseg.pipeline.context import Context, open_context
from weakseg.stages.evaluate import best_predictions
from weakseg.training.checkpoints import check_bands, describe_bands, load_checkpoint, save_checkpoint
from weakseg.training.machine import Machine

CPU = Machine(device="cpu", precision="no", quiet=True)


@pytest.fixture
def context(workspace: Path) -> Context:
    """A workspace whose tiles know the five classes of ISPRS."""
    ISPRS.save(workspace / "out" / "tiles" / "classes.yaml")
    found = open_context(workspace)
    found.layout.checkpoints("pixel").mkdir(parents=True)
    return found


def change(path: Path, **facts: object) -> None:
    content = {key: value for key, value in load_checkpoint(path).items() if key != "format"}
    save_checkpoint(path, {**content, **facts})


def refused(context: Context) -> str:
    with pytest.raises(WeightsError) as told:
        best_predictions(context, "pixel", 0, {})
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("names", [("tree", "car"), (*ISPRS.names[1:], ISPRS.names[0]), (*ISPRS.names, "water")])
def test_evaluate_refuses_other_classes(names: tuple[str, ...], context: Context) -> None:
    file = context.layout.checkpoints("pixel") / "seed0.pt"
    save_network(file, unpool(16))
    scheme = ClassScheme(names, tuple((number, 0, 0) for number in range(len(names))))
    scheme.save(context.layout.tiles / "classes.yaml")
    context.__dict__.pop("scheme", None)
    assert refused(context) == (
        f"{file} knows the classes {', '.join(ISPRS.names)}; expected {', '.join(names)}, as out/tiles/classes.yaml "
        "has them; train it again (`dvc repro`)"
    )


DEEP = Bands(tuple(known_band(name, dtype="uint16") for name in ("red", "green", "blue", "nir"))).with_statistics(
    Statistics(1000.0, 300.0, (0.0,) * 5) for _ in range(4)
)
NAMED = Bands(tuple(known_band(name) for name in ("nir", "red", "green")))


@pytest.mark.parametrize("door", ["evaluate", "teacher", "choice", "cam"])
def test_stages_refuse_other_bands(door: str, context: Context) -> None:
    import_module("weakseg.stages.tiles").run(context.layout.root)
    DEEP.save(context.layout.tiles / "bands.yaml")
    context.layout.networks("classifier").mkdir(parents=True)
    trained = context.layout.checkpoints("pixel")
    for file in (trained, trained / "choosing"):
        save_network(file / "seed0.pt", unpool(16))
    save_network(context.layout.networks("classifier") / "model.pt", unpool(16))
    source = ("joint",) if door == "choice" else ()
    run = import_module(f"weakseg.stages.{door}").run
    with pytest.raises(WeightsError) as told:
        best_predictions(context, "pixel", 0, {}) if door == "evaluate" else run(context.layout.root, *source)
    assert str(told.value).endswith(
        ".pt knows the bands band_1 (uint8), band_2 (uint8), band_3 (uint8); expected red (uint16), green (uint16), "
        "blue (uint16), nir (uint16), as out/tiles has them; train it again (`dvc repro`)"
    )


def test_evaluate_refuses_bands_in_another_order(context: Context) -> None:
    file = context.layout.checkpoints("pixel") / "seed0.pt"
    save_network(file, unpool(16))
    change(file, **describe_bands(NAMED))
    Bands(NAMED.members[::-1]).save(context.layout.tiles / "bands.yaml")
    assert "knows the bands nir (uint8), red (uint8), green (uint8); expected green (uint8), red" in refused(context)


def test_bands_without_names_may_be_those_that_have_some(tmp_path: Path) -> None:
    """Files of before bands had names say none; their images may since have got some."""
    check_bands(PLAIN, NAMED, tmp_path)
    check_bands(NAMED, PLAIN, tmp_path)
    check_bands(DEEP, DEEP, tmp_path)
    with pytest.raises(WeightsError, match=r"red \(uint16\).*expected red \(uint8\)"):
        check_bands(DEEP, Bands(tuple(replace(band, dtype="uint8") for band in DEEP.members)), tmp_path)


def test_evaluate_refuses_another_format_and_weights_of_other_classes(context: Context) -> None:
    file = context.layout.checkpoints("pixel") / "seed0.pt"
    torch.save({"format": 2, "weights": {}}, file)
    assert "is not of format 1; expected a weakseg checkpoint; make it anew" in refused(context)
    save_network(file, unpool(16))
    change(file, classes={"names": ["tree", "car"], "colours": [[0, 0, 1], [0, 0, 2]], "ignored": []})
    ClassScheme(("tree", "car"), ((0, 0, 1), (0, 0, 2))).save(context.layout.tiles / "classes.yaml")
    context.__dict__.pop("scheme", None)
    assert "does not fit the network" in refused(context)


def test_predict_refuses_another_format_and_weights_of_other_classes(tmp_path: Path) -> None:
    torch.save({"format": 2, "weights": {}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="is not of format 1"):
        load_predictor(tmp_path / "a.pt", ONE_VIEW, CPU)
    save_network(tmp_path / "b.pt", unpool(16))
    change(tmp_path / "b.pt", classes={"names": ["tree"], "colours": [[0, 0, 1]], "ignored": []})
    with pytest.raises(WeightsError, match=r"b\.pt.*fit the network"):
        load_predictor(tmp_path / "b.pt", ONE_VIEW, CPU)


def test_predict_refuses_a_raster_of_other_bands(tmp_path: Path) -> None:
    from tests.generators.plain_rasters import save_raster
    from tests.inference.one_raster import predict_raster

    save_network(tmp_path / "m.pt", unpool(16), scale=1.0, gsd=None)
    save_raster(tmp_path / "four.tif", np.ones((4, 32, 32), np.uint8))
    with pytest.raises(WeaksegError, match=r"4 band\(s\); expected 3 bands"):
        predict_raster(tmp_path / "m.pt", tmp_path / "four.tif", tmp_path / "out.tif", machine=CPU)
    assert not (tmp_path / "out.tif").exists()
