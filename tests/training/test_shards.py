"""Parts of a stage as processes that never meet."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from weakseg.core.errors import ParamsError, StageError
from weakseg.training.machine import Machine, machine_from_environment
from weakseg.training.shards import Shard, ShardDoneError, forget, parse_shard, shard_folder

ITEMS = list("abcdefg")


def work(folder: Path, part: int) -> tuple[list[str], list[str]]:
    """A stage that shares its work twice; returns what both rounds gave. Letters, then their number in the alphabet."""
    machine = Shard(part=part, parts=3, folder=folder)
    first = machine.gather([item.upper() for item in machine.shard(ITEMS)])
    second = machine.gather([f"{item}{ord(item)}" for item in machine.shard(first)])
    machine.wait()
    return first, second


def test_parts_in_any_order_give_what_one_process_gives(tmp_path: Path) -> None:
    for part in (2, 3):
        with pytest.raises(ShardDoneError, match=rf"part {part}/3 is done as far as it goes; still to come: 1/3"):
            work(tmp_path, part)
    with pytest.raises(StageError, match=r"round 1 lacks part 1/3 of these inputs; expected all 3 of them; run the"):
        work(tmp_path, 0)
    with pytest.raises(ShardDoneError, match=r"still to come: 2/3, 3/3"):  # of the second round
        work(tmp_path, 1)
    with pytest.raises(StageError, match=r"round 2 lacks part 2/3, 3/3 .* --shard 2/3 and the others once more"):
        work(tmp_path, 0)
    for part in (3, 2):
        with pytest.raises(ShardDoneError):
            work(tmp_path, part)
    with pytest.raises(ShardDoneError, match="still to come: 3/3"):  # at the last waiting
        work(tmp_path, 1)
    wanted = [item.upper() for item in ITEMS]
    for part in (3, 0, 0, 1):
        assert work(tmp_path, part) == (wanted, [f"{item}{ord(item)}" for item in wanted])


def test_more_parts_than_items(tmp_path: Path) -> None:
    for part in (1, 2, 3):
        machine = Shard(part=part, parts=3, folder=tmp_path)
        try:
            assert machine.gather([item * 2 for item in machine.shard(["a"])]) == ["aa"]
        except ShardDoneError:
            assert part < 3
    assert Shard(parts=3, folder=tmp_path).gather([]) == ["aa"]
    assert [Shard(part=part, parts=3).is_main for part in range(4)] == [True, False, False, False]


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "a/3", "join", "join/0", "1/-2", "1/2/3", "join/x"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ParamsError, match=r"--shard .*; expected 1/3 to 3/3, or join/3; mend it"):
        parse_shard(text, "cam")


def test_parts_are_of_stages_that_share_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (parse_shard("2/3", "cam"), parse_shard("join/12", "evaluate")) == ((2, 3), (0, 12))
    with pytest.raises(ParamsError, match=r"stage irnet with --shard; expected cam \| crf \| teacher"):
        parse_shard("1/3", "irnet")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParamsError, match="--shard under torchrun"):
        parse_shard("1/3", "cam")


def test_other_inputs_have_another_folder(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: 1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").write_text("1")
    inputs = [tmp_path / "out", tmp_path / "gone"]
    before = shard_folder(tmp_path, "cam", inputs, 3)
    assert before == shard_folder(tmp_path, "cam", inputs, 3)
    assert before.parent == tmp_path / ".weakseg/shards/cam"
    assert shard_folder(tmp_path, "cam", inputs, 4) != before
    (tmp_path / "out/x").write_text("12")
    changed = shard_folder(tmp_path, "cam", inputs, 3)
    assert changed != before
    (tmp_path / "params.yaml").write_text("a: 2")
    assert shard_folder(tmp_path, "cam", inputs, 3) != changed
    before.mkdir(parents=True)
    forget(changed)
    assert not before.exists()


def test_the_environment_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert type(machine_from_environment()) is Machine
    monkeypatch.setenv("WEAKSEG_SHARD", f"2 3 {tmp_path}/with a blank")
    found, plain = machine_from_environment(), Machine(device=os.environ["WEAKSEG_DEVICE"])
    assert isinstance(found, Shard)
    assert (found.part, found.parts, found.folder) == (2, 3, tmp_path / "with a blank")
    assert (found.device, found.world) == (plain.device, 1)
    assert {one.name for one in fields(Machine)} < {one.name for one in fields(Shard)}
