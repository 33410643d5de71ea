"""What the names of another program are here: a YAML file of ``name: class`` lines, or the classes' own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.core.class_names import did_you_mean
from weakseg.core.classes import ClassScheme
from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError


@dataclass(frozen=True)
class ClassMap:
    """Names of other programs and the classes that they mean.

    Attributes:
        scheme: the classes.
        stated: class by name, None for names that are left out.
        file: that states them, or None.
    """

    scheme: ClassScheme
    stated: Mapping[str, str | None] = field(default_factory=dict)
    file: Path | None = None

    def knows(self, name: str) -> bool:
        """Whether a name is stated, is a class, or is one that is ignored."""
        return name in self.stated or name in self.scheme.names or name in self._ignored

    def class_of(self, name: str) -> str | None:
        """The class of a known name; None where it is left out."""
        return self.stated.get(name, name if name in self.scheme.names else None)

    def classes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The classes of known names that tags speak of (no background), in the order of the scheme, each once."""
        found = {self.class_of(name) for name in names}
        return tuple(name for name in self.scheme.object_names if name in found)

    @property
    def _ignored(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.scheme.ignored)


def read_class_map(path: Path | None, scheme: ClassScheme) -> ClassMap:
    """The map of a file, or without one that of the classes' own names.

    Raises:
        DataError: no file, no YAML of ``name: class`` lines, or classes that the scheme lacks.
    """
    if path is None:
        return ClassMap(scheme)
    content = load_yaml(path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} is no map", expected="lines such as `Haus: building`", cure="write one")
    strange = [
        f"{name}: {value}{did_you_mean(str(value), scheme.names)}"
        for name, value in content.items()
        if not _is_class(value, scheme)
    ]
    if strange:
        raise DataError(
            f"{path}: {', '.join(strange[:8])}",
            expected=f"classes of {', '.join(scheme.names)}, or null to leave a name out",
            cure="mend the lines",
        )
    return ClassMap(scheme, {str(name): value for name, value in content.items()}, path)


def _is_class(value: object, scheme: ClassScheme) -> bool:
    return value is None or (isinstance(value, str) and value in scheme.names)
