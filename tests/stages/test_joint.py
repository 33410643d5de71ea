"""The sources joint and untagged, and refit: what each training may know, and masks that are made while it runs."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.bit_sets import bits_of, save_bits

from weakseg.core.classes import IGNORE
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.data.store import fingerprint, list_areas, open_allowed, open_array, save_array
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import open_context
from weakseg.pipeline.mask_making import MaskMaking
from weakseg.pipeline.network_scores import network_scores, tag_errors
from weakseg.stages import segment
from weakseg.stages.segment import choosing_network
from weakseg.studies.ablation import run_ablation
from weakseg.studies.variants import Variant
from weakseg.training.checkpoints import load_checkpoint
from weakseg.training.segmenter import load_segmenter


def run(root: Path, stage: str, source: str = "") -> None:
    module = import_module(f"weakseg.stages.{stage}")
    module.run(root, source) if source else module.run(root)


def edit(root: Path, section: str, **values: Any) -> None:
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section] |= values
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def draw_experts(layout: Layout, seed: int = 0) -> None:
    """Scores of the two experts of fused at random, zero where the tags forbid a class."""
    rng = np.random.default_rng(seed)
    for expert in ("irnet", "single_stage"):
        for area in list_areas(layout.tiles, "pixel", "tags"):
            planes = open_allowed(layout.tiles, area).planes()
            scores = (planes * rng.random(planes.shape)).astype(np.float32)
            save_scores(layout.scores(expert) / f"{area}.npz", ScoreMaps.of(scores, planes.any((1, 2))))


def weights_of(layout: Layout, source: str, folder: str = ".") -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(layout.checkpoints(source) / folder / "seed0.pt")["weights"])


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """A workspace with task (i), the experts, joint and untagged."""
    root = make_workspace(tmp_path_factory.mktemp("joint"))
    edit(root, "joint", make_masks=[0.25, 0.75])
    run(root, "tiles")
    draw_experts(Layout(root))
    run(root, "segment", "pixel")
    run(root, "experts")
    for source in ("joint", "untagged"):
        run(root, "choice", source)
        run(root, "segment", source)
    return Layout(root)


@pytest.fixture
def copy(done: Layout, tmp_path: Path) -> Layout:
    """A copy of it to change."""
    shutil.copytree(done.root, tmp_path / "copy")
    return Layout(tmp_path / "copy")


def test_a_choice_names_experts_for_joint_and_none_for_untagged(done: Layout) -> None:
    joint, untagged = (json.loads(done.choices(source).read_text()) for source in ("joint", "untagged"))
    assert joint["seed0"]["tagged"]
    assert len(joint["seed0"]["weights"]) == 2
    assert len(joint["seed0"]["min_score"]) == 5
    assert (untagged["seed0"]["tagged"], untagged["seed0"]["weights"]) == (False, [])
    assert joint["experts"] == fingerprint(done.experts("joint"))


def test_other_scores_of_an_expert_change_what_the_training_depends_on(copy: Layout) -> None:
    before = copy.choices("joint").read_text()
    draw_experts(copy, seed=1)
    run(copy.root, "experts")
    run(copy.root, "choice", "joint")
    assert json.loads(copy.choices("joint").read_text())["experts"] != json.loads(before)["experts"]


def test_masks_are_made_while_it_trains_and_forgotten_after(copy: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, float]] = []
    renew = MaskMaking.renew

    def watched(self: MaskMaking, model: Any, step: int) -> None:
        renew(self, model, step)
        assert self.masks is not None
        masks = [np.asarray(open_array(self.masks, area)) for area in ("t1", "t2")]
        made.append((step, float(np.mean([(mask != IGNORE).mean() for mask in masks]))))

    monkeypatch.setattr(MaskMaking, "renew", watched)
    run(copy.root, "segment", "joint")
    assert [step for step, _ in made] == [1, 3, 1, 3]  # of 4 steps, in the choosing training and in the last one
    assert all(share > 0.1 for _, share in made)
    assert not list((copy.out / "resume").glob("*"))


def test_a_training_that_is_cut_between_two_makings_ends_the_same(
    copy: Layout, done: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resume file lies at step 2: the masks of step 1 count until step 3, though those of step 3 were made."""
    made: list[int] = []
    renew = MaskMaking.renew
    context = open_context(copy.root)
    labelled, weak = segment.open_sources(context, "joint")

    def stop(row: Mapping[str, float], step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    def go(report: Callable[[Mapping[str, float], int], None]) -> dict[str, torch.Tensor]:
        return segment.train_segmenter(context, "joint", labelled, weak, 0, "x", report)[1].state_dict()

    def counted(self: MaskMaking, model: Any, step: int) -> None:
        made.append(step if model is not None else -step)
        renew(self, model, step)

    monkeypatch.setattr(MaskMaking, "renew", counted)
    with pytest.raises(KeyboardInterrupt):
        go(stop)
    assert made == [1, 3]
    made.clear()
    resumed = go(lambda row, step: None)
    assert made == [-1, 3]
    assert equal(resumed, weights_of(done, "joint", "choosing"))


def stop_at(last: int) -> Callable[[Mapping[str, float], int], None]:
    """A report that ends the process, as it were, before the resume file of this step is written."""

    def report(row: Mapping[str, float], step: int) -> None:
        if step == last:
            raise KeyboardInterrupt

    return report


def train(layout: Layout, identity: str, *, whole: bool = False, last: int = 99) -> dict[str, torch.Tensor]:
    context = open_context(layout.root)
    labelled, weak = segment.open_sources(context, "joint", whole=whole)
    report = stop_at(last)
    return segment.train_segmenter(context, "joint", labelled, weak, 0, identity, report, whole=whole)[1].state_dict()


def test_a_cut_in_the_last_training_survives_that_the_first_is_done_again(copy: Layout, done: Layout) -> None:
    """DVC removes what a stage made before it runs again: the choosing training comes again too, and clears up."""
    with pytest.raises(KeyboardInterrupt):
        train(copy, "x", whole=True, last=4)
    train(copy, "x")
    assert equal(train(copy, "x", whole=True), weights_of(done, "joint"))
    assert not list((copy.out / "resume").glob("*"))


def test_masks_of_another_training_are_never_taken(copy: Layout, done: Layout) -> None:
    """Other params were tried in between and cut off after their masks, before their first resume file."""
    with pytest.raises(KeyboardInterrupt):
        train(copy, "x", last=4)
    params = (copy.root / "params.yaml").read_text()
    raw = yaml.safe_load(params)
    raw["segment"]["optimiser"]["lr"] = 1.0
    (copy.root / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(KeyboardInterrupt):
        train(copy, "y", last=2)
    (copy.root / "params.yaml").write_text(params)
    assert equal(train(copy, "x"), weights_of(done, "joint", "choosing"))


def test_untagged_reads_no_tag(copy: Layout, done: Layout) -> None:
    """Other tags, the same network: bit for bit."""
    for area in list_areas(copy.tiles, "tags"):
        allowed = bits_of(open_allowed(copy.tiles, area))
        save_bits(copy.tiles, area, np.where(allowed == 0, 0, 1))
        save_array(copy.tiles / "windows", area, np.full(allowed.shape, -1, np.int32))
    run(copy.root, "choice", "untagged")
    run(copy.root, "segment", "untagged")
    assert equal(weights_of(copy, "untagged"), weights_of(done, "untagged"))
    assert not equal(weights_of(done, "untagged"), weights_of(done, "joint"))


def test_refit_sees_the_holdout_and_the_choosing_network_does_not(copy: Layout, done: Layout) -> None:
    for area in list_areas(copy.tiles, "pixel"):
        held = np.asarray(open_array(copy.tiles / "holdout", area))
        whole = np.asarray(open_array(copy.tiles / "whole", area))
        save_array(copy.tiles / "whole", area, np.where(held != IGNORE, 0, whole).astype(np.uint8))
    run(copy.root, "segment", "pixel")
    assert equal(weights_of(copy, "pixel", "choosing"), weights_of(done, "pixel", "choosing"))
    assert not equal(weights_of(copy, "pixel"), weights_of(done, "pixel"))


def test_whole_is_the_labels_and_the_holdout(done: Layout) -> None:
    for area in list_areas(done.tiles, "pixel"):
        labels, held, whole = (np.asarray(open_array(done.tiles / k, area)) for k in ("labels", "holdout", "whole"))
        assert (whole == np.where(held != IGNORE, held, labels)).all()
        assert ((labels == IGNORE) | (held == IGNORE)).all()


def test_later_seeds_train_once(done: Layout) -> None:
    params = open_context(done.root).params.segment.model_copy(update={"seeds": (0, 1)})
    assert segment.trainings(params, "joint", 0) == (False, True)
    assert segment.trainings(params, "joint", 1) == (True,)
    assert segment.trainings(params, "pixel", 1) == (False, True)  # thresholds of joint's second seed come from it
    assert segment.trainings(params.model_copy(update={"refit": False}), "joint", 0) == (False,)


def test_a_seed_without_a_choice_is_refused(copy: Layout) -> None:
    edit(copy.root, "segment", seeds=[7])
    with pytest.raises(StageError, match=r"no choice for seed 7 .*run choice@joint"):
        run(copy.root, "segment", "joint")


def test_an_ablation_row_chooses_weights_and_thresholds_of_its_own(copy: Layout) -> None:
    """Only what the row names is chosen again; a row without stages takes the workspace's choice."""
    before = copy.choices("joint").read_text()
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        apart = importlib.import_module("weakseg.studies.apart")
        run_one = apart.run_stage

        def note(root: Path, stage: str, source: str | None) -> None:
            run_one(root, stage, source)
            if stage == "choice":
                made.append(Layout(root).choices("joint").read_text())

        patch.setattr(apart, "run_stage", note)
        rows = [
            Variant("joint", "joint", {}),
            Variant("experts", "joint", {"fused.weights": (0.25,)}, ("experts", "choice@joint")),
        ]
        found = run_ablation(copy.root, rows, [0], lambda _line: None)["rows"]
    assert [row["name"] for row in found] == ["joint", "experts"]
    assert len(made) == 1
    assert json.loads(made[0])["seed0"]["weights"] == [0.25, 0.25]
    assert copy.choices("joint").read_text() == before


def test_stated_errors_of_tags_reach_masks_and_training(copy: Layout, done: Layout) -> None:
    """Classes that the tags do not name may win on N2; without tags nothing is another."""
    edit(copy.root, "tags", missing_rate=0.4, wrong_rate=0.1)
    context = open_context(copy.root)
    errors = tag_errors(context)
    assert errors is not None
    crops = [
        crop for crop, split in zip(context.crops().present, context.crops().splits, strict=True) if split == "tags"
    ]
    assert errors.tagged.tolist() == pytest.approx(np.mean(crops, 0).tolist())  # of N2 alone: N1's tags are right
    assert tag_errors(open_context(done.root)) is None
    model, _ = load_segmenter(choosing_network(context, 0))
    hard, _ = network_scores(context, model, "t1")
    soft, _ = network_scores(context, model, "t1", errors=errors)
    forbidden = ~open_allowed(copy.tiles, "t1").planes()
    assert not hard.dense()[forbidden].any()
    named = errors.outside > 0
    assert (soft.dense()[named][forbidden[named]] > 0).all()
    for source in ("joint", "untagged"):
        run(copy.root, "choice", source)
        run(copy.root, "segment", source)
    assert not equal(weights_of(copy, "joint"), weights_of(done, "joint"))
    assert equal(weights_of(copy, "untagged"), weights_of(done, "untagged"))
