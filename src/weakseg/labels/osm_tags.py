"""What tags of OpenStreetMap mean here: a file of ``key: class`` and ``key=value: class`` lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.labels.class_map import read_class_map

_MARKS: Final = ("@id", "@type", "osm_id", "osm_way_id", "osm_type", "full_id", "other_tags")
_IDS: Final = re.compile(r"(?:node|way|relation)/\d+|[nwra]\d+")
_HSTORE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')
_NO: Final = "no"


@dataclass(frozen=True)
class OsmMap:
    """Classes by ``key`` and by ``key=value``, which goes before its key; None leaves features out.

    >>> names = OsmMap(("building", "tree"), {"building": "building", "building=ruins": None, "natural=tree": "tree"})
    >>> [names.classes_of({"building": value}) for value in ("yes", "ruins", "no")]
    [('building',), (), ()]
    """

    names: tuple[str, ...]
    stated: Mapping[str, str | None]

    @property
    def asked(self) -> tuple[str, ...]:
        """The classes that it leads to, in order."""
        return tuple(name for name in self.names if name in self.stated.values())

    def classes_of(self, properties: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes that the tags of a feature mean; ``no`` as a value means nothing, unless it is stated."""
        found = set()
        for key, text in osm_tags(properties).items():
            for value in (part.strip() for part in text.split(";")):
                pair = f"{key}={value}"
                found.add(self.stated[pair] if pair in self.stated else self.stated.get(key) if value != _NO else None)
        return tuple(name for name in self.names if name in found)


def read_osm_map(path: Path | None, scheme: ClassScheme) -> OsmMap:
    """The map of a file.

    Raises:
        ParamsError: no file is named.
        DataError: it is no map to classes of the scheme.
    """
    if path is None:
        raise ParamsError(
            "OpenStreetMap without a map of its keys",
            expected="a file of lines such as `building: building`, `highway: road` or `natural=tree: tree`",
            cure="name it by --map FILE; docs/labelling.md has one",
        )
    return OsmMap(scheme.object_names, read_class_map(path, scheme).stated)


def osm_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a feature: flat (Overpass turbo, osmium, QuickOSM), under ``tags``, or as text in ``other_tags``.

    >>> osm_tags({"osm_id": "1", "other_tags": '"building"=>"yes","height"=>"5"'})
    {'osm_id': '1', 'building': 'yes', 'height': '5'}
    """
    flat = {key: str(value) for key, value in properties.items() if isinstance(value, str | int | float)}
    nested = properties.get("tags")
    if isinstance(nested, dict):
        flat |= {str(key): str(value) for key, value in nested.items()}
    return flat | dict(_HSTORE.findall(flat.pop("other_tags", "")))


def is_osm(properties: Mapping[str, Any], identity: Any = None) -> bool:
    """Whether a feature is of OpenStreetMap, by its columns or by its id."""
    return any(key in properties for key in _MARKS) or (isinstance(identity, str) and bool(_IDS.fullmatch(identity)))
