"""MkDocs hook: pages of the API, one per folder of the package, and the files outside docs/ that pages link to.

Used by mkdocs.yml (``hooks``). Nothing is written into docs/: the pages exist in the build alone, and are never old.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "weakseg"
SCRIPTS = ("__main__",)  # run, not imported
# what pages may link to, besides each other
OUTSIDE = (
    "*.md",
    "LICENSE",
    "results/**/*.md",
    "results/**/*.json",
    "results/**/*.jpg",
    "benchmarks/*.md",
    "notebooks/*",
)
LINK = re.compile(r"(\]\()(\.\./[^)#]+)((?:#[^)]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The API's pages join the navigation."""
    assert config.nav is not None
    config.nav.append({"API": [{title: f"api/{title}.md"} for title in sorted(api_modules())]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API, and copies of the linked files under ``repository/``."""
    for title, modules in api_modules().items():
        files.append(File.generated(config, f"api/{title}.md", content=api_page(title, modules)))
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            uri = f"repository/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave docs/ lead to the copies; a page of ``repository/`` keeps those to its neighbours."""
    here = PurePosixPath(page.file.src_uri).parent
    if here.parts[:1] == ("repository",):
        return relink_copy(markdown, here)
    return LINK.sub(lambda found: found[1] + "repository/" + found[2].removeprefix("../") + found[3], markdown)


def relink_copy(markdown: str, here: PurePosixPath) -> str:
    """In a copy, links to docs/ lead to the pages themselves; links to files that the site lacks are text."""

    def lead(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or not target:
            return found[0]
        place = os.path.normpath(here.relative_to("repository") / target)
        if place.startswith("docs/"):
            return f"[{text}]({os.path.relpath(place.removeprefix('docs/'), here)}{anchor})"
        known = any(PurePosixPath(place).match(pattern.replace("**", "*")) for pattern in OUTSIDE)
        return found[0] if known else text

    return re.sub(r"(?<!\!)\[([^\]]*)\]\(([^)#]*)(#[^)]*)?\)", lead, markdown)


def api_modules() -> dict[str, list[str]]:
    """Folder of the package -> its modules with public names, the package itself first."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        title = parts[0] if len(parts) > 1 else "weakseg"
        names = [part for part in parts if part != "__init__"]
        if path.stem not in SCRIPTS and has_public_names(path):
            found.setdefault(title, []).append(".".join(["weakseg", *names]))
    return found


def has_public_names(path: Path) -> bool:
    """Whether a module defines a public function or class, or is a package that says what it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    return bool(defined) or (path.name == "__init__.py" and ast.get_docstring(tree) is not None)


def api_page(title: str, modules: list[str]) -> str:
    """A heading and a directive of mkdocstrings per module."""
    lines = [f"# {title}", ""]
    for module in modules:
        lines += [f"## {module}", "", f"::: {module}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)
