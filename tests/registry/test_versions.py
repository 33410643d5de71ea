"""The registry: gates by hand-computed cases, and promotion, refusal, rollback and races on a real store."""

from __future__ import annotations

import json
import math
import os
import platform
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from weakseg.core.errors import ParamsError, StageError, TrackingError
from weakseg.registry import versions as registry
from weakseg.registry.versions import (
    Evidence,
    Gates,
    Promotion,
    champion_of,
    check_gates,
    promote,
    promotion_log,
    register,
    rollback,
)
from weakseg.tracking import connect

OLD = Evidence("data1", 0.50, {"car": 0.40, "tree": 0.60, "clutter": math.nan})
NEW = Evidence("data1", 0.55, {"car": 0.52, "tree": 0.58, "clutter": math.nan})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "WEAKSEG_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def failed(candidate: Evidence, champion: Evidence | None, gates: Gates, gain: tuple[float, float] | None) -> list[str]:
    return [result.name for result in check_gates(candidate, champion, gates, gain=gain) if not result.passed]


def test_a_better_model_passes_and_results_say_what_was_compared() -> None:
    results = check_gates(NEW, OLD, Gates(min_gain=0.01, max_drop=0.02), gain=(0.02, 0.08))
    assert [result.name for result in results] == ["same validation data", "mIoU gain", "class car", "class tree"]
    assert all(result.passed for result in results)  # tree loses exactly its allowance of 0.02
    assert (results[1].found, results[1].expected) == ("gain +0.0500 [+0.0200, +0.0800]", "lower bound above +0.0100")
    assert (results[3].found, results[3].expected) == ("0.6000 -> 0.5800", "loss <= 0.0200")


@pytest.mark.parametrize(
    ("candidate", "gates", "gain", "names"),
    [
        (Evidence("data2", NEW.miou, NEW.iou), Gates(), (0.02, 0.08), ["same validation data"]),
        (Evidence("", NEW.miou, NEW.iou), Gates(), (0.02, 0.08), ["same validation data"]),
        (NEW, Gates(), (0.0, 0.1), ["mIoU gain"]),  # the bound must be above the minimum, not at it
        (NEW, Gates(min_gain=0.03), (0.02, 0.08), ["mIoU gain"]),
        (NEW, Gates(), None, ["mIoU gain"]),
        (NEW, Gates(), (math.nan, math.nan), ["mIoU gain"]),  # one area: there is no interval
        (NEW, Gates(max_drop=0.01), (0.02, 0.08), ["class tree"]),
        (NEW, Gates(allowance={"tree": 0.0}), (0.02, 0.08), ["class tree"]),
        (Evidence("data1", 0.55, {"car": 0.9}), Gates(), (0.02, 0.08), ["class tree"]),
        (Evidence("data1", 0.55, {"car": math.nan, "tree": 0.9}), Gates(), (0.02, 0.08), ["class car"]),
        (Evidence("data2", 0.4, {"car": 0.0, "tree": 0.0}), Gates(), (-0.2, 0.1),
         ["same validation data", "mIoU gain", "class car", "class tree"]),
    ],
)  # fmt: skip
def test_each_gate_refuses_by_its_name(
    candidate: Evidence, gates: Gates, gain: tuple[float, float] | None, names: list[str]
) -> None:
    assert failed(candidate, OLD, gates, gain) == names


def test_allowance_overrides_the_drop_of_one_class() -> None:
    assert failed(NEW, OLD, Gates(max_drop=0.0, allowance={"tree": 0.05}), (0.02, 0.08)) == []


def test_the_first_champion_needs_only_a_sound_evaluation() -> None:
    assert failed(OLD, None, Gates(min_gain=0.5), None) == []
    assert failed(Evidence("", 0.5, {}), None, Gates(), None) == ["evaluated"]
    assert failed(Evidence("data1", math.nan, {}), None, Gates(), None) == ["evaluated"]


def test_an_allowance_for_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"class 'boat'.*params\.yaml"):
        check_gates(NEW, OLD, Gates(allowance={"boat": 0.1}), gain=(0.1, 0.2))


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "weights.bin").write_bytes(b"weights")
    return folder


def new_version(root: Path, name: str, evidence: Evidence) -> str:
    client = connect(root)
    found = client.get_experiment_by_name("models")
    location = None if os.environ.get("MLFLOW_TRACKING_URI") else (root / "mlruns").as_uri()
    experiment = found.experiment_id if found else client.create_experiment("models", artifact_location=location)
    run_id = client.create_run(experiment).info.run_id
    return register(root, model_folder(root / "model"), name=name, run_id=run_id, evidence=evidence, card="# Card")


def champion(root: Path, name: str) -> str | None:
    found = champion_of(root, name)
    return None if found is None else found[0]


def rising(root: Path, name: str, count: int) -> list[str]:
    """``count`` versions, each made champion in turn."""
    versions = []
    for index in range(count):
        before = champion(root, name)
        version = new_version(root, name, Evidence("d", 0.5 + index / 100, {"car": 0.5}))
        gain = None if before is None else (0.005, 0.015)
        assert promote(root, name, version, gates=Gates(), gain=gain, against=before).moved
        versions.append(version)
    return versions


def check_promotion_refusal_and_rollback(root: Path, name: str) -> None:
    first = new_version(root, name, OLD)
    assert promote(root, name, first, gates=Gates(), gain=None, against=None) == Promotion(
        "champion", first, None, True, tuple(check_gates(OLD, None, Gates(), gain=None))
    )
    assert champion_of(root, name)[0] == first  # type: ignore[index]
    second = new_version(root, name, NEW)
    refused = promote(root, name, second, gates=Gates(max_drop=0.0), gain=(0.01, 0.09), against=first)
    assert (refused.moved, refused.failed) == (False, ["class tree"])
    assert champion(root, name) == first
    tags = connect(root).get_model_version(name, second).tags
    assert tags["weakseg.gate.class tree"] == "failed: 0.6000 -> 0.5800; expected loss <= 0.0000"
    assert (tags["miou"], tags["iou.car"], tags["weakseg.validation_data"]) == ("0.5500", "0.5200", "data1")

    moved = promote(root, name, second, alias="challenger", gates=Gates(), gain=(0.01, 0.09), against=first)
    assert (moved.moved, moved.previous, champion(root, name)) == (True, None, first)
    moved = promote(root, name, second, gates=Gates(), gain=(0.01, 0.09), against=first)
    assert (moved.moved, moved.previous, champion(root, name)) == (True, first, second)
    version = connect(root).get_model_version(name, second)
    assert version.description == "# Card"
    assert version.tags["weakseg.gate.class tree"].startswith("passed")

    back = rollback(root, name)
    assert (back.version, back.previous, champion(root, name)) == (first, second, first)
    with pytest.raises(TrackingError, match="is the first champion"):
        rollback(root, name)
    entries = [json.loads(line) for line in promotion_log(root).read_text().splitlines()]
    mine = [(entry["action"], entry["alias"], entry["version"]) for entry in entries if entry["name"] == name]
    assert mine == [
        ("promote", "champion", first),
        ("refuse", "champion", second),
        ("promote", "challenger", second),
        ("promote", "champion", second),
        ("rollback", "champion", first),
    ]


def test_promotion_refusal_and_rollback(root: Path) -> None:
    check_promotion_refusal_and_rollback(root, "landcover")


def test_the_registered_model_holds_the_folder_and_its_evidence(root: Path) -> None:
    version = new_version(root, "whole", NEW)
    found = connect(root).get_model_version("whole", version)
    assert Path(found.source.removeprefix("file://"), "weights.bin").read_bytes() == b"weights"
    assert promote(root, "whole", version, gates=Gates(), gain=None, against=None).moved
    held = champion_of(root, "whole")
    assert held is not None
    assert (held[1].data_hash, held[1].miou, held[1].iou["car"]) == ("data1", 0.55, 0.52)
    assert math.isnan(held[1].iou["clutter"])


def test_rollback_goes_back_step_by_step_and_across_a_return(root: Path) -> None:
    one, two, three = rising(root, "steps", 3)
    assert rollback(root, "steps").version == two
    promote(root, "steps", three, gates=Gates(), gain=(0.1, 0.2), against=two)
    assert [rollback(root, "steps").version for _ in range(2)] == [two, one]


def test_rollback_without_the_log_uses_the_tags(root: Path) -> None:
    one, _ = rising(root, "elsewhere", 2)
    log = promotion_log(root)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if '"elsewhere"' not in line))
    assert rollback(root, "elsewhere").version == one


def test_rollback_to_a_deleted_version_is_refused_and_moves_nothing(root: Path) -> None:
    one, two = rising(root, "deleted", 2)
    connect(root).delete_model_version("deleted", one)
    with pytest.raises(TrackingError, match=r"check the names"):
        rollback(root, "deleted")
    assert champion(root, "deleted") == two


def test_of_two_racing_promotions_one_wins_and_the_other_is_told(root: Path) -> None:
    (first,) = rising(root, "race", 1)
    versions = [new_version(root, "race", Evidence("d", 0.6, {"car": 0.6})) for _ in range(2)]
    gate, outcomes = threading.Barrier(2), []

    def run(version: str) -> None:
        gate.wait()
        try:
            outcomes.append(promote(root, "race", version, gates=Gates(), gain=(0.05, 0.15), against=first))
        except TrackingError as problem:
            outcomes.append(problem)

    threads = [threading.Thread(target=run, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, Promotion)]
    losers = [str(outcome) for outcome in outcomes if isinstance(outcome, TrackingError)]
    assert (len(winners), len(losers)) == (1, 1)
    assert winners[0].version == champion(root, "race")
    assert f"is now version {winners[0].version}" in losers[0]
    assert "promote again" in losers[0]


def test_refusals_name_the_cure(root: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no file MLmodel.*save the model"):
        register(root, tmp_path, name="x", run_id="0" * 32, evidence=NEW)
    with pytest.raises(TrackingError, match=r"alias 'winner'.*challenger or champion"):
        promote(root, "x", "1", alias="winner", gates=Gates(), gain=None, against=None)
    with pytest.raises(TrackingError, match=r"has no champion.*promote one"):
        rollback(root, "nobody")
    (one,) = rising(root, "again", 1)
    with pytest.raises(TrackingError, match="is the champion already"):
        promote(root, "again", one, gates=Gates(), gain=(0.1, 0.2), against=one)
    with pytest.raises(TrackingError, match=r"check the names"):
        promote(root, "again", "99", gates=Gates(), gain=(0.1, 0.2), against=one)
    connect(root).create_model_version("again", "file:///elsewhere")
    with pytest.raises(TrackingError, match=r"no tag weakseg\.evidence"):
        promote(root, "again", "2", gates=Gates(), gain=(0.1, 0.2), against=one)


def test_a_damaged_log_is_refused_before_anything_moves(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = rising(root, "damaged", 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    (tmp_path / "results").mkdir()
    promotion_log(tmp_path).write_text("{torn")
    with pytest.raises(StageError, match=r"promotions\.jsonl.*restore it from git"):
        rollback(tmp_path, "damaged")
    assert champion(root, "damaged") == two


@pytest.mark.slow
def test_promotion_refusal_and_rollback_over_http(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    check_promotion_refusal_and_rollback(tmp_path, "landcover")
    assert connect(tmp_path).get_model_version("landcover", "1").source.startswith("mlflow-artifacts:/")


def test_promotions_that_race_on_two_machines_wait_for_each_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workspaces share nothing but the registry; the first one stops right before it moves the alias."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    here, there = tmp_path / "here", tmp_path / "there"
    (first,) = rising(here, "far", 1)
    versions = [new_version(root, "far", Evidence("d", 0.6, {"car": 0.6})) for root in (here, there)]
    inside, go_on = threading.Event(), threading.Event()
    really_move = registry._move

    def slow_move(client: Any, name: str, outcome: Promotion) -> None:
        inside.set()
        assert go_on.wait(300)
        really_move(client, name, outcome)

    monkeypatch.setattr(registry, "_move", slow_move)
    options: dict[str, Any] = {"gates": Gates(), "gain": (0.05, 0.15), "against": first}
    with ThreadPoolExecutor(2) as pool:
        won = pool.submit(promote, here, "far", versions[0], **options)
        assert inside.wait(300)
        lost = pool.submit(promote, there, "far", versions[1], **options)
        with pytest.raises(TimeoutError):
            lost.result(timeout=1)  # it waits
        with monkeypatch.context() as patch:
            patch.setattr(registry, "PATIENCE", 0.0)
            with pytest.raises(TrackingError, match=r"registry holds far\.lock.*delete that"):
                rollback(there, "far")
        go_on.set()
        assert won.result(timeout=300).moved
        with pytest.raises(TrackingError, match=f"is now version {versions[0]}.*promote again"):
            lost.result(timeout=300)
    assert champion(there, "far") == versions[0]
    assert [model.name for model in connect(here).search_registered_models() if model.name.endswith(".lock")] == []
    assert not promotion_log(there).exists()


def test_the_lock_of_a_killed_promotion_is_taken_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process of this computer; that of another one stays, for nobody here knows whether it is at work."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    monkeypatch.setattr(registry, "PATIENCE", 0.0)
    one, _ = rising(root, "locked", 2)
    client = connect(root)
    held = {
        True: f"a on {platform.node()} since now, process 1 born 5",
        False: "a on elsewhere since now, process 1 born 5",
    }
    for here, holder in held.items():
        client.create_registered_model("locked.lock", description=holder)
        if not here:
            with pytest.raises(TrackingError, match=r"holds locked\.lock.*a on elsewhere since now"):
                rollback(root, "locked")
            client.delete_registered_model("locked.lock")
        else:
            assert rollback(root, "locked").version == one
