"""A checkpoint of other classes, bands or another format is refused in a sentence wherever one is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.small_networks import save_network, unpool

from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import WeaksegError, WeightsError
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import PLAIN
from weakseg.pipeline.context import Context, open_context
from weakseg.stages.evaluate import best_predictions
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
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
        load_predictor(tmp_path / "a.pt", PLAIN, CPU)
    save_network(tmp_path / "b.pt", unpool(16))
    change(tmp_path / "b.pt", classes={"names": ["tree"], "colours": [[0, 0, 1]], "ignored": []})
    with pytest.raises(WeightsError, match=r"b\.pt.*fit the network"):
        load_predictor(tmp_path / "b.pt", PLAIN, CPU)


def test_predict_refuses_a_raster_of_other_bands(tmp_path: Path) -> None:
    from tests.generators.plain_rasters import save_raster
    from tests.inference.one_raster import predict_raster

    save_network(tmp_path / "m.pt", unpool(16), scale=1.0, gsd=None)
    save_raster(tmp_path / "four.tif", np.ones((4, 32, 32), np.uint8))
    with pytest.raises(WeaksegError, match=r"4 band\(s\); expected 3 bands"):
        predict_raster(tmp_path / "m.pt", tmp_path / "four.tif", tmp_path / "out.tif", machine=CPU)
    assert not (tmp_path / "out.tif").exists()
