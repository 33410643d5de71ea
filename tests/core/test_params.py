"""params.yaml: every value explicit, every fault named by its path, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from weakseg.core import methods, params, sections
from weakseg.core.errors import ParamsError
from weakseg.core.methods import SOURCES, WEAK_SOURCES
from weakseg.core.params import Params, load_params
from weakseg.core.sections import Section

Raw = dict[str, Any]


def write(folder: Path, raw: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    return path


def test_values_arrive(tmp_path: Path, tiny: Callable[[], Raw]) -> None:
    params = load_params(write(tmp_path, tiny()))
    assert params.tiles.areas.pixel == ("p1", "p2")
    assert params.segment.optimiser.steps == 4
    assert params.segment.augment.scale == (1.0, 1.0)
    assert params.segment.class_weights == {"car": 2.0}
    assert Params.model_validate(params.model_dump()) == params


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("segment", "dropuot"), 0.1, r"segment\.dropuot: Extra inputs"),
        (("segment", "optimiser", "steps"), "many", r"segment\.optimiser\.steps: .*found 'many'"),
        (("segment", "optimiser", "steps"), 0, r"segment\.optimiser\.steps: .*greater than or equal to 1"),
        (("segment", "optimiser", "lr"), 0, r"segment\.optimiser\.lr: .*greater than 0"),
        (("segment", "optimiser", "ema"), 1.0, r"segment\.optimiser\.ema: .*less than 1"),
        (("segment", "seeds"), [], r"segment\.seeds"),
        (("segment", "network", "name"), "segnet", r"segment\.network\.name: .*'encdec_unpool'"),
        (("segment", "augment", "scale"), [0.5], r"segment\.augment\.scale\.1: Field required"),
        (("tiles", "areas", "pixel"), [1], r"tiles\.areas\.pixel\.0: .*string"),
        (("tiles", "areas", "validation"), ["p1"], r"tiles\.areas: .*areas named twice: p1"),
        (("tiles", "holdout"), 0.9, r"tiles\.holdout: .*0\.5"),
        (("tags", "missing_rate"), 1.5, r"tags\.missing_rate: .*less than or equal to 1"),
        (("tags", "wrong_rate"), 1.0, r"tags: .*missing_rate 0\.0 and tags\.wrong_rate 1\.0; expected .*below 1"),
        (("tags", "missing_rate"), "auto", r"tags\.missing_rate: .*found 'auto'"),
        (("evaluate", "overlap"), 1.0, r"evaluate\.overlap"),
        (("nonsense",), {}, r"nonsense: Extra inputs"),
    ],
)
def test_faults_are_named_by_path(
    tmp_path: Path, tiny: Callable[[], Raw], path: tuple[str, ...], value: object, message: str
) -> None:
    raw = tiny()
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ParamsError, match=message) as error:
        load_params(write(tmp_path, raw))
    assert "\n" not in str(error.value)


def test_a_name_that_reads_as_a_number_is_to_be_quoted(tmp_path: Path, tiny: Callable[[], Raw]) -> None:
    raw = yaml.safe_dump(tiny()).replace("- p1", "- 2_10")
    with pytest.raises(ParamsError, match=r"areas\.pixel\.0: .*found 210.*stands in quotes, such as '2_10'"):
        load_params(write(tmp_path, raw))
    assert load_params(write(tmp_path, raw.replace("2_10", "'2_10'"))).tiles.areas.pixel[0] == "2_10"


def test_every_leaf_is_compulsory(tmp_path: Path, tiny: Callable[[], Raw]) -> None:
    raw = tiny()
    del raw["segment"]["optimiser"]["warmup"], raw["report"]
    with pytest.raises(ParamsError, match=r"segment\.optimiser\.warmup: Field required.*; report: Field required"):
        load_params(write(tmp_path, raw))


def test_no_field_has_a_default_and_all_models_are_frozen_and_closed() -> None:
    kinds = [kind for module in (methods, params, sections) for kind in vars(module).values() if isinstance(kind, type)]
    found = {kind for kind in kinds if issubclass(kind, Section)}
    assert len(found) > 25
    for section in found:
        assert issubclass(section, BaseModel)
        assert section.model_config["frozen"]
        assert section.model_config["extra"] == "forbid"
        for name, info in section.model_fields.items():
            assert info.is_required(), f"{section.__name__}.{name} has a default"


def test_params_do_not_change(tmp_path: Path, tiny: Callable[[], Raw]) -> None:
    params = load_params(write(tmp_path, tiny()))
    with pytest.raises(ValidationError, match="frozen"):
        params.report.draws = 1  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "3", "a: [", "- tiles"])
def test_files_that_are_no_params(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParamsError, match="mend it") as error:
        load_params(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_file_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"run `weakseg init --config demo`"):
        load_params(tmp_path / "params.yaml")


def test_sources() -> None:
    assert WEAK_SOURCES == ("cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes")
    assert set(SOURCES) == {"pixel", "full", "consistency", "untagged", "joint", *WEAK_SOURCES}
