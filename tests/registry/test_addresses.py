"""Where a model address leads: paths, versions and aliases of a real registry, stores elsewhere, and refusals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import ParamsError, TrackingError
from weakseg.registry import addresses
from weakseg.registry.addresses import find_model
from weakseg.registry.versions import Evidence, Gates, promote, register
from weakseg.tracking import connect

MLMODEL = "flavors: {python_function: {artifacts: {weights: {path: artifacts/seed0.pt, uri: /gone}}}}\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry has weakseg 1 (the champion) and 2, and 3 from another program."""
    root = tmp_path_factory.mktemp("workspace")
    client = connect(root)
    experiment = client.create_experiment("models", artifact_location=(root / "mlruns").as_uri())
    for index in (1, 2):
        folder = root / "model"
        (folder / "artifacts").mkdir(parents=True)
        (folder / "MLmodel").write_text(MLMODEL)
        (folder / "artifacts" / "seed0.pt").write_text(f"weights {index}")
        run_id = client.create_run(experiment).info.run_id
        register(root, folder, name="weakseg", run_id=run_id, evidence=Evidence("d", 0.5, {"car": 0.5}))
        shutil.rmtree(folder)
    promote(root, "weakseg", "1", gates=Gates(), gain=None, against=None)
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "flavors: {sklearn: {}}\n", "model/MLmodel")
    client.create_model_version("weakseg", f"{client.get_run(run_id).info.artifact_uri}/model", run_id=run_id)
    return root


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    assert find_model(tmp_path, "out/checkpoints/pixel/seed0.pt") == Path("out/checkpoints/pixel/seed0.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_mlflow_downloaded_is_the_model_in_it(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL)
    assert find_model(tmp_path, str(tmp_path)) == tmp_path / "artifacts" / "seed0.pt"


@pytest.mark.parametrize(("address", "text"), [("@champion", "weights 1"), ("/1", "weights 1"), ("/2", "weights 2")])
def test_aliases_and_versions_lead_to_the_registered_file(root: Path, address: str, text: str) -> None:
    assert find_model(root, f"models:/weakseg{address}").read_text() == text


def test_a_model_in_a_store_elsewhere_is_fetched_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_local_folder", lambda source: None)
    found = find_model(root, "models:/weakseg/2")
    assert (found.read_text(), found.is_relative_to(root / ".weakseg" / "models")) == ("weights 2", True)
    found.write_text("kept")
    assert find_model(root, "models:/weakseg/2").read_text() == "kept"
    assert len(list((root / ".weakseg" / "models").iterdir())) == 1


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("models:/weakseg", ParamsError, "expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/weakseg/latest", ParamsError, "mend the address"),
        ("models:weakseg@champion", ParamsError, "mend the address"),
        ("models:/weakseg@challenger", TrackingError, "weakseg has no challenger.*`weakseg promote`"),
        ("models:/nobody@champion", TrackingError, "nobody has no champion"),
        ("models:/weakseg/99", TrackingError, "check the names"),
        ("models:/weakseg/3", TrackingError, "models:/weakseg/3 holds no weights of weakseg"),
    ],
)
def test_what_is_not_there_is_named_with_its_cure(root: Path, address: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        find_model(root, address)


def test_a_workspace_without_a_registry_gets_none(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"no registry sqlite:.*mlflow\.db.*--root, or set MLFLOW_TRACKING_URI"):
        find_model(tmp_path, "models:/weakseg@champion")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["predict", "a.tif", "b.tif", "--model"], ["export"], ["demo", "--model"]])
def test_the_commands_ask_the_registry_of_the_workspace(
    root: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file behind the address is reached; it holds no network, and the refusal names it."""
    monkeypatch.chdir(root)
    rest = ["x.onnx"] if command == ["export"] else []
    monkeypatch.setattr("weakseg.inference.predict.inspect_source", lambda *_: None)
    result = CliRunner().invoke(app, ["--root", str(root), *command, "models:/weakseg@champion", *rest])
    assert "seed0.pt does not load" in str(result.exception)


@pytest.mark.parametrize("place", ["/etc/seed0.pt", "../../seed0.pt"])
def test_a_description_names_no_file_outside_its_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL.replace("artifacts/seed0.pt", place))
    with pytest.raises(TrackingError, match="holds no weights of weakseg"):
        find_model(tmp_path, str(tmp_path))
