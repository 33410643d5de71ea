"""`weakseg choose`: the ranking by hand, and that neither hidden truth nor validation has a say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.generators.small_networks import save_network, unpool
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.stages import tiles
from weakseg.studies.choose import choose_source, rank, sentence

NAMES = ("a", "b")


def matrix(right: int, wrong: int) -> np.ndarray:
    """Both classes alike: ``right`` px of each as they are, ``wrong`` as the other; IoU right / (right + 2 wrong)."""
    return np.array([[right, wrong], [wrong, right]], np.int64)


def pieces(*wrong: int) -> dict[str, np.ndarray]:
    return {f"area {number}": matrix(60 - one, one) for number, one in enumerate(wrong)}


def test_ranking_by_hand() -> None:
    """20 of 60 wrong: 40 / 80; 10: 50 / 70; the same in every piece, so that no draw differs."""
    ranked = rank({"pixel": pieces(20, 20), "teacher": pieces(10, 10)}, NAMES, draws=100, seed=0)
    assert [one.source for one in ranked] == ["teacher", "pixel"]
    assert ranked[1].scores.miou.value == 0.5
    assert ranked[1].ahead.value == pytest.approx(5 / 7 - 0.5)
    assert (ranked[1].ahead.low, ranked[1].ahead.high) == pytest.approx((5 / 7 - 0.5,) * 2)
    assert not ranked[1].level
    assert sentence(ranked) == (
        "take teacher: mIoU 0.714 on the hold-out, +0.214 [+0.214, +0.214] over task (i); "
        "above all others by more than noise"
    )


def test_what_differs_from_piece_to_piece_is_not_told_apart() -> None:
    ranked = rank({"pixel": pieces(20, 0, 20, 0), "teacher": pieces(0, 19, 0, 19)}, NAMES, draws=500, seed=0)
    assert [one.source for one in ranked] == ["teacher", "pixel"]
    assert ranked[1].ahead.low < 0 < ranked[1].ahead.high
    assert ranked[1].level
    assert sentence(ranked).endswith("; the hold-out cannot tell it from pixel")


def test_of_equals_the_earlier_and_one_piece_has_no_interval() -> None:
    ranked = rank({"pixel": pieces(5), "fused": pieces(5)}, NAMES, draws=10, seed=0)
    assert [one.source for one in ranked] == ["pixel", "fused"]
    assert np.isnan(ranked[1].ahead.low)
    assert ranked[1].level


@pytest.fixture
def trained(workspace: Path) -> Path:
    """Tiles, and random networks for pixel, cam and the oracle."""
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw |= {"sources": ["pixel", "full", "cam", "crf"], "methods": ["cam", "crf"]}
    raw["segment"] |= {"refit": False}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    tiles.run(workspace)
    for number, source in enumerate(("pixel", "cam", "full")):
        save_network(Layout(workspace).checkpoints(source) / "seed0.pt", unpool(16), seed=number)
    return workspace


def test_neither_hidden_truth_nor_validation_nor_the_oracle_is_read(trained: Path) -> None:
    layout = Layout(trained)
    before = choose_source(trained)
    assert {one.source for one in before} == {"pixel", "cam"}  # crf is not trained
    report = json.loads((layout.reports / "choose.json").read_text())
    assert report["chosen"] == before[0].source
    assert report["pieces"] == 2 * 4
    for folder in (layout.hidden, layout.validation, layout.data, layout.checkpoints("full"), layout.reports):
        shutil.rmtree(folder, ignore_errors=True)
    assert choose_source(trained) == before


def refit(root: Path) -> Layout:
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["segment"] |= {"refit": True, "seeds": [0, 1]}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    layout = Layout(root)
    for number, source in enumerate(("pixel", "cam")):
        folder = layout.checkpoints(source)
        shutil.copyfile(folder / "seed0.pt", folder / "seed1.pt")
        (folder / "choosing").mkdir()
        save_network(folder / "choosing" / "seed0.pt", unpool(16), seed=10 + number)
    return layout


def test_with_refit_the_network_that_never_saw_the_hold_out_is_measured(trained: Path) -> None:
    """What the reported networks are does not matter: they have trained on these blocks."""
    layout = refit(trained)
    before = choose_source(trained)
    save_network(layout.checkpoints("cam") / "seed0.pt", unpool(16), seed=77)
    assert choose_source(trained) == before
    shutil.copyfile(*(layout.checkpoints(name) / "choosing" / "seed0.pt" for name in ("pixel", "cam")))
    assert {one.scores.miou.value for one in choose_source(trained)} == {
        next(one.scores.miou.value for one in before if one.source == "pixel")
    }


def test_with_refit_a_source_without_that_network_is_refused(trained: Path) -> None:
    layout = refit(trained)
    (layout.checkpoints("cam") / "choosing" / "seed0.pt").unlink()
    with pytest.raises(StageError, match=r"no cam/choosing/seed0.pt, and cam has trained on the hold-out; expected a"):
        choose_source(trained)


def test_the_command_says_it(trained: Path) -> None:
    result = CliRunner().invoke(app, ["--root", str(trained), "choose"])
    assert result.exit_code == 0, result.output
    first, *_, last = result.output.strip().splitlines()
    assert last.startswith(f"take {first.split()[0]}: mIoU ")
    assert " behind by " in result.output


def test_one_source_is_no_choice(trained: Path) -> None:
    shutil.rmtree(Layout(trained).checkpoints("cam"))
    with pytest.raises(StageError, match="pixel trained with seeds 0; expected two sources at least"):
        choose_source(trained)
