"""Code digests notice every change of what a stage reaches, by an import graph computed in another way; no comment."""

from __future__ import annotations

import ast
import modulefinder
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import weakseg
from weakseg.core.import_graph import Module, Package, digest, module_name, reach, read_module
from weakseg.stages import STAGES
from weakseg.stages.code import digests, run

PACKAGE = Path(weakseg.__file__).parent
FILES = {module_name(PACKAGE, file): file for file in sorted(PACKAGE.rglob("*.py"))}
ROOTS = {stage: f"weakseg.stages.{stage}" for stage in STAGES if stage != "code"}


class Finder(modulefinder.ModuleFinder):
    """The standard library's own walk over compiled code, without what only type checkers see."""

    def load_module(self, fqname: str, fp: Any, pathname: str, file_info: Any) -> Any:
        if fp is None:
            return super().load_module(fqname, fp, pathname, file_info)
        module = self.add_module(fqname)
        module.__file__ = pathname
        self.scan_code(_compile(pathname), module)
        return module


@cache
def _compile(pathname: str) -> Any:
    tree = ast.parse(Path(pathname).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.copy_location(ast.Pass(), node)]
    return compile(tree, pathname, "exec")


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return Package(PACKAGE)


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    """Own modules by stage, as the standard library finds them."""
    outside = {name.split(".")[0] for file in FILES.values() for name in _imports(file)} - {"weakseg"}
    found = {}
    for stage, name in ROOTS.items():
        finder = Finder([str(PACKAGE.parent)], excludes=sorted(outside))
        finder.import_hook("weakseg.stages")
        finder.import_hook(name)
        found[stage] = {own for own in finder.modules if own.split(".")[0] == "weakseg"}
    return found


def _imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def child_processes(found: set[str], modules: dict[str, Module]) -> set[str]:
    """The sender of MLflow runs starts as `python -m weakseg.tracking`, which no import shows."""
    if "weakseg.tracking.stage" not in found:
        return found
    return found | {"weakseg.tracking.__main__"} | reach(modules, "weakseg.tracking.__main__")


@pytest.mark.parametrize("stage", ROOTS)
def test_a_stage_reaches_what_it_imports(stage: str, modules: dict[str, Module], reached: dict[str, set[str]]) -> None:
    assert reach(modules, ROOTS[stage]) == child_processes(reached[stage], modules)


def test_examples(modules: dict[str, Module]) -> None:
    """What the list of dependencies written by hand had left out."""
    assert {"weakseg.networks.build", "weakseg.networks.encdec_unpool", "weakseg.data.crops.augment"} <= reach(
        modules, ROOTS["segment"]
    )
    assert "weakseg.data.crops.augment" not in reach(modules, ROOTS["tiles"])
    everywhere = set().union(*(reach(modules, name) for name in ROOTS.values()))
    assert not {"weakseg.cli", "weakseg.pipeline.workspace", "weakseg.serving.service"} & everywhere
    assert sorted(modules["weakseg.report.render"].data) == [
        "report/templates/index.html",
        "report/templates/script.js",
        "report/templates/style.css",
    ]


def test_a_change_of_any_module_changes_the_digests_of_the_stages_that_reach_it(
    tmp_path: Path, modules: dict[str, Module], reached: dict[str, set[str]]
) -> None:
    before = {stage: digest(modules, name) for stage, name in ROOTS.items()}
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "weakseg", ignore=shutil.ignore_patterns("__pycache__")))
    assert digests(copy) == before  # wherever the package lies
    for name, file in FILES.items():
        mine = copy / file.relative_to(PACKAGE)
        text = mine.read_text()
        mine.write_text(text + "\nCHANGED = 1\n")
        changed = {**modules, name: read_module(copy, mine, set(FILES))}
        mine.write_text(text)
        now = {stage for stage, root in ROOTS.items() if digest(changed, root) != before[stage]}
        assert now == {stage for stage in ROOTS if name in child_processes(reached[stage], modules)}, name


def test_comments_docstrings_and_layout_change_nothing(tmp_path: Path, modules: dict[str, Module]) -> None:
    for name, file in FILES.items():
        mine = tmp_path / "weakseg" / file.relative_to(PACKAGE)
        mine.parent.mkdir(parents=True, exist_ok=True)
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                node.value.value = "Other words."
        mine.write_text("# a comment\n" + ast.unparse(tree) + "\n")
        assert read_module(tmp_path / "weakseg", mine, set(FILES)).code == modules[name].code, name


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        ("import a.b\n", {"a", "a.b"}),
        ("def f():\n    from a.b import c\n", {"a", "a.b", "a.b.c"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.b\n", {"a"}),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    import a.b\n", {"a", "a.b"}),
        ("run('-m', 'a.b')\n", {"a", "a.b", "a.b.__main__"}),
    ],
)
def test_imports_by_hand(tmp_path: Path, text: str, imports: set[str]) -> None:
    file = tmp_path / "a" / "x.py"
    file.parent.mkdir()
    file.write_text(text)
    assert read_module(tmp_path / "a", file, {"a", "a.b", "a.b.c", "a.b.__main__", "a.x"}).imports == imports


def test_data_that_a_module_names_counts(tmp_path: Path) -> None:
    package = tmp_path / "a"
    (package / "pages").mkdir(parents=True)
    (package / "x.py").write_text("FOLDER = 'pages'\n")
    before = digest(Package(package), "a.x")
    (package / "pages" / "p.html").write_text("<p>")
    after = digest(Package(package), "a.x")
    (package / "pages" / "p.html").write_text("<b>")
    assert len({before, after, digest(Package(package), "a.x")}) == 3


def test_the_stage_writes_a_file_per_stage_and_the_same_twice(tmp_path: Path) -> None:
    run(tmp_path)
    written = {file.stem: file.read_text() for file in (tmp_path / "out" / "code").iterdir()}
    assert set(written) == set(ROOTS)
    assert all(len(text) == 33 for text in written.values())
    assert {stage: f"{text}\n" for stage, text in digests(PACKAGE).items()} == written
