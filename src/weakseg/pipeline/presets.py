"""Params files from a base and small differences: what `weakseg init --config` makes a workspace's params.yaml of.

``pipeline/base.yaml`` is a whole params file. A preset (``pipeline/dubai.yaml``) holds what differs, with its reasons,
and may name another one that it builds on (``base: dubai``). A whole params file is a preset too, of earlier versions
as well: what has moved since is brought to its place, and said.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeGuard

import weakseg
from weakseg.core.config import dump_yaml, load_commented, load_yaml, parse_yaml, put
from weakseg.core.errors import ParamsError
from weakseg.core.params import Params, check_params
from weakseg.core.removed_params import drop_removed

PIPELINE: Final = Path(weakseg.__file__).parent / "pipeline"
BASE: Final = "base"
OPEN_TABLES: Final = ("segment.class_weights", "students.pseudo_weight", "tune.space", "promote.allowance")
"""Tables with names of the user's: a preset gives them whole."""
MOVED: Final = {
    **{f"segment.weak.{key}": f"students.{key}" for key in ("batch", "start", "ramp", "pseudo_weight")},
    "segment.weak.consistency_weight": "consistency.weight",
    **{f"segment.weak.{key}": f"consistency.{key}" for key in ("tag_weight", "presence_weight", "share_weight")},
    "segment.consistency": "consistency",
}
"""Paths of version 0.1 and where their values are now."""
AS_BEFORE: Final = {"segment.refit": False}
"""Options that were new once and whose value in the base trains otherwise than weakseg did before them."""


def presets() -> list[str]:
    """Names of the presets that the package brings, the base first."""
    return [BASE, *sorted(file.stem for file in PIPELINE.glob("*.yaml") if file.stem not in (BASE, "dvc"))]


def seeded(tree: Any, seed: int) -> Any:
    """Params, as nested mappings, in which every network of the pipeline has this one seed; the same object.

    The seeds of the bootstrap and of Optuna stay: they draw no network.
    """
    for section in ("classifier", "irnet", "single_stage"):
        tree[section]["seed"] = seed
    tree["segment"]["seeds"] = [seed]
    return tree


def build_params(config: str, seed: int | None = None) -> tuple[str, str]:
    """The text of a whole params.yaml from a preset's name or the path of a file, and a sentence on what has moved.

    Its head is the preset's; all other comments are the base's, which speak of keys, not of values.

    Args:
        seed: of all networks from the classifier to the student, in place of the preset's.

    Raises:
        ParamsError: no such preset or file, a path that the base lacks, or values that the params refuse.
    """
    files, layers, said = _layers(config)
    text = (PIPELINE / f"{BASE}.yaml").read_text(encoding="utf-8")
    tree = load_commented(text)
    for layer in layers:
        _merge(tree, layer, "", config)
    if seed is not None:
        seeded(tree, seed)
    head = next((found for file in reversed(files) if (found := _head(file.read_text(encoding="utf-8")))), _head(text))
    merged = dump_yaml(tree)
    check_params(parse_yaml(merged), config)
    return head + merged.removeprefix(_head(merged)), said


def load_preset(config: str) -> Params:
    """The params that :func:`build_params` writes."""
    return check_params(parse_yaml(build_params(config)[0]), config)


def move_old(raw: Any, origin: str = "params.yaml") -> list[str]:
    """Bring the values of a params file of version 0.1 to their places, in place; returns what was moved.

    Raises:
        ParamsError: if a source of labels is told to have them elsewhere than they are, or an option that is gone has
            another value than the one in force.
    """
    if not isinstance(raw, dict):
        return []
    moved = []
    if isinstance(raw.get("sources"), Mapping):
        raw["sources"] = _names(raw["sources"])
        moved.append("sources is a list of names")
    segment = raw.get("segment")
    old = {section: segment.pop(section, None) for section in ("weak", "consistency")} if _is_table(segment) else {}
    moved += ["segment.weak and segment.consistency are students and consistency"] * any(old.values())
    for path, new in MOVED.items():
        *_, section, key = path.split(".")
        value = old.get(key) if section == "segment" else (old.get(section) or {}).get(key)
        if value is not None:
            place, *leaf = new.split(".")
            raw.setdefault(place, {}).update({leaf[0]: value} if leaf else value)
    tune = raw.get("tune")
    if _is_table(tune) and _is_table(tune.get("space")):
        tune["space"] = {moved_path(path): limits for path, limits in tune["space"].items()}
    if gone := drop_removed(raw, origin):
        moved.append(f"{', '.join(gone)} are gone, with the values in force")
    return moved


def add_new(tree: Any) -> list[str]:
    """Give a whole params file of before, in place, the options that it lacks; returns them, each with its value.

    They have the base's values, or those that train as before (:data:`AS_BEFORE`).
    """
    return _add(tree, load_yaml(PIPELINE / f"{BASE}.yaml"), "")


def _add(tree: Any, base: Mapping[str, Any], prefix: str) -> list[str]:
    added = []
    for key, value in base.items():
        path = f"{prefix}{key}"
        if key in tree and isinstance(value, Mapping) and _is_table(tree[key]) and path not in OPEN_TABLES:
            added += _add(tree[key], value, f"{path}.")
        elif key not in tree:
            put(tree, key, AS_BEFORE.get(path, value))
            added.append(f"{path}: {tree[key]}")
    return added


def moved_path(path: str) -> str:
    """Where the value of a path of version 0.1 is now; other paths are as they were."""
    for old, new in MOVED.items():
        if path == old or path.startswith(f"{old}."):
            return new + path.removeprefix(old)
    return path


def _names(sources: Mapping[str, str]) -> list[str]:
    folders = {"pixel": "tiles/labels", "full": "hidden", "consistency": "tiles/windows"}
    for source, folder in sources.items():
        if folder != folders.get(source, f"pseudo/{source}"):
            raise ParamsError(f"sources.{source}: {folder}", expected="a list of names", cure="write - " + source)
    return list(sources)


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _layers(config: str) -> tuple[list[Path], list[Mapping[str, Any]], str]:
    """Files and differences that lead from the base to ``config``, the base's neighbour first; what has moved."""
    files, said, name = [PIPELINE / f"{BASE}.yaml"], "", config
    layers: list[Mapping[str, Any]] = []
    while name != BASE:
        file = _file(name)
        layer = load_yaml(file, ParamsError) or {}
        if not isinstance(layer, dict):
            raise ParamsError(f"{file} holds no sections", expected="a preset or a params.yaml", cure="mend it")
        if file in files:
            raise ParamsError(f"{config} builds on itself", expected="an end at the base", cure=f"mend base in {file}")
        if moved := move_old(layer, config):
            said = f"{config} is laid out as in version 0.1 and was brought up to date: {', '.join(moved)}"
        name = str(layer.pop("base", BASE))
        files.insert(1, file)
        layers.insert(0, layer)
    return files, layers, said


def _file(name: str) -> Path:
    if name in presets():
        return PIPELINE / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise ParamsError(f"no config {name}", expected=f"{', '.join(presets())} or a file", cure="mend --config")


def _merge(tree: Any, layer: Mapping[str, Any], prefix: str, origin: str) -> None:
    for key, value in layer.items():
        path = f"{prefix}{key}"
        if key not in tree:
            raise ParamsError(f"{origin}: no {path}", expected="a path of base.yaml", cure="mend it")
        if isinstance(value, Mapping) and isinstance(tree[key], Mapping) and path not in OPEN_TABLES:
            _merge(tree[key], value, f"{path}.", origin)
        elif tree[key] != value:
            put(tree, key, value)


def _head(text: str) -> str:
    """The comment lines at the beginning."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True))
    return "".join(lines)
