"""Options of the weak-label stages that the demo leaves alone, on a tiny workspace with made-up scores and networks."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.core.methods import CrfParams
from weakseg.core.params import load_params
from weakseg.data.store import open_allowed
from weakseg.evaluation.holdout import truth_for
from weakseg.methods.classifier import build_classifier
from weakseg.methods.irnet.forms import FORMS, candidates, in_force
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context
from weakseg.stages import classifier, crf, irnet, tiles
from weakseg.training.checkpoints import load_checkpoint

AREAS = ("p1", "p2", "t1", "t2")


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Path:
    """A workspace whose tiles are cut, with speckled scores of the tagged classes as those of cam."""
    root = make_workspace(tmp_path_factory.mktemp("options"))
    tiles.run(root)
    layout, rng = Layout(root), np.random.default_rng(0)
    for area in AREAS:
        planes = open_allowed(layout.tiles, area).planes()
        scores = (planes * rng.random(planes.shape)).astype(np.float32)
        save_scores(layout.scores("cam") / f"{area}.npz", ScoreMaps.of(scores, np.asarray(planes.any((1, 2)))))
    return root


def set_params(root: Path, section: str, **values: Any) -> Path:
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section] |= values
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return root


def copy_of(tiled: Path, target: Path, section: str, **values: Any) -> Path:
    return set_params(shutil.copytree(tiled, target / "copy"), section, **values)


# ---- classifier: missing labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "trainings", "forgotten"),
    [("keep", 1, "nothing"), ("drop_class", 1, "car"), ("confident_only", 2, "t1"), ("ignore_uncertain", 2, "tree")],
)
def test_missing_labels_are_left_out_of_the_last_training(
    tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, trainings: int, forgotten: str
) -> None:
    """A first network that is sure of all tags but those of area t1, and unsure of trees where there are none."""
    root = copy_of(tiled, tmp_path, "classifier", missing_labels=mode, drop_classes=["car"])
    crops = open_context(root).crops()
    in_t1 = np.array([area == "t1" for area in crops.areas])
    probabilities = np.where(crops.present, 0.95, 0.05).astype(np.float32)
    probabilities[in_t1] = np.where(crops.present[in_t1], 0.75, 0.05)
    probabilities[~crops.present[:, 3], 3] = 0.5
    seen: list[tuple[str, np.ndarray]] = []

    def train(context: Any, crops: Any, known: np.ndarray, chosen: np.ndarray, name: str, report: Any) -> Any:
        seen.append((name, known.copy()))
        return build_classifier(context.params.classifier.model_copy(update={"arch": "vgg16_bn", "width": 64}), 5)

    monkeypatch.setattr(classifier, "train", train)
    monkeypatch.setattr(classifier, "predict_crops", lambda context, model, crops, index: probabilities[index])
    set_params(root, "classifier", weights="none")
    classifier.run(root)
    assert [name for name, _ in seen] == ["first", "final"][-trainings:]
    assert seen[0][1].all() or mode == "drop_class"  # nothing is doubted before there is a network
    expected = np.ones_like(crops.present)
    if forgotten == "car":
        expected[:, 4] = False
    elif forgotten == "t1":
        expected[in_t1 & crops.present.any(1)] = False
    elif forgotten == "tree":
        expected[~crops.present[:, 3], 3] = False
    np.testing.assert_array_equal(seen[-1][1], expected)


def test_thresholds_of_the_holdout_travel_with_the_network(
    tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Present classes of hold-out crops score 0.9, absent ones 0.1 or less; a class that none of them has gets NaN."""
    root = copy_of(tiled, tmp_path, "classifier", weights="none", arch="vgg16_bn", width=64)
    context = open_context(root)
    crops = context.crops()
    held = np.array([split == "holdout" for split in crops.splits])
    probabilities = np.where(crops.present, 0.9, 0.1).astype(np.float32)
    monkeypatch.setattr(classifier, "train", lambda *_: build_classifier(context.params.classifier, 5))
    monkeypatch.setattr(classifier, "predict_crops", lambda context, model, crops, index: probabilities[index])
    classifier.run(root)
    stored = np.array(load_checkpoint(context.layout.networks("classifier") / "model.pt")["thresholds"])
    present = crops.present[held].any(0)
    everywhere = crops.present[held].all(0)
    np.testing.assert_allclose(stored[present & ~everywhere], 0.5)
    assert np.isnan(stored[~present]).all()
    report = yaml.safe_load(context.layout.report("classifier").read_text())
    assert {name for name, value in report["f1"].items() if value is None} == {
        name for name, has in zip(context.scheme.names, present, strict=True) if not has
    }
    assert report["exact_match"] == 1.0


# ---- crf: refiners --------------------------------------------------------------------------------------------------


def roughness(maps: ScoreMaps) -> float:
    return float(np.abs(np.diff(maps.scores, axis=2)).mean())


@pytest.mark.parametrize("refiner", ["crf", "pamr"])
def test_every_refiner_writes_scores_of_every_area(
    tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refiner: str
) -> None:
    """One that is named refines all classes, and N1 is not asked."""
    monkeypatch.setenv("WEAKSEG_CRF_WORKERS", "1")
    monkeypatch.setattr(crf, "choose_refiners", None)
    root = copy_of(tiled, tmp_path, "crf", refiner=refiner)
    crf.run(root)
    layout, scheme = Layout(root), open_context(root).scheme
    assert json.loads(layout.report("crf").read_text()) == {"refined_by": dict.fromkeys(scheme.names, refiner)}
    for area in AREAS:
        before, after = (load_scores(layout.scores(name) / f"{area}.npz") for name in ("cam", "crf"))
        np.testing.assert_array_equal(after.present, before.present)
        assert roughness(after) < 0.6 * roughness(before)
        if refiner == "crf":
            np.testing.assert_allclose(after.scores.sum(0), 1, atol=3e-3)


@pytest.mark.parametrize("good", ["crf", "pamr"])
def test_the_better_of_both_is_in_force(
    tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: str
) -> None:
    """A refiner that paints the truth is taken by the classes that it paints; one that paints another class by none."""
    monkeypatch.setenv("WEAKSEG_CRF_WORKERS", "1")
    root = copy_of(tiled, tmp_path, "crf", refiner="best")
    layout, context = Layout(root), open_context(root)
    truths = truth_for(layout.tiles, "crf")
    read: list[str] = []

    def paint(jobs: Any, params: CrfParams, **_: Any) -> Iterator[ScoreMaps]:
        for area, (_, maps) in zip([*truths, "t1", "t2"], jobs, strict=False):
            read.append(f"{params.refiner} {area}")
            truth = truths.get(area, np.zeros(maps.scores.shape[1:], np.uint8))
            wanted = truth if params.refiner == good else (truth + 1) % len(context.scheme)
            scores = (np.arange(len(context.scheme))[:, None, None] == wanted) & maps.present[:, None, None]
            yield ScoreMaps(scores.astype(np.float32), maps.present)

    monkeypatch.setattr(crf, "refine_many", paint)
    crf.run(root)
    report = json.loads(layout.report("crf").read_text())
    assert {good} <= set(report["refined_by"].values()) <= {good, "none"}
    assert report["miou"] > report["miou_before"]
    bad = "pamr" if good == "crf" else "crf"
    assert f"{good} t1" in read
    assert f"{bad} p1" in read
    assert f"{bad} t1" not in read  # what no class takes does not run on N2


class Alive:
    """Counts arrays that are alive at the same time."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    def watch(self, maps: ScoreMaps) -> ScoreMaps:
        self.now, self.all = self.now + 1, self.all + 1
        self.most = max(self.most, self.now)
        weakref.finalize(maps.scores, self._gone)
        return maps

    def _gone(self) -> None:
        self.now -= 1


def test_maps_of_few_areas_are_alive_at_a_time(tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak memory must not grow with the number of areas; benchmarks/stage_memory.py measures it."""
    root = copy_of(tiled, tmp_path, "crf", refiner="crf")
    for workers, most in (("1", 2), ("2", 5)):  # in the pool: two windows per worker, and the area that is read
        monkeypatch.setenv("WEAKSEG_CRF_WORKERS", workers)
        read, made = Alive(), Alive()
        monkeypatch.setattr(crf, "load_scores", lambda path, read=read: read.watch(load_scores(path)))
        monkeypatch.setattr(crf, "save_scores", lambda path, maps, made=made: made.watch(maps) and None)
        monkeypatch.setattr(Context, "tag_areas", lambda self: ["t1", "t2"] * 5)
        crf.run(root)
        assert read.all == made.all == 12
        assert read.most <= most
        assert made.most <= 2


# ---- irnet: presets, NaN --------------------------------------------------------------------------------------------


def test_published_presets_bring_their_walk_and_pairs(tiled: Path) -> None:
    params = load_params(tiled / "params.yaml").irnet
    walks = candidates(in_force(params))
    assert [(walk.steps, walk.anchor) for walk in walks] == [(4, 1.0), (4, 0.85), (16, 1.0), (16, 0.85)]
    assert in_force(params).radius == 5
    for preset in ("irn_voc", "lid_compat"):
        changed = params.model_copy(update={"preset": preset})
        changed = in_force(changed)
        (walk,) = candidates(changed)
        assert (walk.steps, walk.anchor, changed.radius, changed.pairs_per_step) == (256, 1.0, 10, 152)
        assert (changed.max_drift, FORMS[changed.preset].background, walk.damp) == (float("inf"), True, True)


def test_nan_in_a_boundary_network_is_named(tiled: Path, tmp_path: Path) -> None:
    root = copy_of(tiled, tmp_path, "irnet", weights="none")
    crf_scores = Layout(root).scores("crf")
    shutil.copytree(Layout(root).scores("cam"), crf_scores)
    context = open_context(root)
    options = candidates(context.params.irnet)[0]
    boundary = np.full((16, 16), np.nan, np.float16)
    for area in AREAS:
        path = context.layout.scores("irnet") / "boundaries" / f"{area}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, boundary)
    with torch.no_grad(), pytest.raises(DataError, match=r"values outside.*rerun the boundary map"):
        irnet.try_walks(context, [options])
