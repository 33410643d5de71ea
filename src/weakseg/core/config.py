"""YAML as DVC reads it, and values in it by dotted path: one reader, one writer and one setter for all our YAML files.

YAML 1.2 by ruamel.yaml, as in DVC: ``1e-3`` is a number, ``010`` is ten, ``yes`` is text. A file changed in place
keeps its comments and order, and, if it is laid out as DVC writes it (lists as blocks), every other byte. Layer 0.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weakseg.core.errors import DataError, ParamsError, WeaksegError
from weakseg.core.files import write_text


def load_yaml(path: Path, error: type[WeaksegError] = DataError) -> Any:
    """The content of a YAML file as plain dicts, lists and scalars; what is no YAML raises ``error``."""
    return parse_yaml(path.read_text(encoding="utf-8"), str(path), error)


def parse_yaml(text: str, origin: str = "text", error: type[WeaksegError] = DataError) -> Any:
    """The content of YAML text; ``origin`` names it in the error. A key that stands twice in a mapping is an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as fault:
        said = " ".join(str(fault).split("To suppress")[0].split())
        raise error(f"{origin} is not YAML ({said})", expected="key: value lines", cure="mend it") from fault


def dump_yaml(content: Any) -> str:
    """YAML of plain values, or of what :func:`load_commented` gave, laid out as DVC writes it; no anchors."""
    writer, stream = _commented(), io.StringIO()
    writer.representer.ignore_aliases = lambda _: True
    writer.dump(content, stream)
    return stream.getvalue()


def save_yaml(path: Path, content: Any) -> None:
    """Write :func:`dump_yaml` of ``content``, whole or not at all."""
    write_text(path, dump_yaml(content))


def load_commented(text: str) -> Any:
    """YAML text as mappings and lists that keep their comments; :func:`dump_yaml` writes them with these."""
    return _commented().load(text)


def _commented() -> Any:
    from ruamel.yaml import YAML

    writer = YAML()  # the settings of dvc.utils.serialize, so that DVC and we write the same bytes
    writer.default_flow_style = False
    return writer


def set_value(tree: Any, path: str, value: Any) -> None:
    """Put ``value`` at a dotted path, at the end of its section if that lacks the key; the section must be there.

    Raises:
        ParamsError: if a section on the way is missing.
    """
    put(*_place(tree, path), value)


def put(section: Any, key: str, value: Any) -> None:
    """``section[key] = value``. Before an empty list no comment stays: ruamel would put the brackets below it."""
    if value == [] and hasattr(section, "ca"):
        section.ca.items.pop(key, None)
    section[key] = value


def set_values(text: str, values: Mapping[str, Any]) -> str:
    """YAML text with other values at these paths; comments, order and all other values stay.

    Raises:
        ParamsError: if a section is missing, or shares its text with another one through an anchor.
    """
    if anchors := list(find_anchors(text)):
        raise ParamsError(
            f"sections share their text through the anchor {anchors[0]}",
            expected="every section written out: a change in one place would change the other",
            cure="write them out",
        )
    tree = load_commented(text)
    for path, value in values.items():
        set_value(tree, path, value)
    return dump_yaml(tree)


def find_anchors(text: str) -> Iterator[str]:
    """Names of the anchors and aliases in YAML text, in their order."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent

    for event in YAML(typ="safe", pure=True).parse(text):
        if (name := getattr(event, "anchor", None)) is not None:
            yield f"*{name}" if isinstance(event, AliasEvent) else f"&{name}"


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of all that is no mapping; an empty mapping counts as a value."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def _place(tree: Any, path: str) -> tuple[Any, str]:
    """(section that holds or is to hold the last key of ``path``, that key)."""
    *sections, key = path.split(".")
    node = tree
    for number, section in enumerate(sections, 1):
        node = node.get(section) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            raise ParamsError(
                f"no section {'.'.join(sections[:number])} for {path}",
                expected="a path in params.yaml",
                cure="mend the path, or write the section there",
            )
    return node, key
