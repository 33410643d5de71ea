"""README: its results block is generated, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from weakseg.cli import app
from weakseg.errors import DataError
from weakseg.readme import BEGIN, END, results_block, update_readme

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_results_block_is_what_the_reports_say() -> None:
    assert results_block(ROOT) in TEXT, "run `weakseg readme`"


def test_update_replaces_the_block_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "results.md").write_text("| a table |\n")
    assert update_readme(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n" + BEGIN)
    assert text.endswith(END + "\nafter\n")
    assert "| a table |" in text
    assert "old" not in text
    assert "No report at `reports/dubai72_encdec/results.md` yet." in text
    assert not update_readme(tmp_path)


def test_a_readme_without_the_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here\n")
    with pytest.raises(DataError, match="no results block"):
        update_readme(tmp_path)


def commands_in(text: str) -> list[str]:
    """Lines of the fenced blocks without a language that call weakseg."""
    blocks = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if re.match(r"\S*weakseg\s", line.strip())]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_weakseg_command_exists_with_its_options(page: Path) -> None:
    for line in commands_in(page.read_text()):
        words = line.split()[1:]
        if words[0] == "--root":
            words = words[2:]
        command = typer.main.get_command(app)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or getattr(command, "invoke_without_command", False), line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, line


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "check", "dubai"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_configs_named_in_the_readme_exist() -> None:
    for name in re.findall(r"configs/[a-z_0-9]+\.yaml", TEXT):
        assert (ROOT / name).is_file()


def test_every_picture_is_shown_and_small() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    }
    pictures = set((ROOT / "docs" / "pictures").iterdir())
    assert pictures == shown
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture.name
