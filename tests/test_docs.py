"""The built pages: complete, strict, and without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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
