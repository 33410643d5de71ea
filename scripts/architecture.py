"""Draw docs/pictures/architecture.png: which folder of the package imports from which, read from the code.

    python scripts/architecture.py

The folders, their order and their questions are those of the table in docs/architecture.md. The picture carries its
content as text, too, so that a test can tell an old one.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "weakseg"
PAGE = ROOT / "docs" / "architecture.md"
TARGET = ROOT / "docs" / "pictures" / "architecture.png"
INK, FAINT, DOT = "#1f2a30", "#d9e0e3", "#00796b"


def read_folders(page: str) -> dict[str, str]:
    """Folder -> its question, in the order of the page's table."""
    return dict(re.findall(r"^\| `(\w+)(?:/|\.py)` \| ([^|]+) \|", page, flags=re.MULTILINE))


def count_imports(package: Path) -> Counter[tuple[str, str]]:
    """(folder, folder that it imports from) -> number of its files that do so."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if not parts[0].startswith("__"):
            others = {name for name in imported_folders(path) if name != parts[0] and (package / name).is_dir()}
            found.update((parts[0], other) for other in others)
    return found


def imported_folders(path: Path) -> set[str]:
    """First folders below weakseg of all imports of a file, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "weakseg":
            tail = str(node.module).split(".")[1:]
            names |= {tail[0]} if tail else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("weakseg.")}
    return names


def describe(imports: Counter[tuple[str, str]]) -> str:
    """The content of the picture, for its metadata."""
    return json.dumps(sorted({f"{folder} > {other}" for folder, other in imports}))


def draw(folders: dict[str, str], imports: Counter[tuple[str, str]], target: Path) -> None:
    """A row per folder with its question, a dot under every folder that it imports from."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(folders)
    figure, axes = pyplot.subplots(figsize=(11.5, 0.34 * len(names) + 1.5), dpi=110)
    for row, name in enumerate(names):
        axes.axhline(row, color=FAINT, linewidth=0.8, xmax=1, zorder=0)
        axes.plot([row, row], [row, len(names) - 0.5], color=FAINT, linewidth=0.8, zorder=0)
        axes.text(-0.8, row, name, ha="right", va="center", fontsize=11, fontweight="bold", color=INK)
        axes.text(
            row + 0.45, row, folders[name], ha="left", va="center", fontsize=9, color=INK, backgroundcolor="white"
        )
        axes.scatter(row, row, marker="s", s=70, color=INK, zorder=3)
        axes.text(row, len(names) - 0.3, name, ha="right", va="top", fontsize=9, rotation=45, color=INK)
    for (name, other), files in imports.items():
        if name in names and other in names:
            axes.scatter(names.index(other), names.index(name), s=25 + 14 * files, color=DOT, alpha=0.85, zorder=2)
    axes.set(xlim=(-4, len(names) + 7), ylim=(len(names) + 1.6, -1.4))
    axes.axis("off")
    axes.text(
        -3.9,
        -1.1,
        "A row per folder; a dot: it imports from the folder in whose column it stands; the larger, the more files.\n"
        "No dot right of the black squares: nothing imports from further down.",
        fontsize=9,
        color=INK,
        va="center",
    )
    figure.tight_layout(pad=0.3)
    figure.savefig(target, metadata={"Description": describe(imports)})


if __name__ == "__main__":
    draw(read_folders(PAGE.read_text(encoding="utf-8")), count_imports(PACKAGE), TARGET)
