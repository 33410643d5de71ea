"""Which label belongs to which image: area names from file names, for ISPRS archives and for any two folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from weakseg.data.archives import Entry
from weakseg.errors import DataError

Role = Literal["image", "label", "eroded label"]

_ISPRS: Final = re.compile(r"top_mosaic_09cm_(area\d+)", re.IGNORECASE)
_ERODED: Final = re.compile(r"_noboundary$", re.IGNORECASE)
_ENDINGS: Final = re.compile(
    r"(?<=.)[_-](rgb|irrg|rgbir|image|img|sat|label|labels|mask|masks|gt|groundtruth)$", re.IGNORECASE
)
_ROLE_FOLDERS: Final = {"image": "top", "label": "gts_for_participants"}  # of the ISPRS archives


@dataclass(frozen=True)
class Pair:
    """One area: its image, its label, and its label with eroded boundaries where there is one."""

    area: str
    image: Entry
    label: Entry | None
    eroded: Entry | None


def area_name(stem: str) -> str:
    """The area that a file name stands for: "area12" for the ISPRS tiles, otherwise the stem without its endings.

    >>> area_name("top_mosaic_09cm_area12_noBoundary"), area_name("top_potsdam_2_10_RGB"), area_name("field_7_mask")
    ('area12', 'top_potsdam_2_10', 'field_7')
    """
    stem = _ERODED.sub("", stem)
    isprs = _ISPRS.fullmatch(stem)
    if isprs:
        return isprs[1].lower()
    while _ENDINGS.search(stem):  # "x_RGB_label" belongs to "x_RGB"
        stem = _ENDINGS.sub("", stem)
    return stem


def choose_entries(entries: Sequence[Entry], role: Literal["image", "label"]) -> list[Entry]:
    """The rasters of a source that play this role: those in the ISPRS folder for it, if there is one, or else all."""
    own = [entry for entry in entries if _ROLE_FOLDERS[role] in entry.folders]
    return own or list(entries)


def pair_up(
    images: Iterable[Entry], labels: Iterable[Entry], *, allow_unlabelled: bool = False
) -> tuple[list[Pair], list[str]]:
    """Pair images with labels by area name, sorted by area; and the problems: names used twice, partners missing.

    Labels named ``*_noBoundary`` are the eroded ones; where no other labels are given at all, they are the labels.
    With ``allow_unlabelled`` an image may stand alone.
    """
    plain: list[Entry] = []
    eroded: list[Entry] = []
    for entry in labels:
        (eroded if _ERODED.search(entry.stem) else plain).append(entry)
    if not plain:
        plain, eroded = eroded, []
    problems: list[str] = []
    by_image = _by_area(images, "image", problems)
    by_label = _by_area(plain, "label", problems)
    by_eroded = _by_area(eroded, "eroded label", problems)
    for area, entry in sorted(by_image.items()):
        if area not in by_label and not allow_unlabelled:
            problems.append(_lonely(entry, "label", area))
        if by_eroded and area in by_label and area not in by_eroded:
            problems.append(_lonely(entry, "eroded label", area))
    for table in (by_label, by_eroded):
        problems += [_lonely(entry, "image", area) for area, entry in sorted(table.items()) if area not in by_image]
    pairs = [Pair(area, by_image[area], by_label.get(area), by_eroded.get(area)) for area in sorted(by_image)]
    return pairs, problems


def _by_area(entries: Iterable[Entry], role: Role, problems: list[str]) -> dict[str, Entry]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[area_name(entry.stem)].append(entry)
    for area, group in sorted(groups.items()):
        if len(group) > 1:
            twice = DataError(
                f"area {area} has {len(group)} {role}s: {', '.join(map(str, group))}",
                expected="one",
                cure="keep one, or put images and labels into folders of their own",
            )
            problems.append(str(twice))
    return {area: group[0] for area, group in groups.items()}


def _lonely(entry: Entry, role: Role, area: str) -> str:
    cure = "add the file, or leave this one out"
    if role == "label":
        cure = "add the file, leave this one out, or allow images without labels (--allow-unlabelled)"
    return str(DataError(f"{entry}: no {role} for area {area}", expected=f"a {role} with the same name", cure=cure))
