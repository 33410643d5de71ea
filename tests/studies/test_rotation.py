"""`weakseg choose --blocks`: folds, maps that no network knew by heart, and the recipe, on a tiny workspace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scripts.choose_agreement import agree_on_recipe
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import IGNORE
from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params, with_changes
from weakseg.data.store import list_areas, open_allowed, open_array
from weakseg.evaluation.bootstrap import Interval
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import open_context
from weakseg.pipeline.network_scores import Choice
from weakseg.stages import tiles
from weakseg.studies import rotation
from weakseg.studies.recipe import Fusion, Recipe, recipe_values
from weakseg.studies.rotation import (
    choice_for,
    count_blocks,
    make_rotation,
    maps_of_n1,
    measure_source,
    prepare,
    trained,
)

STEPS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Path:
    """Tiles, and scores of the experts: irnet paints the truth of N1, single_stage draws at random."""
    root = make_workspace(tmp_path_factory.mktemp("rotation"))
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["fused"] |= {"weights": [0.0, 2.0]}
    raw["joint"] |= {"make_masks": [0.5]}
    raw["report"] |= {"draws": 50}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    tiles.run(root)
    layout, rng = Layout(root), np.random.default_rng(0)
    for area in list_areas(layout.tiles, "pixel", "tags"):
        planes = open_allowed(layout.tiles, area).planes()
        truth = np.asarray(open_array(layout.tiles / "whole" if area[0] == "p" else layout.hidden, area))
        for name, scores in (
            ("irnet", (np.arange(5)[:, None, None] == truth) * 1.0),
            ("single_stage", rng.random(planes.shape)),
        ):
            maps = ScoreMaps.of((planes * scores).astype(np.float32), planes.any((1, 2)))
            save_scores(layout.scores(name) / f"{area}.npz", maps)
    return root


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_folds_share_n1_out(root: Path) -> None:
    """Every labelled pixel is held out in one fold and trained on in the others; the workspace itself stays."""
    context = open_context(root)
    found = make_rotation(context, 2, STEPS)
    for area in ("p1", "p2"):
        whole = np.asarray(open_array(context.layout.tiles / "whole", area))
        held = [np.asarray(open_array(fold.context.layout.tiles / "holdout", area)) for fold in found.folds]
        labels = [np.asarray(open_array(fold.context.layout.tiles / "labels", area)) for fold in found.folds]
        np.testing.assert_array_equal(held[0][:, :32], whole[:, :32])
        np.testing.assert_array_equal(held[1][:, 32:], whole[:, 32:])
        for one, other in zip(held, labels, strict=True):
            np.testing.assert_array_equal(np.where(one != IGNORE, one, other), whole)
            assert not ((one != IGNORE) & (other != IGNORE)).any()
        assert not (held[0] != IGNORE)[:, 32:].any()
    params = found.folds[0].context.params.segment
    assert (params.refit, params.optimiser.steps) == (False, STEPS)
    assert "fold" not in str(context.layout.tiles)


@pytest.mark.parametrize("blocks", [1, 5])
def test_blocks_that_n1_has_no_columns_for_are_refused(root: Path, blocks: int) -> None:
    with pytest.raises(ParamsError, match=f"{blocks} blocks; expected 2 to 4, the columns of tag crops in an N1 area"):
        make_rotation(open_context(root), blocks, STEPS)


def test_every_block_is_scored_by_the_network_that_never_saw_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_rotation(open_context(root), 2, STEPS)
    numbers = {fold.place: number for number, fold in enumerate(found.folds)}

    def flat(context: object, model: object, area: str, *, tagged: bool) -> tuple[ScoreMaps, int]:
        value = 0.25 + 0.5 * numbers[context.layout.root]  # type: ignore[attr-defined]
        return ScoreMaps(np.full((5, 64, 64), value, np.float32), np.ones(5, bool)), 0

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "network_scores", flat)
        patch.setattr(rotation, "trained", lambda fold, source: None)
        maps = maps_of_n1(found, tagged=False)["p1"].scores
    assert (maps[:, :, :32] == 0.25).all()
    assert (maps[:, :, 32:] == 0.75).all()
    shutil.rmtree(found.folds[0].place.parent / "own_untagged")


def test_a_perfect_expert_is_taken_and_its_gain_told(root: Path) -> None:
    found = make_rotation(open_context(root), 2, STEPS)
    choice = choice_for(found, "fused")
    assert choice.weights == (2.0, 0.0)
    own = maps_of_n1(found, tagged=True)
    blocks = count_blocks(found, own, choice.weights)
    assert [sorted(tables) for tables in blocks] == [["p1", "p2"]] * 2
    labelled = sum(int((truth != IGNORE).sum()) for truth in found.truths().values())
    assert sum(int(table.sum()) for tables in blocks for table in tables.values()) == labelled
    assert choice_for(found, "teacher").weights == ()
    assert not choice_for(found, "untagged").tagged


def test_a_fold_is_chosen_for_without_its_own_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """joint's weights in a fold come from the other block, of which alone the truth is given."""
    found = make_rotation(open_context(root), 2, STEPS)
    given: list[int] = []
    chosen = rotation.choose_by

    def note(base: object, own: object, truths: dict[str, np.ndarray], **options: object) -> object:
        given.append(sum(int((truth[:, :32] != IGNORE).sum()) for truth in truths.values()))
        return chosen(base, own, truths, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rotation, "choose_by", note)
    prepare(found, found.folds[0], "joint")
    prepare(found, found.folds[1], "joint")
    left = sum(int((truth[:, :32] != IGNORE).sum()) for truth in found.truths().values())
    assert given == [0, left]
    kept = json.loads(found.folds[0].context.layout.choices("joint").read_text())
    assert kept["seed0"]["weights"] == [2.0, 0.0]


@pytest.mark.parametrize("source", ["irnet", "fused"])
def test_masks_of_a_fold_know_the_other_blocks_alone(root: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    found = make_rotation(open_context(root), 2, STEPS)
    prepare(found, found.folds[1], source)
    masks = {path.stem: np.load(path) for path in found.folds[1].context.layout.labels_of(source).glob("*.npy")}
    assert sorted(masks) == ["t1", "t2"]
    truth = np.asarray(open_array(found.base.layout.hidden, "t1"))
    sure = masks["t1"] != IGNORE
    assert sure.any()
    if source == "irnet":
        assert (masks["t1"] == truth)[sure & (truth != IGNORE)].all()


def test_trainings_are_kept_and_the_recipe_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--root", str(copy), "choose", "--blocks", "2", "--steps", str(STEPS), "--sources", "pixel,joint"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.strip().splitlines()
    assert sorted(line.split()[0] for line in lines[:2]) == ["joint", "pixel"]
    assert lines[2] == "2 blocks of every N1 area, trainings of 3 steps"
    assert lines[3].startswith("experts: irnet 2, single_stage 0; +")
    assert lines[3].endswith("; 2 of 2 blocks alone would take them")
    assert lines[-1].startswith("take ")
    report = json.loads((copy / "reports" / "choose.json").read_text())
    assert report["fusion"]["weights"] == {"irnet": 2.0, "single_stage": 0.0}
    assert set(report["sources"]) == {"pixel", "joint"}
    monkeypatch.setattr(rotation, "train_segmenter", None)  # nothing is trained again
    assert CliRunner().invoke(app, arguments).output == result.output


def test_the_recipe_goes_into_the_params_and_nothing_else(copy: Path) -> None:
    """The expert without a weight goes, the other keeps its own; a second call finds nothing to do."""
    path = copy / "params.yaml"
    before = load_params(path)
    arguments = ["--root", str(copy), "choose", "--blocks", "2", "--steps", str(STEPS), "--apply"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-2:] == [
        "fused.experts: ['irnet', 'single_stage'] -> ['irnet']",
        "fused.weights: [0.0, 2.0] -> [2.0]",
    ]
    assert load_params(path) == with_changes(before, {"fused.experts": ["irnet"], "fused.weights": [2.0]})
    again = CliRunner().invoke(app, arguments)
    assert again.output.splitlines()[-1] == "params.yaml has these values already"


@pytest.mark.parametrize(("taken", "value"), [("none", None), ("pamr", "best")])
def test_values_of_a_recipe_by_hand(taken: str, value: str | None) -> None:
    refiners = {"crf": {"refined_by": {"road": "none", "car": taken}}}
    plain = Recipe(2, 10, None, refiners, ())
    assert recipe_values(plain, ("irnet",)) == ({"crf.refiner": value} if value else {})
    choice = Choice(True, (0.0,), (0.5,), (0.0,), 0.5)
    silent = replace(plain, refiners={}, fusion=Fusion(choice, Interval(0.0, 0.0, 0.0), ((0.0,),)))
    assert recipe_values(silent, ("irnet",)) == {"fused.experts": [], "fused.weights": [0.0]}


def test_neither_hidden_truth_nor_validation_is_read(copy: Path) -> None:
    layout = Layout(copy)
    for folder in (layout.hidden, layout.validation, layout.data):
        shutil.rmtree(folder)
    found = make_rotation(open_context(copy), 2, STEPS)
    tables = measure_source(found, "pixel")
    assert sorted(tables) == ["p1 0", "p1 1", "p2 0", "p2 1"]
    assert trained(found.folds[0], "pixel").training is not None


def test_agreement_with_the_hidden_truth(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The perfect expert is right on N2 too: nothing is lost by taking it, and both blocks alone take it."""
    monkeypatch.setenv("WEAKSEG_CRF_WORKERS", "1")
    layout = Layout(copy)
    shutil.copytree(layout.scores("single_stage"), layout.scores("cam"))
    recipe, refiners = agree_on_recipe(copy, 2, STEPS)
    cells = recipe.splitlines()[2].strip("| ").split(" | ")
    assert cells == ["weights of the experts", "2, 0", "2, 0", "2 of 2", "0.000", "0.000"]
    assert recipe.splitlines()[3].startswith("| thresholds (mIoU of masks at their coverage) | 1.000 at ")
    assert [line.split(" | ")[0] for line in refiners.splitlines()[2:]] == [
        "| crf for all",
        "| pamr for all",
        "| each class its own",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sources", "pixel,joint"], "--blocks beside them"),
        (["--apply"], "--blocks beside them"),
        (["--blocks", "2", "--sources", "joint"], "two at least"),
        (["--blocks", "2", "--sources", "joint,crayon"], "--sources crayon"),
        (["--blocks", "2", "--sources", "joint,boxes"], "source boxes"),
        (["--blocks", "2", "--sources", "pixel,full"], "source full"),
    ],
)
def test_refusals(root: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["--root", str(root), "choose", *options])
    assert result.exit_code != 0
    assert message in str(result.output) + str(result.exception)
