"""What portals deliver: the bands of their images, as data, so that an import need not be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from weakseg.core.bands import DTYPES, is_number
from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError, ParamsError

FOLDER: Final = Path(__file__).parents[1] / "pipeline" / "portals"
FACTS: Final = ("bands", "dtype", "resolution", "crs", "format", "licence")
_KEYS: Final = ("title", *FACTS, "source", "evidence")
_CODE: Final = re.compile(r"EPSG:[0-9?]{4,5}")


@dataclass(frozen=True)
class Portal:
    """What one portal delivers.

    Attributes:
        bands: names with commas, in the order of the files, as ``--bands`` takes them.
        dtype: of all bands.
        resolution: m per px; several where deliveries differ.
        crs: codes such as EPSG:25832, any of them; ``?`` is any digit (EPSG:326?? for all zones of UTM, north).
        format, licence, source: for people.
        evidence: where each of ``FACTS`` was looked up.
    """

    name: str
    title: str
    bands: str
    dtype: str
    resolution: tuple[float, ...]
    crs: tuple[str, ...]
    format: str
    licence: str
    source: str
    evidence: Mapping[str, str]

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Which facts nobody has looked up."""
        return tuple(fact for fact in FACTS if fact not in self.evidence)

    @property
    def only_crs(self) -> str | None:
        """The code of all its images, for those whose files name none; None where there are several."""
        return self.crs[0] if len(self.crs) == 1 and "?" not in self.crs[0] else None

    def __str__(self) -> str:
        """For people, in one sentence."""
        doubt = f"; not looked up: {', '.join(self.unchecked)}" if self.unchecked else ""
        return f"{self.title}: {self.bands} ({self.dtype}), {self.licence}, {self.source}{doubt}"

    def row(self) -> str:
        """Of the table in docs/data.md."""
        sizes, systems = (" or ".join(map(str, values)) for values in (self.resolution, self.crs))
        cells = (f"`{self.name}`", self.bands, self.dtype, sizes, systems, self.format, self.licence)
        return f"| {' | '.join(cells)} | {', '.join(self.unchecked) or '-'} |"


def portal_names() -> list[str]:
    """All that are known."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_portal(name: str) -> Portal:
    """A portal by its name; another one raises ParamsError with those that there are."""
    if name not in portal_names():
        raise ParamsError(f"portal {name!r}", expected=" | ".join(portal_names()), cure="name one, or use --bands")
    path = FOLDER / f"{name}.yaml"
    return parse_portal(name, load_yaml(path), str(path))


def parse_portal(name: str, content: Any, origin: str) -> Portal:
    """What a file says; DataError that names ``origin`` and the key for anything that is no portal."""

    def refuse(found: str, expected: str) -> DataError:
        return DataError(f"{origin}: {found}", expected=expected, cure="mend the file")

    if not isinstance(content, dict) or set(content) != set(_KEYS):
        found = sorted(map(str, content)) if isinstance(content, dict) else content
        raise refuse(f"keys {found}", ", ".join(_KEYS))
    sizes, systems, evidence = _listed(content["resolution"]), _listed(content["crs"]), content["evidence"]
    texts = {key: content[key] for key in ("title", "bands", "dtype", "format", "licence", "source")}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise refuse(f"{key} {value!r}", "a text")
    if texts["dtype"] not in DTYPES:
        raise refuse(f"dtype {texts['dtype']}", " | ".join(DTYPES))
    if not sizes or not all(is_number(size) and size > 0 for size in sizes):
        raise refuse(f"resolution {content['resolution']!r}", "metres per px, one number or several")
    if not systems or not all(isinstance(code, str) and _CODE.fullmatch(code) for code in systems):
        raise refuse(f"crs {content['crs']!r}", "codes such as EPSG:25832, ? for any digit")
    if (
        not isinstance(evidence, dict)
        or set(evidence) - set(FACTS)
        or not all(isinstance(place, str) and place.strip() for place in evidence.values())
    ):
        raise refuse(f"evidence {evidence!r}", f"where it was looked up, for some of {', '.join(FACTS)}")
    return Portal(name, **texts, resolution=tuple(map(float, sizes)), crs=tuple(systems), evidence=evidence)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
