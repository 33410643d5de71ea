"""The commands of the pages on scaling, tuning and the registry exist, their options parse, the scripts run dry."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from weakseg.cli import app
from weakseg.core.methods import SOURCES, WEAK_SOURCES
from weakseg.stages import STAGES

PROJECT = Path(__file__).parents[1]
PAGES = ("scaling", "tuning", "registry", "experiments")
TEXT = {page: (PROJECT / "docs" / f"{page}.md").read_text() for page in PAGES}
BLOCKS = [part for text in TEXT.values() for part in re.split(r"^```", text, flags=re.MULTILINE)[1::2]]
SCRIPTS = dict(re.findall(r"`(\w+\.sh)`, [^\n]*:\n\n```\n(#!/bin/bash\n.*?)```", TEXT["scaling"], re.DOTALL))
SBATCH = {"job-name", "array", "gres", "cpus-per-task", "time", "requeue", "nodes", "ntasks-per-node"}


def command_lines() -> list[list[str]]:
    """Words of every command in the blocks, comments, assignments and srun left out."""
    found = []
    for line in "".join(block for block in BLOCKS if block.startswith("\n")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] == "srun"):
            words = words[1:]
        if words and words[0] not in ("export", "cd") and "=" not in words[0]:
            found.append(words)
    return found


LINES = command_lines()


def of(program: str) -> list[list[str]]:
    return [words for words in LINES if words[0] == program]


def check_ours(words: list[str]) -> None:
    """Parse the words after ``weakseg`` down to the last subcommand, without running it."""
    command: Any = typer.main.get_command(app)
    name, parent = "weakseg", None
    while True:
        parent = command.make_context(name, list(words), parent=parent)
        rest = [*parent._protected_args, *parent.args]
        if not hasattr(command, "commands") or not rest:
            return
        name, command, words = command.resolve_command(parent, rest)


def ours() -> list[list[str]]:
    """What follows ``weakseg``, ``python -m weakseg`` and ``torchrun ... -m weakseg``."""
    launched = [
        words[words.index("-m") + 2 :] for words in LINES if words[0] in ("python", "torchrun") and "-m" in words
    ]
    return [words[1:] for words in of("weakseg")] + launched


def test_the_pages_are_read() -> None:
    assert set(SCRIPTS) == {"source.sh", "nodes.sh", "tune.sh"}
    programs = {words[0] for words in LINES}
    assert programs == {
        *("weakseg", "python", "torchrun", "dvc", "optuna-dashboard", "git", "docker", "cp", "sbatch", "mlflow"),
    }


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_our_commands_and_options_exist(words: list[str]) -> None:
    check_ours(words)
    if words[0] == "stage":
        assert words[1] in STAGES
        assert len(words) == 2 or words[2].startswith("$") or words[2] in ("--shard", *SOURCES, *WEAK_SOURCES)


def test_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        check_ours(["tune", "--worker-count", "2"])
    with pytest.raises(Exception, match="No such command"):
        check_ours(["tuna"])


def test_torchrun_takes_its_options() -> None:
    from torch.distributed.run import get_args_parser

    launches = [shlex.split(re.findall(r'WEAKSEG_LAUNCH="(.*?)"', TEXT["scaling"])[0]), *of("torchrun")]
    assert len(launches) >= 5
    for words in launches:
        options = words[1:] if "-m" in words else [*words[1:], "-m", "weakseg"]
        options = [word.replace("$SLURM_NNODES", "4") for word in options]
        parsed = get_args_parser().parse_args(options)
        assert (parsed.module, parsed.training_script, parsed.nproc_per_node) == (True, "weakseg", "8")


def test_dvc_takes_its_options() -> None:
    from dvc.cli.parser import get_main_parser

    inline = [shlex.split(words) for words in re.findall(r"`(dvc (?:commit|remote) [^`]*)`", "".join(TEXT.values()))]
    assert inline
    assert any(words[1] == "remote" for words in of("dvc"))
    for words in [*of("dvc"), *inline]:
        assert get_main_parser().parse_args(words[1:]).func is not None


@pytest.mark.parametrize("name", SCRIPTS)
def test_slurm_scripts_run_dry(name: str, tmp_path: Path) -> None:
    """With stand-ins for the cluster's programs that print what they are asked for."""
    for line in SCRIPTS[name].splitlines():
        if line.startswith("#SBATCH"):
            assert {option.split("=")[0].removeprefix("--") for option in line.split()[1:]} <= SBATCH
    for program, body in {"srun": 'exec "$@"', "python": 'echo "python $*"', "torchrun": 'echo "torchrun $*"'}.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{body}\n")
    (tmp_path / "scontrol").write_text("#!/bin/bash\nprintf 'n7\\nn8\\n'\n")
    for program in ("srun", "python", "torchrun", "scontrol"):
        (tmp_path / program).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / name).write_text(SCRIPTS[name])
    facts = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "n[7-8]", "SLURM_NNODES": "2"}
    facts |= {"SLURM_JOB_ID": "42", "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "1"}
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **facts}
    done = subprocess.run(
        ["bash", "-eu", name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    wanted = {
        "source.sh": "python -m weakseg stage segment teacher",
        "nodes.sh": "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint n7:29500 "
        "--rdzv-id 42 -m weakseg stage segment fused",
        "tune.sh": "python -m weakseg tune --study big --trials 200 --resume",
    }
    assert done.stdout.strip() == wanted[name]


def test_environment_variables_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.py"))
    for name in set(re.findall(r"WEAKSEG_[A-Z_]+", "".join(TEXT.values()))):
        assert name in source, name


def test_the_cost_of_many_scenes_follows_from_its_table() -> None:
    """S P = 10^5 scenes of 5 x 10^6 px; rates, overlap and price as in the table."""
    text, pixels, overlap = TEXT["scaling"], 1e5 * 2000 * 2500, (1 - 0.34) ** 2
    assert f"{overlap:.2f}" == "0.44"
    seconds = pixels / overlap / 1e8
    assert f"{seconds:.1e}" == "1.1e+04"
    assert f"{seconds / 3600:.1f} GPU hours, {2 * seconds / 3600:.0f} euro" in text
    assert f"8 views {8 * seconds / 3600:.0f} hours and {16 * seconds / 3600:.0f} euro" in text
    assert round(3 * 1e8 * overlap / 1e6, -1) == 130
    assert "130 MB/s" in text
    assert round(pixels * 5 / 1e6 / 3600, -2) == 700
    assert "700 core hours" in text
    assert round(pixels / overlap / 5e5 / 3600, -1) == 640
    assert "640 core hours" in text
    training = 4e4 * 32 * 512**2 / 2e7
    assert f"{training:.1e}" == "1.7e+04"
    assert f"{training / 3600:.1f} GPU hours per seed" in text
