"""Presets: the base, what differs, and params files of version 0.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.config import dump_yaml, leaves, load_commented, load_yaml, parse_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.methods import WEAK_SOURCES
from weakseg.core.params import load_params
from weakseg.pipeline.presets import MOVED, PIPELINE, build_params, load_preset, move_old, moved_path, presets

PROJECT = Path(__file__).parents[2]
BASE: dict[str, Any] = load_yaml(PIPELINE / "base.yaml")


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_there_are_presets() -> None:
    assert presets() == [
        *("base", "demo", "dubai", "dubai_building", "dubai_encdec", "dubai_gpu", "dubai_water", "irn_voc", "lid"),
        *("own", "vaihingen"),
    ]


@pytest.mark.parametrize("name", presets())
def test_a_preset_says_what_it_is_and_only_what_differs(name: str) -> None:
    text = (PIPELINE / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    own = parse_yaml(text) or {}
    under = parse_yaml(build_params(own.pop("base", "base"))[0])
    if name != "base":
        same = [path for path, value in leaves(own) if dict(leaves(under)).get(path) == value]
        assert [path for path in same if not path.startswith("tune.space.")] == []  # a table that is given whole


def test_values_of_a_preset_stand_in_the_layout_of_the_base(tmp_path: Path) -> None:
    config = write(
        tmp_path / "mine.yaml", "# My images.\nbase: dubai\nsegment: {class_weights: {car: 3.0}, crop: 96}\n"
    )
    text, said = build_params(config)
    assert said == ""
    assert text.startswith("# My images.\nmethods: # that get")
    params = load_preset(config)
    assert (params.segment.crop, params.segment.class_weights, params.tiles.tag_size) == (96, {"car": 3.0}, 50)
    assert dump_yaml(load_commented(text)) == text
    notes = [line.partition("#")[2] for line in (PIPELINE / "base.yaml").read_text().splitlines() if " #" in line]
    assert notes
    assert [line.partition("#")[2] for line in text.splitlines() if " #" in line] == notes


def test_dubai_encdec_is_dubai_but_for_its_own_lines() -> None:
    dubai, encdec = (dict(leaves(parse_yaml(build_params(name)[0]))) for name in ("dubai", "dubai_encdec"))
    changed = {path for path in dubai.keys() | encdec.keys() if dubai.get(path) != encdec.get(path)}
    assert "segment.network.name" in changed
    assert len(changed) == 15
    assert (encdec["segment.network.weights"], encdec["segment.network.width"]) == ("package", 1)
    assert (encdec["tiles.areas.pixel"], encdec["segment.optimiser.steps"]) == (dubai["tiles.areas.pixel"], 450)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("segment: {weka: 1}", r"no segment\.weka; expected a path of base\.yaml"),
        ("base: nowhere", r"no config nowhere; expected base, demo, .* or a file"),
        ("segment: {crop: -1}", r"segment\.crop: .*greater than or equal to 1"),
        ("- a", r"holds no sections; expected a preset or a params\.yaml"),
        ("a: [", r"is not YAML"),
        ("sources: []", r"sources: Tuple should have at least 1 item"),
        ("sources: {pixel: hidden}", r"sources\.pixel: hidden; expected a list of names"),
    ],
)
def test_what_is_no_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build_params(write(tmp_path / "p.yaml", text))


def test_a_preset_that_builds_on_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    with pytest.raises(ParamsError, match="builds on itself"):
        build_params(write(file, f"base: {file}"))


def old_params() -> dict[str, Any]:
    """The base as version 0.1 laid it out."""
    raw: dict[str, Any] = load_yaml(PIPELINE / "base.yaml")
    students, consistency = raw.pop("students"), raw.pop("consistency")
    weights = {key: consistency.pop(key) for key in ("tag_weight", "presence_weight", "share_weight")}
    weights["consistency_weight"] = consistency.pop("weight")
    raw["segment"] |= {"weak": students | weights, "consistency": consistency}
    folders = {"pixel": "tiles/labels", "full": "hidden", "consistency": "tiles/windows"}
    raw["sources"] = {source: folders.get(source, f"pseudo/{source}") for source in raw["sources"]}
    raw["tune"]["space"] = {"segment.weak.pseudo_weight.cam": {"low": 0.1, "high": 1.0, "log": False}}
    return raw


def test_an_old_file_is_brought_up_to_date_and_it_is_said(tmp_path: Path) -> None:
    config = write(tmp_path / "old.yaml", dump_yaml(old_params()))
    text, said = build_params(config)
    assert said == (
        f"{config} is laid out as in version 0.1 and was brought up to date: sources is a list of names, "
        "segment.weak and segment.consistency are students and consistency"
    )
    wanted = BASE | {
        "tune": BASE["tune"] | {"space": {"students.pseudo_weight.cam": {"low": 0.1, "high": 1.0, "log": False}}}
    }
    assert parse_yaml(text) == wanted


def test_an_old_workspace_is_told_what_moved(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", dump_yaml(old_params()))
    with pytest.raises(ParamsError) as error:
        load_params(tmp_path / "params.yaml")
    assert str(error.value) == (
        f"{tmp_path / 'params.yaml'} has segment.weak, segment.consistency, sources with folders as in version 0.1; "
        "expected the sections students and consistency beside segment, and sources as a list of names; "
        "run `weakseg init` in the workspace, which moves them"
    )


def test_paths_that_moved() -> None:
    assert moved_path("segment.weak.pseudo_weight.cam") == "students.pseudo_weight.cam"
    assert moved_path("segment.consistency.cutmix") == "consistency.cutmix"
    assert moved_path("segment.weak.consistency_weight") == "consistency.weight"
    assert moved_path("segment.network.dropout") == "segment.network.dropout"
    known = {path for path, _ in leaves(BASE)}
    for new in MOVED.values():
        assert any(path == new or path.startswith(f"{new}.") for path in known), new


def test_up_to_date_params_are_left_alone() -> None:
    raw = load_yaml(PIPELINE / "base.yaml")
    assert move_old(raw) == []
    assert raw == BASE


def test_the_whole_file_of_version_0_1_gives_the_demo_of_today() -> None:
    text, said = build_params(str(PROJECT / "configs" / "demo.yaml"))
    assert "laid out as in version 0.1" in said
    found, today = parse_yaml(text), load_yaml(PROJECT / "params.yaml")
    assert set(found.pop("sources")) == {*WEAK_SOURCES, "pixel", "full", "consistency"} - {"boxes"}  # its own choice
    today.pop("sources")
    assert found["segment"]["augment"].pop("scale") == [0.7, 1.4]  # its own zoom
    today["segment"]["augment"].pop("scale")
    assert {budget.pop("source") for budget in found["label_cost"]["budgets"]} == {"consistency"}  # and its recipe
    assert {budget.pop("source") for budget in today["label_cost"]["budgets"]} == {"auto"}
    assert found == today


def test_a_seed_is_that_of_every_network_and_nothing_else_changes() -> None:
    plain, seeds = (dict(leaves(parse_yaml(build_params("dubai", seed)[0]))) for seed in (None, 7))
    changed = {path: seeds[path] for path in plain if plain[path] != seeds[path]}
    assert changed == {"classifier.seed": 7, "irnet.seed": 7, "single_stage.seed": 7, "segment.seeds": [7]}
    drawn = [path for path in plain if path.rpartition(".")[2] in ("seed", "seeds") and path not in changed]
    assert sorted(drawn) == ["report.seed", "tune.seed"]
