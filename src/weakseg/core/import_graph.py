"""The code that a module can reach, read from the imports of this package's files, and a digest of what it does.

Reached is what is imported anywhere, inside functions too, or named as a whole by a string (``python -m`` in a child
process); files beside a module that it names by a string (page templates) count as bytes. A digest knows neither
comments, docstrings and layout nor where the package lies. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        code: digest of what it does: of its syntax tree without docstrings.
        imports: names of the package's own modules that it reaches directly.
        data: files that it names, by their path in the package.
    """

    code: str
    imports: frozenset[str]
    data: Mapping[str, bytes]


class Package(Mapping[str, Module]):
    """All modules below the folder of a package, by their full names; a file is read when it is asked for.

    Attributes:
        files: of the modules.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {module_name(folder, file): file for file in sorted(folder.rglob("*.py"))}
        self._read: dict[str, Module] = {}

    def __getitem__(self, name: str) -> Module:
        if name not in self._read:
            self._read[name] = read_module(self.folder, self.files[name], set(self.files))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def reach(modules: Mapping[str, Module], start: str) -> set[str]:
    """Names of ``start`` and of every module that it can come to run."""
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += modules[name].imports
    return found


def digest(modules: Mapping[str, Module], start: str) -> str:
    """Hex digest of all that ``start`` reaches: equal as long as none of it does anything else."""
    result = hashlib.blake2b(digest_size=16)
    for name in sorted(reach(modules, start)):
        result.update(f"\n{name}\n{modules[name].code}".encode())
        for path, content in sorted(modules[name].data.items()):
            result.update(f"\n{path} {hashlib.blake2b(content).hexdigest()}".encode())
    return result.hexdigest()


def module_name(package: Path, file: Path) -> str:
    """The full name of the module in a file below the package's folder."""
    return ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def read_module(package: Path, file: Path, names: set[str]) -> Module:
    """One file of the package whose modules are ``names``."""
    name = module_name(package, file)
    tree = ast.parse(file.read_bytes(), file.name)
    _drop_docstrings(tree)
    found = {own for imported in _imported(tree) for own in _with_parents(imported) if own in names}
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for word in {word for word in words & names if "." in word}:  # `python -m`: a package runs its __main__
        found |= {own for own in (*_with_parents(word), f"{word}.__main__") if own in names}
    data = {path.relative_to(package).as_posix(): path.read_bytes() for path in _data(file, words)}
    code = hashlib.blake2b(_canonical(tree).encode(), digest_size=16).hexdigest()
    return Module(code, frozenset((found | set(_with_parents(name)) & names) - {name}), data)


def _with_parents(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``: importing the last runs them all."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _imported(node: ast.AST) -> Iterator[str]:
    """Names that may be modules; blocks under ``if TYPE_CHECKING`` never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imported(ast.Module(child.orelse, []))
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield str(child.module)
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imported(child)


def _data(file: Path, words: set[str]) -> Iterator[Path]:
    """Files beside a module, or in folders beside it, that its strings name."""
    for word in words:
        if not word or len(word) > 100 or set(word) & set("\0\n*?") or word.startswith((".", "/")):
            continue
        place = file.parent / word
        inside = place.rglob("*") if place.is_dir() and not any(place.glob("*.py")) else [place]
        yield from (path for path in inside if path.is_file() and path.suffix not in (".py", ".pyc"))


def _drop_docstrings(tree: ast.AST) -> None:
    """Statements that are a string alone do nothing."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_string(child)]  # type: ignore[attr-defined]


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _canonical(node: Any) -> str:
    """The tree as text. Empty fields are left out: newer Pythons have more of them."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)
