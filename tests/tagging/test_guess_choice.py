"""Whose guesses `weakseg tag` shows where nobody says: the network that makes most of tags, not the newest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weakseg.core.layout import Layout
from weakseg.core.methods import BEST_FIRST, ORACLE, SOURCES
from weakseg.tagging.run import _model_file


def test_the_order_has_every_source_but_the_oracle_once() -> None:
    assert sorted(BEST_FIRST) == sorted(name for name in SOURCES if name != ORACLE)
    asked = ["joint", "consistency", "fused", "untagged", "pixel"]
    assert sorted(asked, key=BEST_FIRST.index) == asked


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["joint", "fused", "untagged", "pixel", "full"], "joint"),
        (["pixel", "consistency", "untagged"], "consistency"),
        (["untagged", "pixel", "cam"], "cam"),
        (["pixel", "untagged"], "untagged"),
        (["pixel", "full"], "pixel"),
        (["full"], None),
    ],
)
def test_the_network_that_makes_most_of_tags_guesses(workspace: Path, there: list[str], chosen: str | None) -> None:
    for age, source in enumerate(there):  # the last is the newest
        file = Layout(workspace).checkpoints(source) / "seed0.pt"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (age, age))
    found = _model_file(workspace, "auto")
    assert found == (None if chosen is None else Layout(workspace).checkpoints(chosen) / "seed0.pt")


def test_of_several_seeds_the_newest_guesses(workspace: Path) -> None:
    folder = Layout(workspace).checkpoints("joint")
    folder.mkdir(parents=True)
    for age, seed in ((2, 1), (1, 3)):
        (folder / f"seed{seed}.pt").touch()
        os.utime(folder / f"seed{seed}.pt", (age, age))
    assert _model_file(workspace, "auto") == folder / "seed1.pt"
