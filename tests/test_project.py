"""The project as its users run it: `dvc` and `mlflow run`, for real, in a small clone with tiny data."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
FILES = ("dvc.yaml", "MLproject", "python_env.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")
PYTHON = Path(sys.executable).parent


@dataclass(frozen=True)
class Clone:
    """A git repository with the project's code and pipeline, tiny params and data."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "WEAKSEG", "DVC", "AWS", "GIT"))}
        return keep | {
            "HOME": str(self.root.parent),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"),
            "PATH": f"{PYTHON}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root}/src",
            "OMP_NUM_THREADS": "1",
            "WEAKSEG_TRACKING": "spool",
            "WEAKSEG_PRECISION": "no",
            "WEAKSEG_DEVICE": "cpu",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def run(self, *command: str, **environment: str) -> str:
        """Standard output of a command that must end well."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def dvc(self, *words: str, **environment: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *words, **environment)

    def git(self, *words: str) -> str:
        return self.run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def journals(self, stage: str) -> list[list[dict[str, Any]]]:
        """What the runs of a stage have noted for MLflow, oldest first."""
        folders = sorted((self.root / ".weakseg" / "spool").glob(f"*-{stage.replace('@', '_')}-*"))
        return [[json.loads(line) for line in (f / "journal.jsonl").read_text().splitlines()] for f in folders]

    def files(self, folder: str) -> dict[str, bytes]:
        place = self.root / folder
        return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def forget(self) -> None:
        """As a colleague's fresh clone: no data, no outputs, no cache."""
        for folder in ("data", "out", ".dvc/cache"):
            shutil.rmtree(self.root / folder)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Clone:
    """A clone in which `dvc repro tiles` has run, all committed."""
    root = make_workspace(tmp_path_factory.mktemp("home") / "project")
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    made = Clone(root)
    made.git("init", "-q")
    made.dvc("add", "-q", "data")
    assert "Running stage 'tiles'" in made.dvc("repro", "tiles")
    made.commit("tiles")
    return made


@pytest.fixture
def clone(tiled: Clone, tmp_path: Path) -> Clone:
    """A copy of it to work on."""
    return Clone(Path(shutil.copytree(tiled.root, tmp_path / "project", symlinks=True)))


def change(clone: Clone, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit params.yaml."""
    params = yaml.safe_load((clone.root / "params.yaml").read_text())
    edit(params)
    (clone.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- DVC ------------------------------------------------------------------------------------------------------------


def test_analytics_are_off_for_whoever_clones() -> None:
    settings = configparser.ConfigParser()
    settings.read_string("".join(line.strip() + "\n" for line in (PROJECT / ".dvc" / "config").open()))
    assert dict(settings["core"]) == {"analytics": "false", "check_update": "false"}


def test_every_dvc_command_of_the_docs_exists() -> None:
    """Parsed by DVC's own parser, which ends the process at an unknown command or option."""
    from dvc.cli.parser import get_main_parser

    parser, seen = get_main_parser(), set()
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for block in re.findall(r"```\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.splitlines():
                if "dvc" not in line:
                    continue
                words = shlex.split(line, comments=True)
                while words and "=" in words[0]:  # environment variables before a command
                    words.pop(0)
                if words and words[0].rpartition("/")[2] == "dvc":
                    parser.parse_args(words[1:])
                    seen.add(" ".join(words[1:3]))
    assert {"exp run", "metrics diff", "plots diff", "remote add"} <= seen


def test_a_directory_remote_brings_data_and_outputs_back(clone: Clone, tmp_path: Path) -> None:
    before = {folder: clone.files(folder) for folder in ("data", "out")}
    assert len(before["data"]) == 11
    clone.dvc("remote", "add", "--local", "-d", "folder", str(tmp_path / "remote"))
    assert "pushed" in clone.dvc("push")
    clone.forget()
    clone.dvc("pull", "data", "code", "tiles")
    assert {folder: clone.files(folder) for folder in ("data", "out")} == before


@pytest.fixture
def s3() -> Iterator[str]:
    """Address of moto's S3 server, a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=1):
                    break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_an_s3_remote_brings_data_and_outputs_back(clone: Clone, s3: str) -> None:
    """The commands of docs/experiments.md, against moto's server."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3, aws_access_key_id="user", aws_secret_access_key="password", region_name="us-east-1"
    )
    client.create_bucket(Bucket="dvc")
    before = {folder: clone.files(folder) for folder in ("data", "out")}
    clone.dvc("remote", "add", "-d", "team", "s3://dvc/weakseg")
    clone.dvc("remote", "modify", "team", "endpointurl", s3)
    clone.dvc("remote", "modify", "--local", "team", "access_key_id", "user")
    clone.dvc("remote", "modify", "--local", "team", "secret_access_key", "password")
    clone.dvc("push")
    stored = [item["Key"] for item in client.list_objects_v2(Bucket="dvc")["Contents"]]
    digest = yaml.safe_load((clone.root / "data.dvc").read_text())["outs"][0]["md5"]
    assert f"weakseg/files/md5/{digest[:2]}/{digest[2:]}" in stored
    clone.forget()
    clone.dvc("pull", "data", "code", "tiles")
    assert {folder: clone.files(folder) for folder in ("data", "out")} == before
    assert "up to date" in clone.dvc("repro", "tiles")
    assert "password" not in clone.git("diff")


@pytest.mark.slow
def test_an_experiment_reruns_what_depends_on_it_and_can_be_compared(clone: Clone) -> None:
    clone.dvc("repro", "segment@pixel")
    clone.commit("task i")
    said = clone.dvc("exp", "run", "-n", "bold-ant", "-S", "segment.network.dropout=0.3", "segment@pixel")
    assert "Stage 'tiles' didn't change, skipping" in said
    assert "Running stage 'segment@pixel'" in said
    params = yaml.safe_load((clone.root / "params.yaml").read_text())
    assert params["segment"]["network"]["dropout"] == 0.3
    assert "bold-ant" in clone.dvc("exp", "list", "--all-commits")

    first, second = ({**lines[0], "lines": lines} for lines in clone.journals("segment@pixel"))
    assert (first["tags"].get("weakseg.dvc_exp"), second["tags"]["weakseg.dvc_exp"]) == (None, "bold-ant")
    assert first["pipeline"] != second["pipeline"]
    assert first["pipeline"] not in [lines[0]["pipeline"] for lines in clone.journals("tiles")]  # another execution
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    inputs = {line["name"]: line["digest"] for line in second["lines"] if line["op"] == "dataset"}
    recorded = {out["path"]: out["md5"] for out in lock["tiles"]["outs"]}
    data = yaml.safe_load((clone.root / "data.dvc").read_text())["outs"][0]["md5"]
    assert inputs == {"data": data, **{path: recorded[path] for path in ("out/tiles", "out/labels/pixel")}}

    changes = json.loads(clone.dvc("metrics", "diff", "--json"))["reports/segment/pixel.json"]
    row = changes["seed0.holdout/miou"]
    summary = json.loads((clone.root / "reports" / "segment" / "pixel.json").read_text())
    assert row["new"] == pytest.approx(summary["seed0"]["holdout/miou"])
    assert row["diff"] == pytest.approx(row["new"] - row["old"])
    assert row["diff"] != 0

    plots = json.loads(clone.dvc("plots", "diff", "--json"))["data"]["reports/curves/pixel.csv"]
    assert {revision for plot in plots for revision in plot["revisions"]} == {"HEAD", "workspace"}
    clone.dvc("plots", "diff")
    assert "holdout/miou" in (clone.root / "dvc_plots" / "index.html").read_text()
    assert "dvc_plots" not in clone.git("status", "--short")


@pytest.mark.slow
def test_a_killed_stage_goes_on_where_it_was(clone: Clone) -> None:
    """`dvc repro` and its stage are killed with SIGKILL; the next `dvc repro` trains the missing steps alone."""
    change(clone, lambda params: params["segment"]["optimiser"].update(steps=40, report_every=4))
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "segment@pixel"],
        cwd=clone.root,
        env=clone.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    state = clone.root / "out" / "resume" / "segment-pixel-0.pt"
    deadline = time.monotonic() + 240
    while not state.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    clone.dvc("repro", "segment@pixel")
    killed, resumed = (
        [line["step"] for line in lines if "loss" in str(line)] for lines in clone.journals("segment@pixel")[-2:]
    )
    assert killed[0] == 4
    assert killed[-1] < resumed[0] <= killed[-1] + 4
    assert resumed[-1] == 40
    assert not state.exists()
    curve = (clone.root / "reports" / "curves" / "pixel.csv").read_text().splitlines()
    assert len(curve) == 1 + 10  # whole, with the rows from before the kill


@pytest.mark.slow
def test_finding_nothing_to_do_takes_at_most_three_times_dvc_status(clone: Clone) -> None:
    """The graph is the demo's; benchmarks/dvc_noop.py measures it with the demo's outputs."""
    clone.dvc("repro", "tiles")
    times: dict[str, list[float]] = {"status": [], "repro": []}
    for _ in range(4):  # in turn, so that other work on the machine meets both; the first round warms up
        for command, row in times.items():
            began = time.monotonic()
            assert "up to date" in clone.dvc(command, "tiles")
            row.append(time.monotonic() - began)
    status, repro = (sorted(row[1:])[1] for row in times.values())
    assert repro <= 3 * status


# ---- mlflow run -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mlflow_run_main_is_the_parent_of_its_stages(clone: Clone) -> None:
    """`mlflow run . -e main` on the real pipeline, recorded in a real store."""
    from mlflow import MlflowClient

    change(clone, lambda params: params["tiles"].update(holdout=0.5))
    store = f"sqlite:///{clone.root}/mlflow.db"
    clone.run(
        *(sys.executable, "-m", "mlflow", "run", ".", "-e", "main", "--env-manager", "local"),
        *("--experiment-name", "weakseg", "-P", "target=tiles"),
        MLFLOW_TRACKING_URI=store,
        WEAKSEG_TRACKING="on",
        WEAKSEG_TRACKING_WAIT="120",
    )
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("weakseg").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if run.data.tags.get("mlflow.project.entryPoint") == "main"]
    (child,) = [run for run in runs if run.data.tags.get("weakseg.stage") == "tiles"]
    assert parent.data.params == {"target": "tiles"}
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.metrics["areas"] == 4  # of N1 and N2
    assert len(runs) == 2


@pytest.mark.slow
def test_mlflow_run_trains_tunes_evaluates_promotes_and_predicts(clone: Clone) -> None:
    """Every other entry point, one after the other on one store, by what it leaves behind."""
    change(clone, lambda params: params["tune"].update(trials=2))
    store = f"sqlite:///{clone.root}/mlflow.db"

    def entry(name: str, **parameters: str) -> None:
        given = [word for pair in parameters.items() for word in ("-P", "=".join(pair))]
        command = (sys.executable, "-m", "mlflow", "run", ".", "-e", name, "--env-manager", "local", *given)
        clone.run(*command, MLFLOW_TRACKING_URI=store, WEAKSEG_TRACKING="spool")

    reports, model = clone.root / "reports", clone.root / "out" / "checkpoints" / "pixel" / "seed0.pt"
    entry("train", source="pixel")
    assert model.is_file()
    assert not (reports / "evaluate" / "pixel.json").exists()
    entry("tune", study="night", trials="2", workers="1")
    study = json.loads((reports / "tuning" / "study.json").read_text())
    assert sum(study["states"].values()) == 2
    entry("evaluate", source="pixel")
    assert 0 <= json.loads((reports / "evaluate" / "pixel.json").read_text())["miou"] <= 1
    entry("promote", source="pixel", alias="challenger")
    (line,) = (clone.root / "results" / "promotions.jsonl").read_text().splitlines()
    assert (json.loads(line)["action"], json.loads(line)["alias"]) == ("promote", "challenger")
    entry("predict", model=str(model), image="data/images/v1.tif", output="out/v1.tif")
    assert (clone.root / "out" / "v1.tif").is_file()
