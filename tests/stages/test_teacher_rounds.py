"""The teacher's rounds: a fresh student each, the masks of every round audited and logged."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

from weakseg.core.classes import IGNORE
from weakseg.core.layout import Layout
from weakseg.data.store import open_array
from weakseg.methods.scores import load_scores
from weakseg.pipeline.context import open_context
from weakseg.stages.pseudo import choose_on_holdout, mask_of
from weakseg.tracking import connect, send_spool
from weakseg.training.checkpoints import load_checkpoint


def execute(root: Path, *stages: str) -> None:
    for name in stages:
        stage, _, source = name.partition("@")
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)


def set_rounds(root: Path, rounds: int) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["teacher"]["rounds"] = rounds
    (root / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """Three rounds, recorded in MLflow."""
    root = make_workspace(tmp_path_factory.mktemp("workspace"))
    set_rounds(root, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKSEG_TRACKING", "spool")
        execute(root, "tiles", "segment@pixel", "evaluate@pixel", "teacher", "pseudo@teacher", "audit@teacher")
        execute(root, "report")
        assert send_spool(root).problem == ""
    return Layout(root)


def test_every_round_has_a_fresh_student(done: Layout) -> None:
    weights = [
        load_checkpoint(file)["weights"]
        for file in (
            done.checkpoints("pixel") / "seed0.pt",
            *(done.networks("teacher") / f"round{n}.pt" for n in (1, 2)),
        )
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert any(not np.array_equal(weights[first][key], weights[second][key]) for key in weights[first])
    scores = [done.teacher_rounds / "1", done.teacher_rounds / "2", done.scores("teacher")]
    first, second, last = (load_scores(folder / "t1.npz").dense() for folder in scores)
    assert np.abs(first - second).max() > 0.01 < np.abs(second - last).max()


def test_the_audit_measures_the_masks_of_every_round(done: Layout) -> None:
    context = open_context(done.root)
    audit = json.loads(done.report("audit", "teacher").read_text())
    assert len(audit["rounds"]) == 3
    assert audit["rounds"][-1] == {key: value for key, value in audit.items() if key != "rounds"}
    for folder, found in zip(
        [done.teacher_rounds / "1", done.teacher_rounds / "2", done.scores("teacher")], audit["rounds"], strict=True
    ):
        chosen = choose_on_holdout(context, folder)
        labelled = right = total = 0
        for area in ("t1", "t2"):
            mask, truth = mask_of(context, folder, area, chosen), np.asarray(open_array(done.hidden, area))
            inside = (truth != IGNORE) & (mask != IGNORE)
            labelled, right = labelled + inside.sum(), right + (inside & (mask == truth)).sum()
            total += (truth != IGNORE).sum()
        assert found["coverage"] == pytest.approx(labelled / total)
        assert found["accuracy"] == pytest.approx(right / labelled)


def test_the_rounds_are_logged_and_in_the_table(done: Layout) -> None:
    audit = json.loads(done.report("audit", "teacher").read_text())
    client = connect(done.root)
    (run,) = [run for run in client.search_runs(["1"]) if run.info.run_name == "audit@teacher"]
    for metric in ("miou", "coverage", "accuracy"):
        points = client.get_metric_history(run.info.run_id, f"round/{metric}")
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx([row[metric] for row in audit["rounds"]])
    roads = client.get_metric_history(run.info.run_id, "round/iou/impervious_surface")
    assert [point.value for point in roads] == pytest.approx([r["iou"]["impervious_surface"] for r in audit["rounds"]])
    rows = [line for line in done.results.read_text().splitlines() if line.startswith("| teacher")]
    assert [row.split("|")[1].strip() for row in rows] == ["teacher, round 1", "teacher, round 2", "teacher"]
    assert [float(row.split("|")[4]) for row in rows] == pytest.approx([r["miou"] for r in audit["rounds"]], abs=1e-3)


def test_one_round_leaves_nothing_of_an_earlier_run(done: Layout) -> None:
    set_rounds(done.root, 1)
    execute(done.root, "teacher", "pseudo@teacher", "audit@teacher")
    assert not done.teacher_rounds.exists()
    assert "rounds" not in json.loads(done.report("audit", "teacher").read_text())
