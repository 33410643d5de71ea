"""What stands around the package: MLproject, environments, images, services, hooks. Nothing here needs an engine."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from scripts import prove_dockerfile
from scripts.prove_dockerfile import instructions

from weakseg.core.params import load_params

ROOT = Path(__file__).parents[1]
ENTRIES = ("main", "train", "tune", "evaluate", "promote", "predict")
VALUES = {
    "main": {"target": "segment@pixel"},
    "train": {"source": "fused"},
    "tune": {"study": "night", "trials": "7", "workers": "3"},
    "evaluate": {"source": "fused"},
    "promote": {"source": "fused", "alias": "challenger"},
    "predict": {"model": "m.pt", "image": "a b.tif", "output": "maps dir"},
}


def commands() -> dict[str, Any]:
    """The commands of the command line, by name."""
    from weakseg.cli import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


DOCKER = instructions((ROOT / "Dockerfile").read_text())


# ---- MLproject ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project() -> Any:
    from mlflow.projects._project_spec import load_project

    return load_project(str(ROOT))


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_parameter_of_an_entry_reaches_its_command(project: Any, entry: str, tmp_path: Path) -> None:
    point = project.get_entry_point(entry)
    assert set(point.parameters) == set(VALUES[entry])
    files = {"model", "image"} & set(VALUES[entry])
    values = {name: str(tmp_path / v) if name in files else v for name, v in VALUES[entry].items()}
    for name in files:
        Path(values[name]).touch()
    words = shlex.split(point.compute_command(values, None))
    for name, value in values.items():
        assert any(word == value or word.endswith(f"@{value}") for word in words), name


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_commands_of_an_entry_exist(project: Any, entry: str) -> None:
    given = {name: str(ROOT / "README.md") for name in ("model", "image") if name in VALUES[entry]}
    line = project.get_entry_point(entry).compute_command(given, None)
    for command in line.split("&&")[1:]:
        python, option, module, *words = shlex.split(command)
        assert (python, option) == ("python", "-m")
        assert module in ("weakseg", "dvc")
        if module == "dvc":
            assert words[0] == "repro"
            assert words[1] in stage_names()
        else:
            check_command(words)


def check_command(words: list[str]) -> None:
    """Names and options of a weakseg command line exist."""
    known = commands()
    found: Any = known[words[0]]
    rest = words[1:]
    if hasattr(found, "commands"):
        if rest[0] not in found.commands:
            assert getattr(found, "invoke_without_command", False)
        else:
            found, rest = found.commands[rest[0]], rest[1:]
    options = {text for parameter in found.params for text in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options
    expected = [parameter for parameter in found.params if parameter.param_type_name == "argument"]
    values = [
        word
        for word, before in zip(rest, ["", *rest], strict=False)
        if not word.startswith("--") and not before.startswith("--")
    ]
    assert len([parameter for parameter in expected if parameter.required]) <= len(values)
    assert len(values) <= len(expected) or any(parameter.nargs != 1 for parameter in expected)


def stage_names() -> set[str]:
    """Targets that `dvc repro` knows: stages and stage@key."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    items = {name: stage["foreach"] for name, stage in stages.items() if "foreach" in stage}
    each = {name: of if isinstance(of, list) else params[of[2:-1]] for name, of in items.items()}
    return {f"{name}@{key}" for name, keys in each.items() for key in keys} | set(stages)


def test_mlflow_run_starts_main_inside_its_run(tmp_path: Path) -> None:
    """For real, with a `python` that notes how it was called."""
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shim = tmp_path / "bin" / "python"
    shim.parent.mkdir()
    shim.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$*|$MLFLOW_RUN_ID|$PYTHONPATH|$MLFLOW_TRACKING_URI\" >> {tmp_path}/calls\n"
    )
    shim.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "WEAKSEG"))}
    environment |= {
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "mlflow", "run", ".", "-e", "main", "--env-manager", "local", "-P", "target=tiles"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    calls = [line.split("|") for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call[0] for call in calls] == ["-m weakseg data ensure", "-m dvc repro tiles"]
    assert len({call[1] for call in calls}) == 1
    assert re.fullmatch("[0-9a-f]{32}", calls[0][1])  # which weakseg.tracking makes the parent of the stages
    assert {call[2] for call in calls} == {f"{tmp_path}/src"}


def test_python_env_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "python_env.yaml").read_text())
    assert environment["dependencies"] == ["-r requirements.lock"]
    python = tuple(int(part) for part in environment["python"].split("."))
    assert (3, 11) <= python < (3, 13)
    assert "--hash=sha256:" in (ROOT / "requirements.lock").read_text()


# ---- Docker ---------------------------------------------------------------------------------------------------------


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    seen = 0
    for instruction, rest in DOCKER:
        if instruction == "COPY" and "--from=" not in rest:
            for source in [word for word in rest.split() if not word.startswith("--")][:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f"{source} is not in the build context"
                seen += 1
    assert seen > 10


def image_stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of the Dockerfile by stage."""
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, rest in DOCKER:
        if instruction == "FROM":
            name = rest.split()[-1]
        stages.setdefault(name, []).append((instruction, rest))
    return stages


def test_the_image_is_not_root_and_mounts_data_and_out() -> None:
    stages = image_stages()
    train = stages["train"]
    assert ("USER", "weakseg") in train
    assert json.loads(dict(train)["VOLUME"]) == ["/app/data", "/app/out", "/app/reports"]
    assert "g++" in str(stages["builder"])
    assert "g++" not in str(train)
    assert dict(stages["serve"])["FROM"] == "train AS serve"  # so it is not root either
    assert "USER" not in dict(stages["serve"])


def test_the_commands_of_the_image_exist() -> None:
    train = dict(image_stages()["train"])
    assert json.loads(train["ENTRYPOINT"]) == ["python", "-m", "weakseg"]
    assert json.loads(train["CMD"]) == ["--help"]


@pytest.mark.slow
def test_the_server_of_the_image_starts_with_options_that_mlflow_has() -> None:
    from mlflow.models.cli import commands as models

    serve = dict(image_stages()["serve"])
    words = json.loads(serve["ENTRYPOINT"]) + json.loads(serve["CMD"])
    assert words[:3] == ["mlflow", "models", "serve"]
    known = {text for parameter in models.commands["serve"].params for text in parameter.opts}
    assert {word for word in words[3:] if word.startswith("--")} <= known
    assert words[-2:] == ["--model-uri", f"models:/{load_params(ROOT / 'params.yaml').promote.model}@champion"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_says_whether_the_model_answers(status: int | None, healthy: bool) -> None:
    """The image's own command, against a server that answers at /ping like MLflow's, or does not."""

    class Ping(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 500) if self.path == "/ping" else self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    serve = dict(image_stages()["serve"])
    port = serve["EXPOSE"]
    assert port in json.loads(serve["ENTRYPOINT"])
    python, option, code = json.loads(serve["HEALTHCHECK"].partition("CMD")[2])
    assert f":{port}/" in code
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = code.replace(f":{port}/", f":{server.server_port if status else 1}/")
        done = subprocess.run([sys.executable, option, here], capture_output=True)
        server.shutdown()
    assert python == "python"
    assert (done.returncode == 0) == healthy


def test_every_instruction_can_be_proven_without_an_engine(tmp_path: Path) -> None:
    """scripts/prove_dockerfile.py knows them all; COPY as the engine does it, RUN noted instead of run."""
    ran: list[tuple[str, str, str]] = []

    class Noted(prove_dockerfile.Stage):
        def run(self, command: list[str], given: Mapping[str, str]) -> None:
            ran.append((self.folder.name, self.user, command[-1]))

    base = tmp_path / "base"
    (base / "etc" / "ssl" / "certs").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prove_dockerfile, "Stage", Noted)
        patch.setattr(prove_dockerfile, "refresh_machine_files", lambda folder: None)
        made = prove_dockerfile.build(
            (ROOT / "Dockerfile").read_text().replace("COPY --from=builder /opt/venv /opt/venv\n", ""),
            **{"base": base, "work": tmp_path / "work", "target": "serve", "chosen": {"DEVICE": "cpu"}, "given": {}},
        )
    assert [line for _, _, line in ran] == [rest for name, rest in DOCKER if name == "RUN"]
    assert {(stage, user) for stage, user, _ in ran} == {("builder", "root"), ("train", "root")}
    app = made.folder / "app"
    assert (made.user, made.directory) == ("weakseg", "/app")
    assert made.environment["PATH"].startswith("/opt/venv/bin:")
    assert (app / "src" / "weakseg" / "cli" / "__init__.py").is_file()
    assert (app / ".dvc" / "config").is_file()
    assert (app / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert made.entry[:3] == ["mlflow", "models", "serve"]


def test_the_cpu_image_leaves_out_cuda_and_nothing_else(tmp_path: Path) -> None:
    """The awk lines of the Dockerfile, run on the real lock."""
    text = (ROOT / "Dockerfile").read_text()
    filters = re.findall(r"awk ('.*?')\s+(?:\\\s+)?requirements\.lock > (\S+?)[;\s]", text, re.S)
    assert [name for _, name in filters] == ["cpu.lock", "torch.txt"]
    for program, name in filters:
        line = f"awk {program} {shlex.quote(str(ROOT / 'requirements.lock'))} > {name}"
        subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)

    def packages(path: Path) -> set[str]:
        return set(re.findall(r"^([A-Za-z0-9._-]+)==", path.read_text(), re.M))

    everything, kept = packages(ROOT / "requirements.lock"), packages(tmp_path / "cpu.lock")
    gone = everything - kept
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"} <= gone
    assert all(re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", name) for name in gone)
    assert {"torchmetrics", "pydensecrf2", "numpy"} <= kept
    assert packages(tmp_path / "torch.txt") == {"torch", "torchvision"}
    hashes = (tmp_path / "cpu.lock").read_text().count("--hash")
    assert hashes > len(kept)  # whole entries are kept, hashes and all


def test_the_uv_of_the_image_is_that_of_make() -> None:
    version = next(rest for name, rest in DOCKER if name == "ARG" and rest.startswith("UV=")).removeprefix("UV=")
    assert f"uv=={version}" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "name", ["Dockerfile", "compose.yaml", "MLproject", "python_env.yaml", ".pre-commit-config.yaml"]
)
def test_no_package_registry_is_named(name: str) -> None:
    addresses = re.findall(r"https?://([\w.-]+)", (ROOT / name).read_text())
    assert set(addresses) <= {"127.0.0.1", "store", "SERVER"}


# ---- compose, hooks -------------------------------------------------------------------------------------------------


def test_services_wait_for_each_other_and_have_no_password_in_git() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"database", "store", "buckets", "mlflow"}
    for service in services.values():
        for needed, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[needed]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY", name):
                assert str(value).startswith("${"), name
    wanted = set(re.findall(r"\$\{(\w+)\:\?", (ROOT / "compose.yaml").read_text()))
    example = (ROOT / "compose.env.example").read_text()
    assert wanted == {"POSTGRES_PASSWORD", "S3_USER", "S3_PASSWORD"}
    assert all(f"\n{name}=\n" in example for name in wanted)  # given empty: nobody runs the example's password
    image = services["mlflow"]["build"]["dockerfile_inline"]
    pinned = dict(re.findall(r"([a-z0-9-]+)==([0-9.]+)", image))
    assert set(pinned) == {"mlflow", "boto3", "psycopg2-binary"}
    lock = (ROOT / "requirements.lock").read_text()
    assert all(f"\n{name}=={pinned[name]} " in lock for name in ("mlflow", "boto3"))  # clients and server alike
    assert "\nUSER mlflow\n" in image
    database = services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert database.endswith(f"@database:5432/{services['database']['environment']['POSTGRES_DB']}")


@pytest.mark.slow
def test_the_server_of_compose_starts_with_options_that_mlflow_has() -> None:
    from mlflow.cli import server

    words = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["mlflow"]["command"]
    assert words[:2] == ["mlflow", "server"]
    known = {text for parameter in server.params for text in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in words[2:]} <= known


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client")
def test_docker_compose_reads_the_file() -> None:
    probe = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip("no compose plugin")
    environment = {**os.environ, "POSTGRES_PASSWORD": "a", "S3_USER": "b", "S3_PASSWORD": "c"}
    command = ["docker", "compose", "-f", str(ROOT / "compose.yaml"), "config", "-q"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_hooks_download_nothing_and_their_tools_are_locked() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    lock = (ROOT / "requirements.lock").read_text()
    for hook in hooks[0]["hooks"]:
        assert hook["language"] == "system"
        tool = hook["entry"].split()[0]
        assert tool == "sh" or f"\n{tool.removeprefix('.venv/bin/')}==" in lock
