"""Files are replaced whole or not at all, and what dead processes left is cleared up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from weakseg.core import files
from weakseg.core.files import append_line, atomic_path, remove_folder, write_text


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail_halfway() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("ne")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_two_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as one, atomic_path(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a.txt").read_text() == "one"  # the last to end


def test_what_a_dead_process_left_is_deleted_and_all_else_stays(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = tmp_path / f".{files.NODE}-{done.pid}-0-a.tmp.txt"
    alive = tmp_path / f".{files.NODE}-{os.getppid()}-0-a.tmp.txt"
    elsewhere, old = (tmp_path / f".{node}-{done.pid}-0-a.tmp.txt" for node in ("000000", "000001"))
    theirs = tmp_path / ".notes.tmp.txt"
    for path in (dead, alive, elsewhere, old, theirs):
        path.write_text("half")
    day_old = time.time() - 2 * 86400
    os.utime(old, (day_old, day_old))
    write_text(tmp_path / "b.txt", "b")
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere.name, theirs.name, "b.txt"}


def test_a_folder_is_deleted_wholly_or_it_is_told(tmp_path: Path) -> None:
    remove_folder(tmp_path / "none")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic link"):
        remove_folder(tmp_path / "link")
    remove_folder(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_lines_are_added_and_an_end_that_is_missing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "log.jsonl"
    append_line(file, "a")
    append_line(file, "ü")
    assert file.read_bytes() == "a\nü\n".encode()
    file.write_bytes(b"by hand")
    append_line(file, "b")
    assert file.read_bytes() == b"by hand\nb\n"


def test_half_a_line_does_not_stay(tmp_path: Path) -> None:
    """The limit of a file's size in another process: the first write is cut short, the second fails."""
    file = tmp_path / "log"
    append_line(file, "whole")
    work = (
        "import resource, signal; from pathlib import Path; from weakseg.core.files import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        f"append_line(Path({str(file)!r}), 'x' * 100)"
    )
    ended = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert "File too large" in ended.stderr
    assert file.read_text() == "whole\n"
    append_line(file, "next")
    assert file.read_text() == "whole\nnext\n"
