"""YAML as DVC reads it, and values in it by dotted path: one reader, one writer and one setter for all our YAML files.

YAML 1.2 by ruamel.yaml, as in DVC: ``1e-3`` is a number, ``010`` is ten, ``yes`` is text. A file changed in place
keeps its comments and order, and, if it is laid out as DVC writes it (lists as blocks), every other byte. Layer 0.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError, ParamsError, WeaksegError
from weakseg.core.files import write_text
from weakseg.core.reading import read_text

_DEEPEST: Final = 100  # levels of nesting; readers go down by calls, libyaml's without an end
_MOST: Final = 1_000_000  # values, those that an alias repeats counted each time


def load_text(path: Path, error: type[WeaksegError] = DataError) -> str:
    """The text of a YAML file that :func:`parse_yaml` and :func:`set_values` can take."""
    return check_yaml(read_text(path, error), str(path), error)


def load_yaml(path: Path, error: type[WeaksegError] = DataError) -> Any:
    """The content of a YAML file as plain dicts, lists and scalars; what is no YAML raises ``error``."""
    return parse_yaml(read_text(path, error), str(path), error)


def parse_yaml(text: str, origin: str = "text", error: type[WeaksegError] = DataError) -> Any:
    """The content of YAML text; ``origin`` names it in the error. A key that stands twice in a mapping is an error.

    Nothing is built before the nesting and the aliases are known to be within bounds.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    check_yaml(text, origin, error)
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, TypeError, AttributeError, OverflowError) as fault:  # 2001-13-41, {[]: 1}, !!omap x
        raise _not_yaml(origin, fault, error) from fault


def check_yaml(text: str, origin: str, error: type[WeaksegError] = DataError) -> str:
    """The same text, if it is YAML without anything deeper than 100 levels, or more than 10^6 values by aliases."""
    from ruamel.yaml.error import YAMLError

    try:
        found = _what_is_wrong(text)
    except (YAMLError, ValueError) as fault:
        raise _not_yaml(origin, fault, error) from fault
    if found:
        expected = f"at most {_DEEPEST} levels and {_MOST} values"
        raise error(f"{origin}: {found}", expected=expected, cure="write it out plainly")
    return text


def _what_is_wrong(text: str) -> str:
    """Why YAML is out of bounds, or nothing; only events are read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    known: dict[str, int] = {}  # values below each anchor
    nesting: list[tuple[str | None, int]] = [(None, 0)]  # anchor and values so far of what is open
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, CollectionStartEvent):
            nesting.append((event.anchor, 1))
            if len(nesting) > _DEEPEST + 1:
                return f"more than {_DEEPEST} levels"
            continue
        if isinstance(event, AliasEvent):
            if event.anchor not in known:
                return f"the alias *{event.anchor} of nothing before it"
            values = known[event.anchor]
        elif isinstance(event, CollectionEndEvent):
            anchor, values = nesting.pop()
            known |= {} if anchor is None else {anchor: values}
        elif isinstance(event, ScalarEvent):
            values = 1
            known |= {} if event.anchor is None else {event.anchor: 1}
        else:
            continue
        nesting[-1] = nesting[-1][0], nesting[-1][1] + values
        if nesting[-1][1] > _MOST:
            return f"more than {_MOST} values"
    return ""


def _not_yaml(origin: str, fault: Exception, error: type[WeaksegError]) -> WeaksegError:
    said = " ".join(str(fault).split("To suppress")[0].split())
    return error(f"{origin} is not YAML ({said})", expected="key: value lines", cure="mend it")


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
    from ruamel.yaml.error import YAMLError

    check_yaml(text, "the YAML text", ParamsError)
    try:
        return _commented().load(text)
    except (YAMLError, ValueError, TypeError, AttributeError, OverflowError) as fault:
        raise _not_yaml("the YAML text", fault, ParamsError) from fault


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
