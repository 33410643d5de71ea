"""dvc.yaml against the code: stages, sections, commands, paths, and who may see which truth."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from weakseg.core.classes import find_classes
from weakseg.core.config import leaves, load_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.methods import SOURCES, WEAK_SOURCES
from weakseg.core.params import Params, load_params, with_changes
from weakseg.core.settings import teacher_settings, training_settings
from weakseg.pipeline.presets import PIPELINE as FOLDER
from weakseg.pipeline.presets import build_params, load_preset, presets
from weakseg.stages import PER_SOURCE, STAGES

PROJECT = Path(__file__).parents[1]
PIPELINE: dict[str, Any] = load_yaml(PROJECT / "dvc.yaml")["stages"]
RAW: dict[str, Any] = load_yaml(PROJECT / "params.yaml")
SELECTED: dict[str, Any] = {"methods": list(WEAK_SOURCES), "sources": list(SOURCES)}  # all that params.yaml may select


@dataclass
class Entry:
    """One stage of one source, as DVC would run it."""

    stage: str
    source: str
    cmd: str
    deps: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    outs: list[str] = field(default_factory=list)  # metrics and plots as well

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.source}" if self.source else self.stage


def entries() -> Iterator[Entry]:
    for stage, body in PIPELINE.items():
        if "foreach" not in body:
            yield _entry(stage, "", body, {})
            continue
        items = body["foreach"]
        items = items if isinstance(items, list) else SELECTED[items.removeprefix("${").removesuffix("}")]
        for item in items:
            yield _entry(stage, item, body["do"], {"${item}": item})


def _entry(stage: str, source: str, body: dict[str, Any], words: dict[str, str]) -> Entry:
    def fill(text: str) -> str:
        for word, value in words.items():
            text = text.replace(word, value)
        assert "${" not in text
        return text

    def paths(kind: str) -> list[str]:
        return [fill(item if isinstance(item, str) else next(iter(item))) for item in body.get(kind, [])]

    made = [path for kind in ("outs", "metrics", "plots") for path in paths(kind)]
    return Entry(stage, source, fill(body["cmd"]), paths("deps"), list(body.get("params", [])), made)


ENTRIES = list(entries())
each = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])


def test_the_graph_is_read() -> None:
    names = {entry.name for entry in ENTRIES}
    assert {"tiles", "segment@pixel", "evaluate@fused", "audit@cam", "report"} <= names
    assert len(names) == len(ENTRIES) == 2 + 10 + 2 + 7 + 7 + 12 + 12 + 1


def test_stages_are_those_of_the_command_line() -> None:
    assert set(PIPELINE) == set(STAGES)
    assert {stage for stage, body in PIPELINE.items() if "foreach" in body} == set(PER_SOURCE)
    for stage in PIPELINE:
        assert (PROJECT / "src" / "weakseg" / "stages" / f"{stage}.py").is_file()


def test_sources_are_those_of_the_params() -> None:
    by_stage = {stage: [e.source for e in ENTRIES if e.stage == stage] for stage in PER_SOURCE}
    assert by_stage["segment"] == by_stage["evaluate"] == [e.source for e in ENTRIES if e.stage == "segment"]
    assert set(by_stage["segment"]) == set(SOURCES)
    assert by_stage["pseudo"] == by_stage["audit"] == list(WEAK_SOURCES)


@each
def test_command_calls_the_stage(entry: Entry) -> None:
    assert entry.cmd == f"python -m weakseg stage {entry.stage} {entry.source}".strip()


@each
def test_params_exist(entry: Entry) -> None:
    if entry.stage in Params.model_fields and entry.stage not in ("segment", "teacher"):  # those read settings
        assert entry.stage in entry.params or any(key.startswith(f"{entry.stage}.") for key in entry.params)
    for key in entry.params:
        place: Any = RAW
        for part in key.split("."):
            assert part in place, f"{entry.name}: no {key} in params.yaml"
            place = place[part]


def used_params(stage: str) -> set[str]:
    """``section.key`` of every ``.params.section.key`` in a stage's file; ``section`` where it is used whole."""
    tree = ast.parse((PROJECT / "src" / "weakseg" / "stages" / f"{stage}.py").read_text())
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = set()
    for chain in chains:
        _, inside, rest = chain.partition(".params.")
        section, _, key = rest.partition(".")
        if inside and section in Params.model_fields:
            whole = not any(other.startswith(f"{chain}.") for other in chains)
            if key or whole:
                found.add(".".join([section, *key.split(".")[:1]]) if key else section)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_uses_is_declared(stage: str) -> None:
    """A value that is read but not declared changes results without a rerun."""
    declared = set(next(entry for entry in ENTRIES if entry.stage == stage).params)
    for file, read in written_settings(load_params(PROJECT / "params.yaml")).items():
        if Path(file).name.startswith(stage):
            declared |= {path for path, _ in leaves(read)}
    for use in used_params(stage):
        covers = use in declared or use.split(".")[0] in declared
        parts = any(key.startswith(f"{use}.") for key in declared)
        assert covers or parts, f"{stage} reads {use} but declares {sorted(declared)}"


SEGMENT = {f"segment@{source}" for source in SOURCES}
EVALUATE = {f"evaluate@{source}" for source in SOURCES}
MASKS = {f"{stage}@{method}" for stage in ("pseudo", "audit") for method in WEAK_SOURCES}
STUDENTS = SEGMENT - {"segment@pixel", "segment@full"}
CHOICE = {"choice@joint", "choice@untagged"}
MAKERS = {"segment@joint", "segment@untagged"}  # of masks, while they train
SELF_TAUGHT = {"segment@consistency"} | MAKERS
READERS: dict[str, set[str]] = {  # by the longest prefix of a value's path
    **{name: {name} & set(STAGES) for name in Params.model_fields},  # a stage has its section; DVC and commands others
    "tiles.scale": {"tiles"} | SEGMENT | EVALUATE,  # a model file says for which resolution it is
    "tiles.tag_size": {"tiles", "teacher"} | SELF_TAUGHT | CHOICE,
    **{f"classifier.{key}": {"classifier", "cam"} for key in ("context", "crop", "optimiser.batch")},
    "crf": {"crf", "irnet"},  # irnet: its published labels beside a background
    "crf.bilateral_srgb": {"crf", "irnet", "boxes"},
    "fused": {"fused"} | CHOICE,
    "fused.experts": {"fused", "experts", "segment@joint"} | CHOICE,
    "boxes": {"tiles"},
    **{f"boxes.{key}": {"tiles", "boxes"} for key in ("classes", "complete")},
    "boxes.refiner": {"boxes"},
    "pseudo": MASKS | CHOICE,
    "segment": SEGMENT,
    "segment.crop": SEGMENT | {"teacher"} | CHOICE,  # it predicts in windows of twice the crop
    "segment.seeds": SEGMENT | EVALUATE | {"teacher"} | CHOICE,
    "segment.refit": SEGMENT | {"teacher"} | CHOICE,  # it predicts with the network that never saw the hold-out
    **{f"segment.{key}": SEGMENT | EVALUATE for key in ("selection", "optimiser.steps")},
    "students": STUDENTS,
    **{f"students.pseudo_weight.{source}": {f"segment@{source}"} for source in WEAK_SOURCES},
    "consistency": SELF_TAUGHT,
    "joint": MAKERS,
    "tags": {"segment@consistency", "segment@joint"} | CHOICE,
    "evaluate": EVALUATE,
}


def written_settings(params: Params) -> dict[str, dict[str, Any]]:
    """What the stage settings writes, by path."""
    here = Layout(Path())
    files = {here.settings("segment", source): training_settings(params, source) for source in SOURCES}
    return {
        path.as_posix(): read for path, read in {**files, here.settings("teacher"): teacher_settings(params)}.items()
    }


def rerun(path: str, files: dict[str, dict[str, Any]]) -> set[str]:
    """Names of the entries that DVC runs again where the value at a path changes; their outputs may rerun others."""
    changed = {file for file, read in files.items() if any(leaf == path for leaf, _ in leaves(read))}
    found = {e.name for e in ENTRIES if any(path == key or path.startswith(f"{key}.") for key in e.params)}
    return (found | {e.name for e in ENTRIES if changed & set(e.deps)}) - {"settings"}


LEAVES = [path for path, _ in leaves(RAW)]


@pytest.mark.parametrize("path", LEAVES)
def test_a_value_reruns_its_readers_alone(path: str) -> None:
    prefix = max((key for key in READERS if path == key or path.startswith(f"{key}.")), key=len)
    assert rerun(path, written_settings(load_params(PROJECT / "params.yaml"))) == READERS[prefix]


def test_the_settings_stage_sees_every_value_that_it_writes() -> None:
    (entry,) = (e for e in ENTRIES if e.stage == "settings")
    for rounds in (1, 2):
        files = written_settings(with_changes(load_params(PROJECT / "params.yaml"), {"teacher.rounds": rounds}))
        for path in {leaf for read in files.values() for leaf, _ in leaves(read)}:
            assert any(path == key or path.startswith(f"{key}.") for key in entry.params), path


def test_a_teacher_of_several_rounds_trains_students() -> None:
    files = written_settings(with_changes(load_params(PROJECT / "params.yaml"), {"teacher.rounds": 2}))
    for path in ("students.batch", "students.pseudo_weight.teacher", "segment.crop", "pseudo.per_class"):
        assert "teacher" in rerun(path, files)
    assert "teacher" not in rerun("consistency.cutmix", files)
    assert files["out/settings/teacher.yaml"]["segment"]["seeds"] == [0]


@each
def test_the_code_of_a_stage_is_its_digest(entry: Entry) -> None:
    code = [path for path in entry.deps if path.startswith(("src", "out/code"))]
    assert code == ["src/weakseg" if entry.stage == "code" else f"out/code/{entry.stage}.txt"]


@each
def test_a_stage_says_what_it_does(entry: Entry) -> None:
    body = PIPELINE[entry.stage]
    assert len(body.get("do", body)["desc"]) > 20


def test_the_package_and_the_repository_have_one_pipeline() -> None:
    assert (FOLDER / "dvc.yaml").read_text() == (PROJECT / "dvc.yaml").read_text()


def test_artifacts_are_models_that_trainings_make() -> None:
    found = load_yaml(PROJECT / "dvc.yaml")["artifacts"]
    assert {name: (it["type"], it["path"]) for name, it in found.items()} == {
        "task-i": ("model", "out/checkpoints/pixel/seed0.pt"),
        "task-ii": ("model", "out/checkpoints/joint/seed0.pt"),
    }
    assert RAW["segment"]["seeds"][0] == 0


def test_hidden_truth_is_for_audit_and_the_oracle() -> None:
    users = {entry.name for entry in ENTRIES if any(path.startswith("out/labels/full") for path in entry.deps)}
    assert users == {"segment@full"} | {f"audit@{method}" for method in WEAK_SOURCES}
    assert not [entry.name for entry in ENTRIES if "out" in entry.deps or "." in entry.deps]


def test_validation_areas_are_for_evaluate() -> None:
    users = {entry.name for entry in ENTRIES if any(path.startswith("out/validation") for path in entry.deps)}
    assert users == {f"evaluate@{source}" for source in SOURCES}


def test_raw_data_is_for_tiles() -> None:
    assert {entry.name for entry in ENTRIES if any(path.split("/")[0] == "data" for path in entry.deps)} == {"tiles"}


def test_truth_is_opened_in_code_only_where_the_graph_allows() -> None:
    """The graph says who may read; this says who does."""
    package = PROJECT / "src" / "weakseg"
    readers: dict[str, set[str]] = {kind: set() for kind in ("hidden", "validation")}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in readers and ast.unparse(node.value).endswith("layout"):
                readers[node.attr].add(path.relative_to(package).with_suffix("").as_posix())
    # no stages: `weakseg ablate` trains the oracle again and reports on validation, `show` and `results` draw pictures
    commands = {"studies/apart", "studies/ablation", "report/sheets", "report/results"}
    assert readers["hidden"] - commands == {"stages/tiles", "stages/audit", "stages/segment"}
    assert readers["validation"] - commands == {"stages/tiles", "stages/evaluate"}


def test_truth_has_no_second_path_in_code() -> None:
    """No path to it is put together outside ``Layout``, and masks of data/labels are read where N1 gets its own."""
    package = PROJECT / "src" / "weakseg"
    built, sources, masks = set(), set(), set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            built |= {(name, part) for part in _path_parts(node) if part in ("hidden", "validation", "full")}
            if isinstance(node, ast.Attribute) and node.attr == "labels_of":  # of a source, which may be the oracle
                sources.add(name)
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("layout.labels"):
                masks.add(name)
    assert built == {("core/layout", "validation")}
    assert sources == {"core/layout", "stages/tiles", "stages/segment", "studies/apart", "studies/rotation"}
    computing = ("stages/", "pipeline/", "methods/", "training/", "inference/", "tagging/", "studies/")
    # importing and comparing versions of labels read and write them; budgets link the folder
    assert {name for name in masks if name.startswith(computing)} == {"stages/tiles", "studies/budget_workspace"}


def _path_parts(node: ast.AST) -> set[str]:
    """Folders named in ``a / "b/c"``, ``a.joinpath("b")`` and ``Path("a/b")``."""
    texts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        texts = [node.left, node.right]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("joinpath", "Path"):
        texts = node.args
    found = [inner.value for text in texts for inner in ast.walk(text) if isinstance(inner, ast.Constant)]
    return {part for text in found if isinstance(text, str) for part in text.split("/")}


def expected_paths(entry: Entry) -> set[str]:
    """What the code writes, by Layout."""
    here, source = Layout(Path()), entry.source
    scores = entry.stage
    table = {
        "code": [here.code("x").parent],
        "settings": [here.settings("x").parent],
        "tiles": [
            *(here.tiles, here.boxes, here.hidden, here.validation),
            *(here.labels_of("pixel"), here.labels_of("consistency"), here.experts("untagged")),
        ],
        "classifier": [here.networks("classifier"), here.report("classifier")],
        "cam": [here.scores(scores)],
        "crf": [here.scores(scores), here.report("crf")],
        "irnet": [here.networks("irnet"), here.scores(scores), here.report("irnet")],
        "single_stage": [here.networks("single_stage"), here.scores(scores)],
        "teacher": [here.networks("teacher"), here.scores(scores)],
        "fused": [here.scores(scores), here.report("fused")],
        "experts": [here.experts("joint")],
        "choice": [here.labels_of(source)],
        "boxes": [here.scores(scores), here.report("boxes")],
        "pseudo": [here.pseudo(source), here.report("pseudo", source)],
        "audit": [
            *(here.report("audit", source), here.reports / "sweeps" / f"{source}.csv"),
            here.pictures("audit", source),
        ],
        "segment": [here.checkpoints(source), here.report("segment", source), here.curve(source)],
        "evaluate": [
            *(here.predictions(source), here.report("evaluate", source), here.confusion(source)),
            here.pictures("evaluate", source),
        ],
        "report": [here.report("report"), here.results],
    }
    return {path.as_posix() for path in table[entry.stage]}


@each
def test_outputs_are_those_of_the_layout(entry: Entry) -> None:
    missing = expected_paths(entry) - set(entry.outs)
    assert not missing
    unknown = {path for path in set(entry.outs) - expected_paths(entry) if not path.startswith("reports/")}
    assert not unknown  # further small reports are welcome, further big outputs need a line here


def test_no_output_is_made_twice_or_inside_another() -> None:
    outs = [(entry.name, Path(path)) for entry in ENTRIES for path in entry.outs]
    for name, path in outs:
        rivals = [other for other, its in outs if other != name and (path == its or path.is_relative_to(its))]
        assert not rivals, f"{path} of {name} and {rivals}"


def makers_of(path: Path) -> set[str]:
    """Names of the entries that make this path, something in it, or the folder it lies in."""
    return {
        entry.name
        for entry in ENTRIES
        for out in map(Path, entry.outs)
        if path.is_relative_to(out) or out.is_relative_to(path)
    }


def test_every_input_is_made_and_nothing_goes_round() -> None:
    needs: dict[str, set[str]] = {}
    for entry in ENTRIES:
        inputs = [Path(path) for path in entry.deps if path.split("/")[0] not in ("src", "data")]
        missing = [path for path in inputs if not makers_of(path)]
        assert not missing, f"{entry.name} needs {missing}, which nothing makes"
        needs[entry.name] = set().union(*(makers_of(path) for path in inputs))
    assert needs["teacher"] == {"tiles", "segment@pixel", "code", "settings"}
    done: set[str] = set()
    while len(done) < len(needs):
        ready = {name for name, others in needs.items() if name not in done and others <= done}
        assert ready, f"a cycle among {sorted(set(needs) - done)}"
        done |= ready


@each
def test_inputs_follow_the_source(entry: Entry) -> None:
    """A source's stages read that source's artefacts and no other's."""
    here, source = Layout(Path()), entry.source
    folders = {
        "pseudo": {here.tiles, here.scores(source)},
        "audit": {here.tiles, here.hidden, here.scores(source), here.pseudo(source)},
        "evaluate": {here.tiles / "classes.yaml", here.validation, here.checkpoints(source)},
    }
    if entry.stage in folders:
        found = {Path(path) for path in entry.deps if path.startswith("out/") and not path.startswith("out/code")}
        assert found == folders[entry.stage]
    if entry.stage == "segment":
        assert here.labels_of(source).as_posix() in entry.deps
        assert here.settings("segment", source).as_posix() in entry.deps


def test_labels_of_the_sources_are_where_the_layout_says() -> None:
    here = Layout(Path("w"))
    assert here.labels_of("full") == here.hidden
    assert all(here.labels_of(method) == here.pseudo(method) for method in WEAK_SOURCES)


def test_what_the_demo_runs() -> None:
    """All masks are audited; networks are trained for the table of README, the other sources for those who ask."""
    assert RAW["methods"] == list(WEAK_SOURCES)
    assert RAW["sources"] == ["pixel", "full", "untagged", "joint"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, r"sources: Tuple should have at least 1 item"),
        (
            {"sources": {"pixel": "tiles/labels"}},
            r"sources with folders as in version 0\.1; expected .* run `weakseg init`",
        ),
        ({"sources": ["boxes"], "methods": ["cam"]}, r"sources names boxes, methods does not"),
        ({"methods": ["cam", "cam"], "sources": ["pixel"]}, r"a method is named twice"),
        ({"sources": ["pixel", "pixel"]}, r"a source is named twice"),
        (
            {"segment": RAW["segment"] | {"weak": {"batch": 8}}},
            r"segment\.weak as in version 0\.1; expected the sections",
        ),
    ],
)
def test_selections_that_cannot_run_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW | change))
    with pytest.raises(ParamsError, match=message):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", presets())
def test_presets_are_whole_params(name: str) -> None:
    params = load_preset(name)
    assert set(params.students.pseudo_weight) == set(WEAK_SOURCES)
    assert sorted(set(params.pseudo.scores)) == list(params.pseudo.scores)
    assert sorted(set(params.pseudo.margins)) == list(params.pseudo.margins)


def test_class_tables_load() -> None:
    find_classes("dubai").index(load_preset("dubai").segment.favour.class_name)


def test_params_file_is_the_demo() -> None:
    assert (PROJECT / "params.yaml").read_text() == build_params("demo")[0]


def test_caches_of_python_do_not_rerun_stages() -> None:
    ignored = (PROJECT / ".dvcignore").read_text().splitlines()
    assert "__pycache__/" in ignored
    # DVC would take the package's dvc.yaml for a second pipeline; the code beside it must rerun what it can change
    assert [line for line in ignored if "pipeline" in line and not line.startswith("#")] == [
        "/src/weakseg/pipeline/dvc.yaml"
    ]
