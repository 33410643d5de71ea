"""An import that is killed before any of its file operations: what reads is whole, and the next import goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.importing.test_dataset import files_of, make_folders, run
from tests.faults import forks, tally
from tests.faults.forks import Instant

from weakseg.core.errors import DataError
from weakseg.data.importing import publishing

WHOLE = ", which the last import had written whole when it was killed"


def contents(target: Path) -> dict[str, bytes]:
    """Without what an import stages there."""
    return {name: (target / name).read_bytes() for name in files_of(target) if not name.startswith(".import-")}


def message(work: Callable[[], object]) -> str:
    """What it refuses, or "" if it ended well."""
    try:
        work()
    except DataError as error:
        return str(error)
    return ""


def left(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*")]


@pytest.mark.parametrize("replace", [False, True])
def test_the_next_import_goes_on(tmp_path: Path, replace: bool) -> None:
    root = tmp_path / "work"
    old, new, other = (make_folders(tmp_path / name, (name,)) for name in ("a", "b", "c"))
    target = root / "data"
    target.mkdir(parents=True)

    def begin() -> dict[str, bytes]:
        for path in sorted(target.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if replace:
            run(*old, target)
        return contents(target)

    def work() -> None:
        run(*new, target, replace=replace)

    before = begin()
    length = forks.run(work, folder=root)
    assert length.code == 0, length.said
    after, refused = contents(target), 0
    said_whole = 0
    for event in range(1, length.events + 1):
        begin()
        assert forks.run(work, folder=root, kill=Instant(event=event)).killed
        tally.injected("kill of `weakseg data import`")
        if (target / "classes.yaml").exists():
            assert contents(target) in (before, after)
        told = message(lambda: run(*other, target, replace=replace))
        if told:  # killed while its own folder was being deleted
            refused += 1
            assert "has data already" in told
            said_whole += WHOLE in told
            assert contents(target) == after
        else:
            assert files_of(target) == ["classes.yaml", "images/c.tif", "labels/c.tif"]
        assert left(root) == [], event
        tally.survived("kill of `weakseg data import`")
    assert (refused > 0) == (said_whole > 0) == (not replace)
    assert length.events > 20


def test_folders_of_imports_at_work_and_into_other_places_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with publishing.staging_folder(tmp_path / "data") as mine, publishing.staging_folder(tmp_path / "other") as others:
        assert publishing.clear_killed(tmp_path / "data") == ""
        assert mine.exists()
        monkeypatch.setattr(publishing, "is_at_work", lambda *_: False)
        assert publishing.clear_killed(tmp_path / "data") == ""
        assert not mine.exists()
        assert others.exists()
        mine.mkdir()  # for its own end


def test_folders_of_another_computer_stay_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with publishing.staging_folder(tmp_path / "data") as mine:
        monkeypatch.setattr(publishing, "NODE", "abcdef")
        publishing.clear_killed(tmp_path / "data")
        assert mine.exists()
        os.utime(mine, (0, 0))
        publishing.clear_killed(tmp_path / "data")
        assert not mine.exists()
        mine.mkdir()


@pytest.mark.parametrize("killed", range(1, 12))
def test_what_was_taken_back_stays_when_the_deletion_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """Moves fail, they are undone, and the process is killed while it deletes what it had staged."""
    root = tmp_path / "work"
    target = root / "data"
    run(*make_folders(tmp_path / "a", ("a",)), target)
    before, real, moved = contents(target), os.replace, []

    def fails(origin: Path, goal: Path) -> None:
        if Path(goal) == target / "labels" and not moved:
            moved.append(goal)
            raise OSError("no")
        real(origin, goal)

    def work() -> None:
        monkeypatch.setattr(publishing.os, "replace", fails)
        monkeypatch.setattr(publishing.shutil, "rmtree", lambda staging: halves(staging))
        run(*make_folders(tmp_path / "b", ("b",)), target, replace=True)

    def halves(staging: Path) -> None:
        for number, path in enumerate(sorted((staging / "data").rglob("*"), reverse=True), 1):
            if number == killed:
                break
            path.rmdir() if path.is_dir() else path.unlink()
        os.kill(os.getpid(), 9)

    assert forks.run(work, folder=root).killed
    assert publishing.clear_killed(target) == ""
    assert contents(target) == before
    assert left(root) == []
