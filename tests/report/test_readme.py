"""README and docs/: generated blocks are current, commands exist, links and anchors lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main
import yaml

from weakseg.cli import app
from weakseg.core.errors import DataError
from weakseg.report.readme import BEGIN, END, headline, methods, tables, update_documents

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("page", "block"),
    [("README.md", headline), ("docs/results.md", tables), ("docs/methods.md", methods)],
)
def test_generated_tables_are_what_results_say(page: str, block: Callable[[Path], str]) -> None:
    assert f"{BEGIN}\n\n{block(ROOT)}\n\n{END}" in (ROOT / page).read_text(), "run `weakseg readme`"


ROWS = {
    "pixel": {"miou": 0.4, "spread": {"low": 0.38, "high": 0.42, "count": 3}},
    "cam": {"miou": 0.41, "spread": {"low": 0.4, "high": 0.42, "count": 3}},
    "fused": {
        "miou": 0.48,
        "spread": {"low": 0.47, "high": 0.49, "count": 3},
        "gain": {"value": 0.08, "low": 0.05, "high": 0.1},
        "gain_by_tags": {"value": 0.03, "low": 0.01, "high": 0.04},
        "gap_closed": {"value": 0.8, "low": 0.7, "high": 0.9},
    },
    "untagged": {"miou": 0.45, "spread": {"low": 0.45, "high": 0.45, "count": 1}},
    "full": {"miou": 0.5, "spread": {"low": 0.5, "high": 0.5, "count": 1}},
}


MASKS = """| pseudo-masks on N2 | coverage | accuracy inside | mIoU inside |
| --- | --- | --- | --- |
| cam | 0.310 | 0.724 | 0.460 |
"""


def folder_of_results(root: Path) -> Path:
    (root / "docs").mkdir()
    for page in ("README.md", "docs/results.md", "docs/methods.md"):
        (root / page).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for name in ("dubai72", "dubai72_sources"):
        folder = root / "results" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(ROWS))
        (folder / "results.md").write_text("| a table |\n\n" + MASKS)
        (folder / "machine.json").write_text('{"date": "2026-11-28", "gpu": "none"}')
    return root


def test_update_replaces_the_blocks_and_nothing_else(tmp_path: Path) -> None:
    root = folder_of_results(tmp_path)
    assert [path.name for path in update_documents(root)] == ["README.md", "results.md", "methods.md"]
    pages = [(root / page).read_text() for page in ("README.md", "docs/results.md", "docs/methods.md")]
    readme, results, page_of_methods = pages
    for text in pages:
        assert text.startswith("before\n" + BEGIN)
        assert text.endswith(END + "\nafter\n")
        assert "old" not in text
    assert "0.400 (0.380 to 0.420) | 0.450 | **0.480 (0.470 to 0.490)** (fused) | 0.500 |" in readme
    assert "| +0.080 [+0.050, +0.100] | +0.030 [+0.010, +0.040] | **80 %** [70, 90] |" in readme
    assert "no `results/demo_seeds/report.json` yet" in readme
    assert "0.460 |\n\nMade with: date 2026-11-28; gpu none." in results
    assert "No `results/dubai72_gpu/results.md` yet." in results
    assert "| `pixel` | - | - | - | - | 0.400 | - |" in page_of_methods
    assert "| `cam` | - | - | - | 0.460 at 0.310 | 0.410 | not established |" in page_of_methods
    assert "| `fused` | - | - | - | - | 0.480 | 80 % [70, 90] |" in page_of_methods
    assert update_documents(root) == []


def test_a_readme_without_the_block_is_refused(tmp_path: Path) -> None:
    (folder_of_results(tmp_path) / "README.md").write_text("nothing here\n")
    with pytest.raises(DataError, match="no results block"):
        update_documents(tmp_path)


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= 150


def commands_in(text: str, start: str) -> list[list[str]]:
    """Words of the lines that begin with ``start`` in the fenced blocks without a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in found if not language]
    lines = [line.split(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.split() for line in lines if re.match(start + r"\s", line)]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_weakseg_command_exists_with_its_options(page: Path) -> None:
    for line in commands_in(page.read_text(), r"\S*weakseg"):
        words = line[1:]
        if words[0] == "--root":
            words = words[2:]
        command = typer.main.get_command(app)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or getattr(command, "invoke_without_command", False), line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_names_that_python_blocks_import_exist(page: Path) -> None:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for block in (block for language, block in found if language == "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), block


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    assert {"demo", "test", "check", "dubai", "docs"} <= makefile_targets()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_scripts_and_targets_exist(page: Path) -> None:
    text = page.read_text()
    for words in commands_in(text, "python"):
        assert words[1] == "-m" or (ROOT / words[1]).is_file(), words
    for words in commands_in(text, "make"):
        assert words[1] in makefile_targets(), words
    named = re.findall(
        r"`make ([a-z_]+)|`(?:[A-Z_]+=\S+ )?python ((?:scripts|benchmarks)/\S+?\.py)", without_code(text)
    )
    assert {target for target, _ in named if target} <= makefile_targets()
    assert all((ROOT / script).is_file() for _, script in named if script)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:tests|scripts|benchmarks|src|findings)/[\w/.]+\.\w+)`", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_stages_that_dvc_is_asked_for_exist(page: Path) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    text = page.read_text()
    asked = [words[2:] for words in commands_in(text, "dvc repro")]
    asked += [found.split() for found in re.findall(r"`dvc repro ([^`]*)`", without_code(text))]
    for words in asked:
        for word in words:
            assert word.startswith("-") or word.split("@")[0] in stages, f"{page.name}: {words}"


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """Headings as GitHub and the built pages name them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", without_code(page.read_text())):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{page.name}: {target}"


def test_the_index_of_decisions_is_complete_and_in_order() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    index, _, entries = text.partition("\n## Index\n")[2].partition("\n## ")
    listed = re.findall(r"^- \[(.+)\]\(#", index, flags=re.MULTILINE)
    assert listed == re.findall(r"^### (.+)$", entries, flags=re.MULTILINE)
    assert re.findall(r"^\*\*(.+)\*\*$", index, flags=re.MULTILINE) == re.findall(
        r"^## (.+)$", "## " + entries, flags=re.MULTILINE
    )
    for entry in re.split(r"^### .+\n", entries, flags=re.MULTILINE)[1:]:
        assert re.match(r"\n20\d\d-\d\d-\d\d\. ", entry), entry


def test_the_changelog_begins_with_the_version_of_the_citation() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    citation = yaml.safe_load(text)
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what CFF 1.2.0 requires
    assert citation["cff-version"] == "1.2.0"
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest.groups() == (str(citation["version"]), str(citation["date-released"]))


def test_configs_named_in_the_readme_exist() -> None:
    for name in re.findall(r"configs/[a-z_0-9]+\.yaml", TEXT):
        assert (ROOT / name).is_file()


def test_every_picture_is_shown_and_small() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    }
    pictures = {*(ROOT / "docs" / "pictures").iterdir(), ROOT / "results" / "demo" / "maps.jpg"}
    assert pictures == shown
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture.name
