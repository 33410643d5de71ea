"""`weakseg repro`: order, DVC's own state, what a `kill -9` leaves behind, jobs of a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from weakseg.core.errors import StageError
from weakseg.pipeline.repro import repro
from weakseg.pipeline.repro.graph import Needs, read_needs
from weakseg.pipeline.repro.leash import LOCK, alone, hold
from weakseg.pipeline.repro.one_stage import COPY, Record, open_repo
from weakseg.pipeline.repro.order import run_in_order, way_to_the_end

DIAMOND: Needs = {
    "a": frozenset(),
    "b": frozenset("a"),
    "c": frozenset("a"),
    "long": frozenset("a"),
    "end": frozenset({"b", "c"}),
}
SOURCE = Path(__file__).parents[2] / "src"
# a stage as `weakseg stage` begins one; writes its output in two halves, so that a kill may leave one of them
STAGE = """
import hashlib, os, sys, time
from pathlib import Path
from weakseg.pipeline.repro.leash import follow_leader
follow_leader(Path())
name, seconds, *inputs = sys.argv[1:]
text = hashlib.sha256(b"".join(Path(one).read_bytes() for one in inputs)).hexdigest()
out = Path("out") / name
out.mkdir(parents=True)
(out / "first").write_text(text)
time.sleep(float(seconds))
if Path(f"{name}.bad").exists():
    sys.exit(3)
(out / "second").write_text(text[::-1])
with open("log.txt", "a") as log:
    log.write(f"{name} {os.getpid()}\\n")
"""
GRAPH = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["c"], "f": ["d", "e"]}


def make_project(root: Path, seconds: float = 0.05) -> Path:
    """A DVC project of six small stages."""
    root.mkdir(parents=True)
    (root / "stage.py").write_text(STAGE)
    (root / "data.txt").write_text("data")
    stages = {}
    for name, needs in GRAPH.items():
        inputs = [f"out/{one}/{half}" for one in needs for half in ("first", "second")] or ["data.txt"]
        command = f"{sys.executable} stage.py {name} {seconds} {' '.join(inputs)}"
        deps = [f"out/{one}" for one in needs] or ["data.txt"]
        stages[name] = {"cmd": command, "deps": deps, "outs": [f"out/{name}"]}
    stages["none"] = {"foreach": [], "do": {"cmd": "true"}}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / ".dvcignore").write_text(".weakseg/\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def made_by_dvc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "DVC_SITE_CACHE_DIR": str(folder / "site")}
    root = make_project(folder / "project")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=root, env=environment, check=True)
    return read_lock(root)


@pytest.fixture
def undisturbed(made_by_dvc: dict[str, Any]) -> dict[str, Any]:
    """dvc.lock as `dvc repro` writes it."""
    return made_by_dvc


def dvc(root: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def read_lock(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    for entry in found.values():
        entry.pop("cmd")  # it names the pause of the stage
    return found


def start(root: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "weakseg", "--root", str(root), "repro", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Clock:
    """Stages that take their seconds in a time of our own."""

    def __init__(self, seconds: dict[str, float], bad: str = "") -> None:
        self.seconds, self.bad, self.now, self.most = seconds, bad, 0.0, 0
        self.ends: dict[str, float] = {}
        self.begun: list[str] = []

    def start(self, stage: str) -> None:
        self.begun.append(stage)
        self.ends[stage] = self.now + self.seconds[stage]
        self.most = max(self.most, len(self.ends))

    def finished(self) -> Record:
        stage = min(self.ends, key=lambda one: self.ends[one])
        self.now = self.ends.pop(stage)
        return Record(stage, "failed" if stage == self.bad else "ran")


def test_the_way_to_the_end_is_the_longest_chain() -> None:
    seconds = {"a": 1.0, "b": 2.0, "c": 5.0, "end": 1.0, "long": 3.0}
    assert way_to_the_end(DIAMOND, seconds) == {"a": 7.0, "b": 3.0, "c": 6.0, "end": 1.0, "long": 3.0}
    del seconds["long"]  # unknown: the mean of the others, 9 / 4
    assert way_to_the_end(DIAMOND, seconds)["long"] == 2.25
    assert way_to_the_end(DIAMOND, {}) == {"a": 3.0, "b": 2.0, "c": 2.0, "end": 1.0, "long": 1.0}


def test_the_longest_way_goes_first_and_no_more_than_asked_run_at_once() -> None:
    seconds = {"a": 1.0, "b": 2.0, "c": 2.0, "end": 3.0, "long": 4.0}
    clock = Clock(seconds)
    run_in_order(DIAMOND, seconds, clock, jobs=2, note=lambda record: None)
    assert (clock.begun, clock.most, clock.now) == (["a", "b", "c", "long", "end"], 2, 7.0)
    one = Clock(seconds)
    run_in_order(DIAMOND, seconds, one, jobs=1, note=lambda record: None)
    assert (one.most, one.now) == (1, 12.0)


def test_after_a_failure_no_stage_starts_and_those_at_work_end() -> None:
    seconds = {"a": 1.0, "b": 1.0, "c": 5.0, "end": 1.0, "long": 1.0}
    clock, notes = Clock(seconds, bad="long"), list[str]()
    with pytest.raises(StageError, match="stage long failed"):
        run_in_order(DIAMOND, seconds, clock, jobs=2, note=lambda record: notes.append(record.stage))
    assert notes == ["a", "b", "long", "c"]


def test_needs_are_those_of_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    repo = open_repo(Path())
    assert read_needs(repo) == {name: frozenset(needs) for name, needs in GRAPH.items()}
    assert read_needs(repo, ["d"]) == {name: frozenset(GRAPH[name]) for name in "abcd"}
    with pytest.raises(StageError, match="target nothing"):
        read_needs(repo, ["nothing"])
    with pytest.raises(StageError, match="target none makes no stages; expected an entry in its list"):
        read_needs(repo, ["none"])


def test_no_workspace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no dvc\.yaml in "):
        repro(tmp_path, jobs=2)


def test_dvc_finds_nothing_left_to_do(project: Path, undisturbed: dict[str, Any]) -> None:
    found = repro(project, jobs=2, say=lambda line: None)
    assert {record.stage: record.outcome for record in found} == dict.fromkeys(GRAPH, "ran")
    assert found[0].stage == "a"
    assert all(record.cpu > 0 and record.dvc_cpu > 0 for record in found)
    assert read_lock(project) == undisturbed
    assert "WEAKSEG_PIPELINE_RUN" not in os.environ  # or the next one's stages would be put under this one's
    assert "up to date" in dvc(project, "status")
    again = repro(project, jobs=3, say=lambda line: None)
    assert {record.outcome for record in again} == {"unchanged"}
    (project / "dvc.lock").unlink()
    dvc(project, "repro", "-q")  # DVC's run cache knows what ran here
    assert len((project / "log.txt").read_text().splitlines()) == len(GRAPH)
    (project / "dvc.lock").unlink()
    restored = repro(project, jobs=2, say=lambda line: None)
    assert {record.outcome for record in restored} == {"cached"}
    assert read_lock(project) == undisturbed


def test_a_failure_is_told_and_a_second_start_goes_on(project: Path, undisturbed: dict[str, Any]) -> None:
    (project / "c.bad").touch()
    with pytest.raises(StageError, match=r"stage c failed \(failed to run: .*exited with 3\)"):
        repro(project, jobs=2, say=lambda line: None)
    (project / "c.bad").unlink()
    found = repro(project, jobs=2, say=lambda line: None)
    outcomes = {record.stage: record.outcome for record in found}
    assert (outcomes["a"], outcomes["b"], outcomes["c"], outcomes["f"]) == ("unchanged", "unchanged", "ran", "ran")
    assert read_lock(project) == undisturbed


def kill_once(root: Path, draw: random.Random) -> None:
    """Start, kill one of its processes at some instant, and wait for the command to end."""
    running = start(root, "--jobs", "2")
    time.sleep(draw.uniform(1.5, 5.0))
    family = [psutil.Process(running.pid)]
    if running.poll() is None:
        family += family[0].children(recursive=True)
    victim = draw.choice(family)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.kill()
    running.wait(60)


def test_kills_leave_what_an_undisturbed_run_makes(project: Path, undisturbed: dict[str, Any]) -> None:
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace(" 0.05 ", " 0.6 "))
    draw = random.Random(0)
    for _ in range(4):
        kill_once(project, draw)
    repro(project, jobs=2, say=lambda line: None)
    assert read_lock(project) == undisturbed
    assert "up to date" in dvc(project, "status")
    assert not (project / COPY).exists()


def test_a_stage_ends_with_the_command_that_began_it(project: Path) -> None:
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace(" 0.05 ", " 30 "))
    running = start(project, "--jobs", "2")
    stages: list[psutil.Process] = []
    end = time.monotonic() + 60
    while not stages and time.monotonic() < end:
        time.sleep(0.05)
        family = psutil.Process(running.pid).children(recursive=True)
        stages = (
            [one for one in family if "stage.py" in " ".join(one.cmdline())]
            if (project / "out/a/first").exists()
            else []
        )
    running.kill()
    running.wait()
    gone, left = psutil.wait_procs(stages, timeout=10)
    assert gone
    assert not left
    with alone(project):
        pass


def test_one_start_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path),
        pytest.raises(StageError, match=r"another `weakseg repro`.* is at work"),
        alone(tmp_path, 0.1),
    ):
        pass
    with hold(tmp_path), hold(tmp_path), pytest.raises(StageError, match="one at a time"), alone(tmp_path, 0.1):
        pass
    with alone(tmp_path, 0.1):
        assert (tmp_path / LOCK).exists()


def test_no_reader_meets_half_a_lock_file(project: Path) -> None:
    """Stages read dvc.lock while other ones are recorded, and a kill may come at any time."""
    (project / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    running, seen = start(project, "--jobs", "2"), list[int]()  # not here: no process is forked beside a thread
    while running.poll() is None:
        seen.append(len(read_lock(project)))
    assert running.wait() == 0
    assert seen == sorted(seen)
    assert len(seen) > len(GRAPH)
    assert len(read_lock(project)) == len(GRAPH)


def test_half_a_table_of_readers_is_removed(project: Path) -> None:
    (project / ".dvc/tmp").mkdir(exist_ok=True)
    (project / ".dvc/tmp/rwlock").write_text('{"read": {"/a": [{"pi')
    assert repro(project, jobs=2, say=lambda line: None)[0].outcome == "ran"


def test_raw_data_are_added(project: Path) -> None:
    (project / "data.txt.dvc").write_text("outs:\n- path: data.txt\n  hash: md5\n")
    outcomes = {record.stage: record.outcome for record in repro(project, ["a"], jobs=2, say=lambda line: None)}
    assert outcomes == {"data.txt.dvc": "added", "a": "ran"}
    assert "md5: 8d777f385d3dfec8815d20f7496026dc" in (project / "data.txt.dvc").read_text()  # of "data"
    outcomes = {record.stage: record.outcome for record in repro(project, ["a"], jobs=2, say=lambda line: None)}
    assert outcomes == {"data.txt.dvc": "unchanged", "a": "unchanged"}


def test_times_are_a_hint_alone(project: Path) -> None:
    (project / ".weakseg").mkdir(exist_ok=True)
    (project / ".weakseg/repro.json").write_text('{"a": "x"')
    assert len(repro(project, ["c"], jobs=2, say=lambda line: None)) == 2
    assert set(json.loads((project / ".weakseg/repro.json").read_text())) == {"a", "c"}


def test_jobs_of_a_cluster(project: Path, undisturbed: dict[str, Any]) -> None:
    pytest.importorskip("submitit")
    found = repro(project, jobs=2, cluster="local", options={"timeout_min": "5"}, say=lambda line: None)
    assert {record.stage: record.outcome for record in found} == dict.fromkeys(GRAPH, "ran")
    assert read_lock(project) == undisturbed
    assert "up to date" in dvc(project, "status")
    with pytest.raises(StageError, match=r"cluster local with .*nonsense"):
        repro(project, jobs=2, cluster="local", options={"nonsense": "1"}, say=lambda line: None)


def test_a_job_that_is_killed(project: Path, undisturbed: dict[str, Any]) -> None:
    pytest.importorskip("submitit")
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("stage.py b 0.05", "stage.py b 30"))
    running = start(project, "--jobs", "1", "--cluster", "local", "b")
    end = time.monotonic() + 90
    while not (project / "out/b/first").exists() and time.monotonic() < end:
        time.sleep(0.1)
    stages = [one for one in psutil.process_iter(["cmdline", "cwd"]) if _is_stage(one, project)]
    assert stages
    os.kill(stages[0].pid, signal.SIGKILL)
    assert running.wait(60) == 1
    (project / "dvc.yaml").write_text(text)
    repro(project, jobs=2, say=lambda line: None)
    assert read_lock(project) == undisturbed


def _is_stage(process: psutil.Process, root: Path) -> bool:
    return process.info["cwd"] == str(root) and "stage.py" in " ".join(process.info["cmdline"] or [])
