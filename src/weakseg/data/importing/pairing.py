"""Which label belongs to which image: area names from file names, for ISPRS archives and for any two folders.

A name becomes an area's by a :data:`Naming`. Two are built in: one takes off endings such as ``_mask``, the other also
prefixes such as ``IMG_`` and short endings, which occur as parts of real names too; :func:`pair_up` takes the second
only where more files find their partners by it. For all other names there are patterns (``patterns``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from weakseg.core.area_names import ERODED, area_name, bare_name
from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Entry
from weakseg.data.importing.name_patterns import NamePattern

Role = Literal["image", "label", "eroded label"]
Naming = Callable[[Entry], str]

_ROLE_FOLDERS: Final = {"image": "top", "label": "gts_for_participants"}  # of the ISPRS archives
_MAX_BYTES: Final = 200  # of an area's name: file systems take 255, with suffixes and temporary names


@dataclass(frozen=True)
class Pair:
    """One area: its image, its label, and its label with eroded boundaries where there is one."""

    area: str
    image: Entry
    label: Entry | None
    eroded: Entry | None


NAMINGS: Final[tuple[Naming, ...]] = (lambda entry: area_name(entry.stem), lambda entry: bare_name(entry.stem))


def choose_entries(
    entries: Sequence[Entry], role: Literal["image", "label"], pattern: NamePattern | None = None
) -> list[Entry]:
    """The rasters of a source that play this role: those of the pattern, in the ISPRS folder for the role, or all."""
    if pattern is not None:
        return pattern.select(entries)
    own = [entry for entry in entries if _ROLE_FOLDERS[role] in entry.folders]
    return own or list(entries)


def pair_up(
    images: Iterable[Entry],
    labels: Iterable[Entry],
    *,
    allow_unlabelled: bool = False,
    image_name: Naming | None = None,
    label_name: Naming | None = None,
) -> tuple[list[Pair], list[str]]:
    """Pair images with labels by area name, sorted by area; and the problems: names used twice, partners missing.

    Labels named ``*_noBoundary`` are the eroded ones; where no other labels are given at all, they are the labels.
    With ``allow_unlabelled`` an image may stand alone. Of the built-in namings the one with the fewest files without
    a partner counts, the stricter one of equals; ``image_name`` and ``label_name`` replace them.
    """
    images, labels = list(images), list(labels)
    tries = [
        _pair_by(images, labels, image_name or naming, label_name or naming, allow_unlabelled) for naming in NAMINGS
    ]
    pairs, _, problems = min(tries, key=lambda found: found[1])  # the first of equals
    return pairs, problems


def _pair_by(
    images: list[Entry], labels: list[Entry], image_name: Naming, label_name: Naming, allow_unlabelled: bool
) -> tuple[list[Pair], int, list[str]]:
    """The pairs, the number of files that are not in a pair, and the problems."""
    plain: list[Entry] = []
    eroded: list[Entry] = []
    for entry in labels:
        (eroded if ERODED.search(entry.stem) else plain).append(entry)
    if not plain:
        plain, eroded = eroded, []
    problems: list[str] = []
    by_image = _by_area(images, "image", image_name, problems)
    by_label = _by_area(plain, "label", label_name, problems)
    by_eroded = _by_area(eroded, "eroded label", label_name, problems)
    problems += _name_problems(by_image)
    for area, entry in sorted(by_image.items()):
        if area not in by_label and not allow_unlabelled:
            problems.append(_lonely(entry, "label", area))
        if by_eroded and area in by_label and area not in by_eroded:
            problems.append(_lonely(entry, "eroded label", area))
    for table in (by_label, by_eroded):
        problems += [_lonely(entry, "image", area) for area, entry in sorted(table.items()) if area not in by_image]
    pairs = [Pair(area, by_image[area], by_label.get(area), by_eroded.get(area)) for area in sorted(by_image)]
    paired = sum(1 + (pair.eroded is not None) + 1 for pair in pairs if pair.label is not None)
    return pairs, len(images) + len(labels) - paired, problems


def _by_area(entries: Iterable[Entry], role: Role, name: Naming, problems: list[str]) -> dict[str, Entry]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[name(entry)].append(entry)
    for area, group in sorted(groups.items()):
        if len(group) > 1:
            twice = DataError(
                f"area {area} has {len(group)} {role}s: {', '.join(map(str, group))}",
                expected="one",
                cure="keep one, put images and labels into folders of their own, or tell them apart by a pattern",
            )
            problems.append(str(twice))
    return {area: group[0] for area, group in groups.items()}


def _name_problems(by_area: dict[str, Entry]) -> list[str]:
    """Areas whose names are no safe file names, or that a file system without upper case would mix up."""
    problems, seen = [], dict[str, Entry]()
    for area, entry in sorted(by_area.items()):
        fault = _fault(area)
        if fault is not None:
            shown = str(entry) if str(entry).isprintable() else repr(str(entry))
            wrong = DataError(
                f"{shown}: area name {area!r} {fault}",
                expected="a name that can be a file's on every system",
                cure="rename the file, or choose another part of its name by a pattern",
            )
            problems.append(str(wrong))
        other = seen.setdefault(area.casefold(), entry)
        if other is not entry:
            twins = DataError(
                f"{other} and {entry} differ in upper and lower case only",
                expected="areas that every file system tells apart",
                cure="rename one of them",
            )
            problems.append(str(twins))
    return problems


def _fault(area: str) -> str | None:
    if not area:
        return "is empty"
    if not area.isprintable():
        return "has a control character or another that cannot be seen"
    if area != area.strip() or area.startswith(".") or area.endswith("."):
        return "begins or ends with a space or dot"
    if "/" in area or "\\" in area:
        return "has a slash"
    if len(area.encode()) > _MAX_BYTES:
        return f"is {len(area.encode())} bytes long"
    return None


def _lonely(entry: Entry, role: Role, area: str) -> str:
    cure = "add the file, leave this one out, or say by patterns which part of the names is the area's"
    if role == "label":
        cure = "add the file, leave this one out, or allow images without labels (--allow-unlabelled)"
    return str(DataError(f"{entry}: no {role} for area {area}", expected=f"a {role} with the same name", cure=cure))
