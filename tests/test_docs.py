"""The built pages: complete, strict, and without a network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]


def pages_of(nav: object) -> set[str]:
    """Paths in the navigation of mkdocs.yml."""
    if isinstance(nav, str):
        return {nav}
    entries = nav.values() if isinstance(nav, dict) else nav
    return set().union(*(pages_of(entry) for entry in entries))  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= pages_of(settings["nav"])
    assert settings["theme"]["font"] is False
    assert settings["strict"] is True


@pytest.mark.slow
def test_pages_are_built_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folders = {path.parent.name for path in (ROOT / "src" / "weakseg").glob("*/__init__.py")}
    assert {path.stem for path in (site / "api").glob("*.html")} >= folders - {"configs"}
    for page in [*site.glob("*.html"), *(site / "api").glob("*.html")]:
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=[^>]*|<link[^>]*rel=.?stylesheet[^>]*", page.read_text())
        assert not [tag for tag in loaded if "//" in tag], page.name
    assert "import_dataset" in "".join(page.read_text() for page in (site / "api").glob("*.html"))


def drawing() -> ModuleType:
    """scripts/architecture.py."""
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "scripts" / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_tree_has_every_folder_in_the_order_of_imports() -> None:
    folders = list(drawing().read_folders((ROOT / "docs" / "architecture.md").read_text()))
    package = ROOT / "src" / "weakseg"
    there = {path.parent.name for path in package.glob("*/__init__.py")} | {"cli"}
    assert set(folders) == there
    for name, other in drawing().count_imports(package):
        assert folders.index(other) < folders.index(name), f"{name} imports from {other}"


@pytest.mark.slow
def test_the_picture_of_the_tree_is_of_this_tree() -> None:
    script = drawing()
    drawn = Image.open(ROOT / "docs" / "pictures" / "architecture.png").info["Description"]
    assert drawn == script.describe(script.count_imports(ROOT / "src" / "weakseg")), "python scripts/architecture.py"
