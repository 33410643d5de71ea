"""Secrets of the environment and of addresses are in nothing that is written: records, reports, models, logs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weakseg import tracking
from weakseg.cli import app
from weakseg.core.errors import TrackingError
from weakseg.export.model_files import export_bundle
from weakseg.registry.promotion import promote_source
from weakseg.registry.versions import Gates
from weakseg.tracking import connect, find_run, send_spool, track

PASSWORD = "correct-horse-0"  # of addresses
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "correct-horse-1",
    "MLFLOW_TRACKING_USERNAME": "ann-correct-horse",
    "AWS_SECRET_ACCESS_KEY": "correct-horse-2",
    "AWS_ACCESS_KEY_ID": "correct-horse-3",
    "AWS_SESSION_TOKEN": "correct-horse-4",
}
HORSE = b"correct-horse"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("WEAKSEG_TRACKING", "spool")
    monkeypatch.setattr(
        sys, "argv", ["weakseg", "tune", "--storage", f"postgresql://ann:{PASSWORD}@db.example/studies"]
    )


def telling(folder: Path) -> list[str]:
    """Files below a folder that hold a secret, in their bytes or in those of an archive's members."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and any(HORSE in part for part in parts(path))]


def parts(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def nobody() -> int:
    """A port at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b", HORSE * 9)
    (tmp_path / "c.txt").write_bytes(b"x" + HORSE)
    (tmp_path / "d.txt").write_bytes(b"x")
    assert [Path(found).name for found in sorted(telling(tmp_path))] == ["a.zip", "c.txt"]


@pytest.mark.faults  # a minute on a busy machine
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_nothing_that_a_run_writes_holds_a_secret(
    workspace: Path, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Stages, report, results, bundle, a promoted version with its card; the spool before, the server's rows after."""
    address = mlflow_server.replace("://", f"://ann:{PASSWORD}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "secrets")
    for stage, source in (("tiles", ""), ("segment", "pixel"), ("evaluate", "pixel"), ("report", "")):
        import_module(f"weakseg.stages.{stage}").run(*([workspace, source] if source else [workspace]))
    assert len(list((workspace / ".weakseg" / "spool").iterdir())) == 4
    assert telling(workspace) == []
    assert send_spool(workspace).left == 0  # by the password of the environment, which the journals do not hold
    run = find_run(workspace, "evaluate@pixel")
    assert run.data.tags["mlflow.source.name"] == "weakseg tune --storage postgresql://db.example/studies"
    export_bundle(workspace / "out" / "checkpoints" / "pixel" / "seed0.pt", workspace / "bundle")
    promote_source(workspace, "pixel", name="secret-free", gates=Gates())
    done = CliRunner().invoke(app, ["--root", str(workspace), "results", str(workspace / "kept")])
    assert (workspace / "kept").is_dir(), done.output

    said = capfd.readouterr()
    client = connect(workspace)
    experiment = client.get_experiment_by_name("secrets")
    rows = [found.to_dictionary() for found in client.search_runs([experiment.experiment_id])]
    versions = [str(dict(one)) for one in client.search_model_versions("name = 'secret-free'")]
    assert (len(rows), len(versions)) == (6, 1)  # four stages, their parent, what was promoted
    kept = tmp_path_factory.mktemp("kept")
    (kept / "rows.json").write_text(json.dumps([rows, versions, str(experiment)]))
    for row in rows:
        client.download_artifacts(row["info"]["run_id"], "", str(kept))  # MLflow prints its address: not ours
    assert telling(workspace) + telling(kept) == []
    assert "correct-horse" not in said.out + said.err + done.output


@pytest.mark.parametrize("kind", ["http", "postgresql+psycopg2", "mysql"])
def test_a_server_that_does_not_answer_is_named_without_its_password(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{kind}://ann:{PASSWORD}@127.0.0.1:{nobody()}/db")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "1")
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    with track("alone", root=tmp_path, params={"source": f"s3://key:{PASSWORD}@bucket"}) as run:
        run.set_tags({"from": f"https://ann:{PASSWORD}@git.example/r.git"})
        run.log_metrics({"loss": 1.0})
    report = send_spool(tmp_path)
    assert (report.sent, report.left) == (0, 1)
    assert "correct-horse" not in str(report)
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1") as told:
        find_run(tmp_path, "alone")
    said = capfd.readouterr()
    assert "correct-horse" not in str(told.value) + said.out + said.err
    assert telling(tmp_path) == []


def test_the_password_of_a_journal_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weakseg.tracking.journal import address_of, journals

    own = f"http://ann:{PASSWORD}@127.0.0.1:9/"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    with track("alone", root=tmp_path, params={}):
        pass
    (folder,) = journals(tmp_path)
    assert address_of(folder) == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:x@127.0.0.2:9/")
    assert address_of(folder) == "http://127.0.0.1:9/"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert address_of(folder) == "http://127.0.0.1:9/"


@pytest.mark.faults
def test_the_log_of_the_sender_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stage starts it, in a process of its own."""
    package = str(Path(tracking.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", package)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{PASSWORD}@127.0.0.1:{nobody()}")
    with track("alone", root=tmp_path, params={}):
        pass
    sender = subprocess.run(
        [sys.executable, "-m", "weakseg.tracking", str(tmp_path)], capture_output=True, timeout=120, check=False
    )
    assert b"127.0.0.1" in sender.stderr
    assert HORSE not in sender.stdout + sender.stderr
    assert telling(tmp_path) == []
