"""`make bench` knows every script of benchmarks/: what it runs, and why it leaves the others out."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module("run_all")
    finally:
        sys.path.remove(str(FOLDER))


def test_every_benchmark_runs_or_says_why_not(runner: ModuleType) -> None:
    run = {name for name, _, _ in runner.BENCHMARKS}
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    assert run | set(runner.LEFT_OUT) >= scripts - {"__init__"}
    assert not run & set(runner.LEFT_OUT)
    assert run <= scripts


def test_benchmarks_take_their_options(runner: ModuleType) -> None:
    for name, words, _ in runner.BENCHMARKS:
        text = (FOLDER / f"{name}.py").read_text()
        ast.parse(text)
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"[\"']{word}[\"']", text), f"{name} has no {word}"


def test_a_benchmark_that_fails_is_told(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "good.py").write_text("print('| a row |')")
    (tmp_path / "benchmarks" / "bad.py").write_text("raise SystemExit('claim missed')")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "BENCHMARKS", (("good", (), ""), ("bad", (), ""), ("gone", (), "no/such/model.pt")))
    monkeypatch.setattr(sys, "argv", ["run_all.py"])
    assert runner.main() == 1
    said = capsys.readouterr().out
    assert re.search(
        r"done: good \d+ s \(CPU \d+\)\nFAILED: bad \d+ s \(CPU \d+\)\nno demo here: python benchmarks/gone\.py", said
    )
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--minutes", "0", "--only", "good"])
    assert runner.main() == 0
    assert "no time left: python benchmarks/good.py" in capsys.readouterr().out
