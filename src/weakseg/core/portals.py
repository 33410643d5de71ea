"""What portals deliver: the bands of their images, as data, so that an import need not be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weakseg.core.bands import DTYPES
from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError, ParamsError

FOLDER: Final = Path(__file__).parents[1] / "pipeline" / "portals"
_KEYS: Final = ("title", "bands", "dtype", "resolution", "crs", "format", "licence", "source", "unchecked")


@dataclass(frozen=True)
class Portal:
    """What one portal delivers.

    Attributes:
        bands: names with commas, in the order of the files, as ``--bands`` takes them.
        dtype: of all bands.
        resolution: m per px.
        crs, format, licence, source: for people.
        unchecked: which of these nobody has looked up.
    """

    name: str
    title: str
    bands: str
    dtype: str
    resolution: float
    crs: str
    format: str
    licence: str
    source: str
    unchecked: tuple[str, ...]

    def __str__(self) -> str:
        """For people, in one sentence."""
        doubt = f"; not looked up: {', '.join(self.unchecked)}" if self.unchecked else ""
        return f"{self.title}: {self.bands} ({self.dtype}), {self.licence}, {self.source}{doubt}"

    def check(self, dtypes: set[str]) -> None:
        """Refuse (DataError) images of another depth."""
        if dtypes - {self.dtype}:
            raise DataError(
                f"images of {', '.join(sorted(dtypes))}",
                expected=f"{self.dtype}, as {self.name} delivers",
                cure="leave --portal out and name the bands with --bands",
            )


def portal_names() -> list[str]:
    """All that are known."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_portal(name: str) -> Portal:
    """A portal by its name; another one raises ParamsError with those that there are."""
    if name not in portal_names():
        raise ParamsError(f"portal {name!r}", expected=" | ".join(portal_names()), cure="name one, or use --bands")
    path = FOLDER / f"{name}.yaml"
    content = load_yaml(path)
    if set(content) != set(_KEYS) or content["dtype"] not in DTYPES or set(content["unchecked"]) - set(_KEYS):
        raise DataError(f"{path}: keys {sorted(content)}", expected=", ".join(_KEYS), cure="mend the file")
    return Portal(name, **{**content, "unchecked": tuple(content["unchecked"])})
