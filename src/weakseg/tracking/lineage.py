"""What a stage reads, by the hashes that DVC has recorded for it: the data lineage of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError

_DIGEST = 36  # characters that MLflow keeps of a digest: an md5 with DVC's ".dir" fits exactly


@dataclass(frozen=True)
class Input:
    """A file or folder that a stage reads.

    Attributes:
        path: as dvc.yaml names it, relative to the workspace.
        digest: DVC's hash of its content, as data.dvc or dvc.lock last recorded it.
        size: bytes.  files: how many; 1 for a file.
    """

    path: str
    digest: str
    size: int = 0
    files: int = 1


def inputs_of(root: Path, stage: str) -> list[Input]:
    """The data of this workspace and, for a stage of dvc.yaml (``segment@pixel``), the outputs that it depends on.

    Code is left out (the commit says which it was), and so is what DVC has no hash of. Under `dvc repro` all that a
    stage depends on is recorded before it starts; a stage that is run by hand gets what was recorded last.
    """
    found = _data(root)
    recorded = {item.path: item for item in _outputs(root)}
    for dependency in _dependencies(root, stage):
        if Path(dependency).is_relative_to("out/code") or Path(dependency).is_relative_to("out/settings"):
            continue  # no data: the commit and the params of the run say what they were
        for path, item in recorded.items():
            if _overlap(path, dependency):
                found.setdefault(path, item)
    return list(found.values())


def _data(root: Path) -> dict[str, Input]:
    return {item.path: item for entry in _read(root / "data.dvc").get("outs") or [] if (item := _input(entry))}


def _outputs(root: Path) -> Iterator[Input]:
    for stage in (_read(root / "dvc.lock").get("stages") or {}).values():
        for entry in stage.get("outs") or []:
            if item := _input(entry):
                yield item


def _input(entry: Mapping[str, Any]) -> Input | None:
    digest = str(entry.get("md5") or "")[:_DIGEST]
    return Input(entry["path"], digest, int(entry.get("size", 0)), int(entry.get("nfiles", 1))) if digest else None


def stage_inputs(root: Path, stage: str) -> list[Path]:
    """Files and folders that a stage (``segment@pixel``) reads, as dvc.yaml names them."""
    return [root / path for path in _dependencies(root, stage)]


def _dependencies(root: Path, stage: str) -> list[str]:
    """Paths of ``deps``, with the ``${...}`` of DVC's templates filled in: from a ``foreach``, or from params.yaml."""
    name, _, key = stage.partition(" ")[0].partition("@")  # behind a blank: one seed of the stage
    body = (_read(root / "dvc.yaml").get("stages") or {}).get(name) or {}
    values = _read(root / "params.yaml")
    if "foreach" in body:
        each, body = body["foreach"], body["do"]
        if isinstance(each, str):
            each = _lookup(values, each.strip("${}"))
        values = {**values, "key": key, "item": each.get(key) if isinstance(each, Mapping) else key}
    paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in body.get("deps", [])]
    return [re.sub(r"\$\{([\w.]+)\}", lambda match: str(_lookup(values, match[1])), path) for path in paths]


def _lookup(values: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for part in path.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _overlap(a: str, b: str) -> bool:
    return Path(a).is_relative_to(b) or Path(b).is_relative_to(a)


def _read(file: Path) -> dict[str, Any]:
    """A YAML file, {} where there is none. A broken one is DVC's business, never the end of a training."""
    try:
        content = load_yaml(file)
    except (OSError, UnicodeError, DataError):
        return {}
    return content if isinstance(content, dict) else {}
