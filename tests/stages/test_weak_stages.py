"""The weak-label stages on a tiny workspace with slim, untrained networks: what they read, write and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from tests.bit_sets import bits_of
from tests.slim import slim
from torch import Tensor, nn

from weakseg.core.classes import IGNORE
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.data.crops.augment import Preprocessing
from weakseg.data.store import open_allowed, open_array
from weakseg.methods.cam import area_cam, in_force
from weakseg.methods.irnet.forms import candidates
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import ScoreMaps, load_scores
from weakseg.methods.single_stage.network import SingleStageOutput
from weakseg.pipeline.context import open_context
from weakseg.report.figures import CAPTION, GAP
from weakseg.report.sheets import SIDE, draw_area_sheet
from weakseg.stages import cam, irnet, pseudo, single_stage
from weakseg.stages.classifier import load_classifier

PLAN = (
    *(("tiles", ""), ("classifier", ""), ("cam", ""), ("crf", ""), ("irnet", ""), ("single_stage", "")),
    *(("segment", "pixel"), ("teacher", ""), ("fused", ""), ("pseudo", "cam"), ("audit", "cam"), ("pseudo", "fused")),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    root = make_workspace(tmp_path_factory.mktemp("weak"))
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    slim(raw)
    raw["irnet"] |= {"walk_steps": [2, 4], "anchors": [1.0, 0.8], "classes": "best"}
    raw["crf"] |= {"refiner": "best"}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)
    return Layout(root)


@pytest.mark.parametrize("method", ["cam", "crf", "irnet", "single_stage", "teacher", "fused"])
def test_every_method_scores_every_area_within_its_tags(done: Layout, method: str) -> None:
    for area in ("p1", "p2", "t1", "t2"):
        maps = load_scores(done.scores(method) / f"{area}.npz")
        assert maps.dense().shape == (5, 64, 64)
        allowed = bits_of(open_allowed(done.tiles, area))
        forbidden = (allowed[None] >> np.arange(5)[:, None, None]) & 1 == 0
        if method not in ("crf", "irnet"):  # these two let scores cross the borders of tag crops; pseudo masks them
            assert float(maps.dense()[forbidden].max(initial=0)) == 0.0
    assert not list(done.scores(method).glob("v*.npz"))


def test_classifier_reports_on_the_holdout(done: Layout) -> None:
    report = json.loads(done.report("classifier").read_text())
    assert set(report["average_precision"]) == {"impervious_surface", "building", "low_vegetation", "tree", "car"}
    assert 0 <= report["exact_match"] <= 1
    assert report["crops_trained_on"] == 2 * 16 + 2 * 12  # 4 x 4 crops per area, a column of N1 held out


def remap(done: Layout, folder: Path, tagged: bool, **changes: object) -> tuple[tuple[int, int], ScoreMaps]:
    """The cam stage on t1 with other params, with or without tags: its counts and its maps."""
    context = open_context(done.root)
    params = context.params.model_copy(update={"cam": context.params.cam.model_copy(update=changes)})
    context = replace(context, params=params, layout=Elsewhere(done.root, folder))
    crops = context.crops().select(area="t1")
    if not tagged:
        crops = replace(crops, present=np.zeros_like(crops.present), known=np.zeros_like(crops.known))
    counts = cam.map_area(context, load_classifier(context), crops, "t1")
    return counts, load_scores(folder / "t1.npz")


@dataclass(frozen=True)
class Elsewhere(Layout):
    """A workspace whose new scores go to a folder of the test."""

    folder: Path

    def scores(self, method: str) -> Path:
        return self.folder


def test_crops_without_tags_stay_empty_or_are_predicted(done: Layout, tmp_path: Path) -> None:
    counts, maps = remap(done, tmp_path, tagged=False, label_source="given")
    assert counts == (16, 16)
    assert not maps.scores.any()
    assert not maps.present.any()
    counts, maps = remap(done, tmp_path, tagged=False, label_source="given_or_predicted")
    assert counts == (16, 16)
    cells = maps.dense().reshape(5, 4, 16, 4, 16).max((0, 2, 4))
    assert (cells > 0).any()
    assert maps.present.any()
    expected = remap(done, tmp_path, tagged=True, label_source="given")[1].scores
    found = remap(done, tmp_path, tagged=True, label_source="given_or_predicted")[1].scores
    np.testing.assert_array_equal(found, expected)  # every crop has tags, all of them known


def test_lid_compat_is_the_published_merge_without_context(done: Layout, tmp_path: Path) -> None:
    context = open_context(done.root)
    crops = context.crops().select(area="t1")
    image = np.asarray(open_array(done.tiles / "images", "t1"))
    classifier = load_classifier(context)[0]
    published = context.params.cam.replaced(lid_compat=True)
    whole = area_cam(classifier, image, crops.windows, crops.present, in_force(published), context=0, batch_size=4)
    found = remap(done, tmp_path, tagged=True, lid_compat=True)[1]  # the classifier learnt at the crops' own size
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-3)
    zoomed = in_force(published, 2.0)
    assert zoomed.scales == (2.0, 1.0, 1.5, 4.0)


def test_irnet_chooses_among_its_candidates_and_keeps_boundaries(done: Layout) -> None:
    report = json.loads(done.report("irnet").read_text())
    tried = {(row["steps"], row["anchor"]): row["miou"] for row in report["candidates"]}
    assert set(tried) == {(2, 1.0), (2, 0.8), (4, 1.0), (4, 0.8)}
    assert report["miou"] == max(tried.values()) == tried[report["steps"], report["anchor"]]
    boundary = np.load(done.scores("irnet") / "boundaries" / "t1.npy")
    assert boundary.shape == (16, 16)
    assert 0 <= boundary.min() <= boundary.max() <= 1


def test_all_classes_walk_by_the_holdout_alone_unless_n1_is_asked(
    done: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    counted = irnet.count_changes

    def count(truth: np.ndarray, *args: object, **options: int) -> np.ndarray:
        seen.append(int((truth != IGNORE).sum()))
        return counted(truth, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(irnet, "count_changes", count)
    context = open_context(done.root)
    walks = candidates(context.params.irnet)[:1]
    irnet.try_walks(context, walks)
    assert seen == [(open_array(done.tiles / "whole", area) != IGNORE).sum() for area in ("p1", "p2")]
    seen.clear()
    params = context.params.replaced(irnet=context.params.irnet.replaced(classes="all"))
    ((_, choice),) = irnet.try_walks(replace(context, params=params), walks)
    assert choice.refiners == (1,) * 5
    assert seen == [(open_array(done.tiles / "holdout", area) != IGNORE).sum() for area in ("p1", "p2")]


def test_thresholds_of_what_never_saw_pixels_may_be_chosen_on_all_of_n1(
    done: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(pseudo, "write_report", lambda *_: None)
    monkeypatch.setattr(pseudo, "save_array", lambda *_: None)
    chosen = pseudo.choose_on_holdout

    def choose(context: object, scores: Path, truths: dict[str, np.ndarray] | None = None) -> object:
        seen[scores.name] = truths and sum(int((truth != IGNORE).sum()) for truth in truths.values())
        return chosen(context, scores, truths)  # type: ignore[arg-type]

    monkeypatch.setattr(pseudo, "choose_on_holdout", choose)
    pseudo.run(done.root, "cam")
    assert seen == {"cam": None}
    context = open_context(done.root)
    params = context.params.replaced(pseudo=context.params.pseudo.replaced(all_of_n1=True))
    monkeypatch.setattr(pseudo, "open_context", lambda _: replace(context, params=params))
    pseudo.run(done.root, "cam")
    pseudo.run(done.root, "fused")
    whole, held = (
        sum(int((open_array(done.tiles / folder, area) != IGNORE).sum()) for area in ("p1", "p2"))
        for folder in ("whole", "holdout")
    )
    assert seen == {"cam": whole, "fused": held}
    assert whole > held


@pytest.mark.parametrize(("method", "before"), [("crf", "cam"), ("irnet", "crf")])
def test_a_class_that_is_not_refined_keeps_its_pixels(done: Layout, method: str, before: str) -> None:
    report = json.loads(done.report(method).read_text())
    names = open_context(done.root).scheme.names
    kept = [index for index, name in enumerate(names) if report["refined_by"][name] == "none"]
    for name in names:
        assert not (report["iou"][name] or 0) < (report["iou_before"][name] or 0)
    for area in ("p1", "t1", "t2"):
        allowed = open_allowed(done.tiles, area)
        old, new = (
            pseudo_mask(load_scores(done.scores(m) / f"{area}.npz"), allowed, min_score=0, min_margin=0)
            for m in (before, method)
        )
        for index in kept:
            np.testing.assert_array_equal(old == index, new == index)


def test_fused_weights_are_the_best_on_the_holdout(done: Layout) -> None:
    report = json.loads(done.report("fused").read_text())
    assert len(report["candidates"]) == 4  # two experts, two weights each
    assert report["holdout_miou"] == max(row["holdout_miou"] for row in report["candidates"])


def test_pseudo_masks_obey_the_tags_and_single_tags_fill_their_crop(done: Layout) -> None:
    for method in ("cam", "fused"):
        mask = np.asarray(open_array(done.pseudo(method), "t1"))
        allowed = bits_of(open_allowed(done.tiles, "t1"))
        labelled = mask != IGNORE
        assert ((allowed[labelled] >> mask[labelled].astype(np.int32)) & 1).all()
        single = (allowed & (allowed - 1)) == 0
        assert labelled[single].all()


def test_audit_writes_its_sweep_and_a_sheet_of_every_area(done: Layout) -> None:
    report = json.loads(done.report("audit", "cam").read_text())
    assert report["areas"] == 2
    assert 0 < report["coverage"] <= 1
    free = report["winners"]
    assert free["coverage"] == 1.0  # maps of tag crops say something of every pixel
    assert [(row["smallest"], row["objects"]) for row in free["objects"]["building"] if row["objects"]] == [
        (row["smallest"], row["objects"]) for row in report["objects"]["building"] if row["objects"]
    ]
    assert done.sweep("cam").read_text().splitlines()[0] == "min_score,min_margin,coverage,accuracy,miou"
    assert sorted(path.name for path in done.sheets("cam").iterdir()) == ["t1.jpg", "t2.jpg"]
    sheet = cv2.imread(str(done.sheets("cam") / "t1.jpg"))
    assert sheet.shape[0] == 2 * (SIDE + CAPTION)  # nothing that only later stages make


@pytest.mark.parametrize(
    ("method", "rows", "first"), [("cam", 3, 3), ("crf", 4, 2), ("irnet", 3, 3), ("teacher", 2, 2)]
)
def test_a_sheet_shows_what_there_is(
    done: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, rows: int, first: int
) -> None:
    """Image, truth, (pseudo-mask), (boundary), legend; then rows of scores, before and after the method."""
    monkeypatch.setattr(Layout, "sheets", lambda self, name: tmp_path / name)
    path = draw_area_sheet(done.root, method, "t1")
    sheet = cv2.imread(str(path))
    assert path == tmp_path / method / "t1.jpg"
    assert sheet.shape[:2] == (rows * (SIDE + CAPTION), 6 * (SIDE + GAP))  # five classes and the winner
    top = sheet[CAPTION : CAPTION + SIDE]
    white = (top > 245).all((0, 2))
    panels = [not white[place * (SIDE + GAP) + 20] for place in range(first)]
    assert all(panels)
    assert white[-20]
    image = np.asarray(open_array(done.tiles / "images", "t1"))[..., ::-1]
    shown = cv2.resize(top[:, :SIDE], image.shape[:2], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - image).mean() < 8


def test_a_sheet_needs_an_area(done: Layout) -> None:
    with pytest.raises(StageError, match=r"area v1; expected an area of N1 or N2; choose from .*areas\.csv"):
        draw_area_sheet(done.root, "cam", "v1")


class Recorder(nn.Module):
    """A single-stage network that notes the sizes it sees and finds all classes equally likely."""

    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> SingleStageOutput:
        self.seen.append((images.shape[-2], images.shape[-1]))
        return SingleStageOutput(torch.zeros(len(images), 5, 8, 8), torch.zeros(len(images), 5))


def test_single_stage_predicts_at_the_zoom_it_learnt(done: Layout) -> None:
    """Tag crops of 16 px are learnt at 32 px: the windows of 32 px (two crops) must be seen at 64 px."""
    context = open_context(done.root)
    zoom = single_stage.training_zoom(context.crops(), context.params.single_stage.crop)
    assert zoom == 2.0
    network = Recorder()
    single_stage.predict_area(context, network, "t1", zoom)  # type: ignore[arg-type]
    assert set(network.seen) == {(64, 64)}
