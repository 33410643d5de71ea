"""The stages of dvc.yaml with the outputs that each declares, for one list of methods and sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Stage:
    """A stage, its source or "", and its outputs, metrics and plots, which DVC removes before it runs."""

    name: str
    source: str
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}@{self.source}" if self.source else self.name


def read_stages(root: Path) -> list[Stage]:
    """All stages of a workspace in an order in which they can run."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    entries: dict[str, tuple[Stage, list[str]]] = {}
    for name, body in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].items():
        items = body.get("foreach", [""])
        items = params[items[2:-1]] if isinstance(items, str) else items
        for item in items:
            entry = body.get("do", body)
            made = [_path(one, item) for kind in ("outs", "metrics", "plots") for one in entry.get(kind, [])]
            stage = Stage(name, item, tuple(made))
            entries[str(stage)] = stage, [_path(one, item) for one in entry["deps"]]
    ordered: list[Stage] = []
    while entries:
        waiting = [path for stage, _ in entries.values() for path in stage.outputs]
        ready = [
            name for name, (_, needs) in entries.items() if not any(_related(a, b) for a in needs for b in waiting)
        ]
        assert ready
        ordered += [entries.pop(name)[0] for name in ready]
    return ordered


def _path(entry: Any, item: str) -> str:
    text = entry if isinstance(entry, str) else next(iter(entry))
    return str(text).replace("${item}", item)


def _related(one: str, two: str) -> bool:
    return f"{one}/".startswith(f"{two}/") or f"{two}/".startswith(f"{one}/")
