"""Two of a kind at once: one waits for the other, or says who is there; what comes out is what one alone makes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults import forks, tally
from tests.faults.clones import Clone, differing, remove, run_dvc, run_stage
from tests.faults.forks import Ended


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    return finished.copy(tmp_path / "home" / "work")


def together(clone: Clone, *works: Callable[[], object], **environment: str) -> list[Ended]:
    started = [forks.start(work, folder=clone.root, environment=clone.environment | environment) for work in works]
    return [one.wait() for one in started]


def command(*words: str) -> Callable[[], None]:
    def work() -> None:
        import sys

        from weakseg.cli import main

        sys.argv = ["weakseg", *words]
        main()

    return work


@pytest.mark.faults
def test_two_repro(clone: Clone) -> None:
    """DVC itself says who is there; with --wait-for-lock the second waits."""
    whole = clone.outputs()
    remove(clone.root, ["out/tiles", "out/scores/cam"])
    for words in (["repro", "cam"], ["--wait-for-lock", "repro", "cam"]):
        ended = together(clone, *[lambda words=words: run_dvc(clone.root, words)] * 2)
        assert min(one.code for one in ended) == 0, ended
        for one in ended:
            assert one.code == 0 or "lock" in one.said, one.said
    clone.dvc("repro", "cam")
    assert differing(whole, clone.outputs()) == []
    tally.injected("two at once", 2)
    tally.survived("two at once", 2)


@pytest.mark.faults
def test_two_predictions_into_one_file(clone: Clone) -> None:
    words = ["predict", "data/images/v1.tif", "maps/v1.tif", "--model", "out/checkpoints/pixel/seed0.pt"]
    work = command(*words, "--engine", "torch", "--no-resume")
    assert together(clone, work)[0].code == 0
    alone = (clone.root / "maps" / "v1.tif").read_bytes()
    ended = together(clone, work, work)
    assert min(one.code for one in ended) == 0
    for one in ended:
        assert one.code == 0 or "wait until the other one ends" in one.said, one.said
    assert (clone.root / "maps" / "v1.tif").read_bytes() == alone
    tally.injected("two at once")
    tally.survived("two at once")


@pytest.mark.faults
def test_two_searches_of_one_name(clone: Clone) -> None:
    """The second says that the study is there; with --resume it joins, and the budget is kept."""
    clone.change(lambda params: params["tune"].update(trials=3, startup=1, steps=2))
    start = time.monotonic()
    first, second = together(clone, command("tune", "--study", "s"), command("tune", "--study", "s"))
    assert sorted([first.code, second.code]) == [0, 1], (first.said, second.said, time.monotonic() - start)
    assert "study s is there; expected a new one; go on with --resume" in first.said + second.said
    joined = together(clone, *[command("tune", "--study", "s", "--trials", "5", "--resume")] * 2)
    assert [one.code for one in joined] == [0, 0], joined
    clone.fork(lambda: count_trials(clone.root, 5))
    tally.injected("two at once", 2)
    tally.survived("two at once", 2)


def count_trials(root: Path, wanted: int) -> None:
    from weakseg.studies import load_study, open_storage
    from weakseg.studies.study import counted

    assert len(counted(load_study(open_storage(root, None), "s"))) == wanted


@pytest.mark.faults
def test_two_promotions(clone: Clone) -> None:
    """One moves the alias; the other waits, or says who holds the registry, and its version is refused by the gates."""
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/mlflow.db"}
    clone.fork(command("promote", "pixel"), **environment)
    ended = together(clone, *[command("promote", "pixel")] * 2, **environment)
    for one in ended:
        assert "Traceback" not in one.said, one.said
        assert one.code in (0, 1, 2), one.said
    log = [json.loads(line) for line in (clone.root / "results" / "promotions.jsonl").read_text().splitlines()]
    versions = [line["version"] for line in log]
    assert len(set(versions)) == len(versions)
    assert versions[0] == "1"
    clone.fork(lambda: check_champion(clone.root, [line for line in log if line["action"] == "promote"][-1]["version"]))
    tally.injected("two at once")
    tally.survived("two at once")


def check_champion(root: Path, version: str) -> None:
    import os

    from weakseg.registry.versions import champion_of

    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    found = champion_of(root, "weakseg")
    assert found is not None
    assert found[0] == version


@pytest.mark.faults
def test_answers_while_tiles_runs(clone: Clone) -> None:
    """`weakseg tag` cuts its pictures from the areas and keeps every answer, while the stage that writes areas runs."""
    whole = clone.outputs()
    for _ in range(3):
        remove(clone.root, ["out/boxes"])
        tagged, tiles = together(clone, lambda: answer_all(clone.root), lambda: run_stage(clone.root, "tiles"))
        assert (tagged.code, tiles.code) == (0, 0), tagged.said + tiles.said
        assert differing(whole, clone.outputs()) == []
        tally.injected("two at once")
        tally.survived("two at once")


def answer_all(root: Path) -> None:
    """Ask the running server for every crop and its picture, and answer it."""
    import threading

    from tests.tagging.test_server import Client, answers

    from weakseg.tagging.run import tag_server

    kept = len(answers(root)) if (root / "tagging" / "answers.jsonl").exists() else 0
    with tag_server(root, model="none") as (server, said):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client, given = Client(said.splitlines()[0]), 0
        while crops := client.next(4)["crops"]:
            for crop in crops:
                client.answer(crop, f"{kept}-{given}")
                given += 1
        server.shutdown()
    assert len(answers(root)) == kept + given
