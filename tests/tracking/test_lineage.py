"""Data lineage: which recorded outputs a stage reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakseg.tracking.lineage import Input, inputs_of

DVC_YAML = """
stages:
  tiles: {cmd: x, deps: [data, src/tiles.py], outs: [out/tiles]}
  segment:
    foreach: {pixel: {labels: out/tiles/labels}, full: {labels: out/hidden}}
    do: {cmd: "x ${key}", deps: [out/tiles, "${item.labels}", src/segment.py: {}], outs: ["out/checkpoints/${key}"]}
  evaluate:
    foreach: ${sources}
    do: {cmd: "x ${key}", deps: [out/tiles/classes.yaml, "out/checkpoints/${key}", "out/${item}"], outs: []}
  audit:
    foreach: ${more.methods}
    do: {cmd: x, deps: ["out/${labels}", "out/scores/${item}"]}
  listed:
    foreach: [pixel]
    do: {cmd: x, deps: ["out/checkpoints/${item}"]}
  report: {cmd: x, deps: [reports/evaluate]}
"""
PARAMS = """
sources: {pixel: tiles, full: hidden}
more: {methods: [cam]}
labels: hidden
"""
DVC_LOCK = """
schema: '2.0'
stages:
  tiles:
    cmd: x
    deps: [{path: src/tiles.py, md5: code}]
    outs:
    - {path: out/hidden, md5: 11.dir, size: 10, nfiles: 2}
    - {path: out/tiles, md5: 22.dir, size: 20, nfiles: 3}
    - {path: out/tiles_old, md5: 23.dir, size: 20, nfiles: 3}
  segment@pixel:
    outs: [{path: out/checkpoints/pixel, md5: 33.dir, size: 30, nfiles: 1}]
  evaluate@pixel:
    outs: [{path: reports/evaluate/pixel.json, md5: '44', size: 40}]
"""
DATA, TILES, HIDDEN = (
    Input("data", "00.dir", 5, 4),
    Input("out/tiles", "22.dir", 20, 3),
    Input("out/hidden", "11.dir", 10, 2),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "params.yaml").write_text("sources: {pixel: tiles/labels, full: hidden}\n")
    (tmp_path / "dvc.lock").write_text(DVC_LOCK)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "data.dvc").write_text("outs:\n- {path: data, md5: 00.dir, size: 5, nfiles: 4}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("tiles", [DATA]),
        ("segment@pixel", [DATA, TILES]),
        ("segment@pixel seed 1", [DATA, TILES]),
        ("segment@full", [DATA, TILES, HIDDEN]),
        ("evaluate@pixel", [DATA, TILES, Input("out/checkpoints/pixel", "33.dir", 30, 1)]),
        ("evaluate@full", [DATA, TILES, HIDDEN]),  # what is not recorded yet is left out
        ("audit@cam", [DATA, HIDDEN]),
        ("listed@pixel", [DATA, Input("out/checkpoints/pixel", "33.dir", 30, 1)]),
        ("segment@unknown", [DATA, TILES]),
        ("report", [DATA, Input("reports/evaluate/pixel.json", "44", 40, 1)]),
        ("tune", [DATA]),  # a command, not a stage
    ],
)
def test_inputs_are_the_recorded_outputs_a_stage_depends_on(root: Path, stage: str, expected: list[Input]) -> None:
    assert inputs_of(root, stage) == expected


def test_a_list_that_params_hold_is_followed(root: Path) -> None:
    text = DVC_YAML.replace("{pixel: {labels: out/tiles/labels}, full: {labels: out/hidden}}", '"${sources}"')
    (root / "dvc.yaml").write_text(text.replace("${item.labels}", "out/${item}"))
    assert inputs_of(root, "segment@full") == [DATA, TILES, HIDDEN]
    assert inputs_of(root, "segment@other") == [DATA, TILES]  # not among the sources: run by hand


def test_what_is_not_there_or_broken_is_left_out(root: Path) -> None:
    (root / "dvc.lock").write_text("a: [")
    assert inputs_of(root, "segment@full") == [DATA]
    (root / "data.dvc").unlink()
    assert inputs_of(root, "segment@full") == []
