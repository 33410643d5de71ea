"""Changing single values in the text of params.yaml: comments, order and layout stay, so the git diff is the change."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from weakseg.errors import ParamsError


def set_values(text: str, values: Mapping[str, float]) -> str:
    """``text`` with the numbers at these paths replaced, e.g. ``{"segment.network.dropout": 0.3}``.

    A key that its mapping lacks is added at the mapping's beginning. The mapping itself must be there.

    Raises:
        ParamsError: if a mapping is missing, or shares its text with another one through a YAML anchor.
    """
    for path, value in values.items():
        text = _set(text, path.split("."), value)
    return text


def _set(text: str, path: list[str], value: float) -> str:
    node = _mapping(text, path)
    for key, old in node.value:
        if key.value == path[-1]:
            new = text[: old.start_mark.index] + _scalar(value) + text[old.end_mark.index :]
            return _checked(text, new, path, value)
    entry = f"{_scalar(path[-1])}: {_scalar(value)}"
    at = node.start_mark.index
    if node.flow_style:  # behind the opening brace
        new = text[: at + 1] + entry + (", " if node.value else "") + text[at + 1 :]
    else:
        new = text[:at] + entry + "\n" + " " * node.start_mark.column + text[at:]
    return _checked(text, new, path, value)


def _mapping(text: str, path: list[str]) -> yaml.MappingNode:
    """The mapping that holds, or is to hold, the last key of ``path``."""
    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    for part in path[:-1]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in pairs if key.value == part), None)
    if not isinstance(node, yaml.MappingNode):
        raise ParamsError(f"no section {'.'.join(path[:-1])}", expected="one in params.yaml", cure="write it there")
    return node


def _scalar(value: float | str) -> str:
    """As YAML reads it back: 1.0e-05, not 1e-05, which it takes for text."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _checked(before: str, after: str, path: list[str], value: float) -> str:
    """``after``, if it says what ``before`` says but for this one value."""
    wanted = yaml.safe_load(before)
    node = wanted
    for part in path[:-1]:
        node[part] = dict(node[part])  # YAML aliases are one object: only this path is to change
        node = node[part]
    node[path[-1]] = value
    if yaml.safe_load(after) != wanted:
        raise ParamsError(
            f"{'.'.join(path)} shares its text with another key through an anchor",
            expected="a section of its own",
            cure="write the section out in params.yaml",
        )
    return after
