"""Where imported rasters come from: folders and zip archives, listed and opened the same way.

Nothing of an archive is trusted: members that would leave the folder, links, encrypted members and decompression bombs
are reported, and a member is unpacked under its own bare name into a scratch folder, one at a time.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from weakseg.core.errors import DataError
from weakseg.core.reading import BROKEN_ZIP
from weakseg.raster.formats import FURTHER_SUFFIXES, LONE_SUFFIXES, RASTER_SUFFIXES
from weakseg.raster.header import MAX_PIXELS
from weakseg.raster.sidecars import MAX_BYTES, WORLD_SUFFIXES, sidecar_name

_SILENT_SUFFIXES: Final = WORLD_SUFFIXES | frozenset(
    {".xml", ".prj", ".msk", ".ovr", ".aux", ".txt", ".pdf", ".md", ".yaml", ".json", ".hdr"}
)


@dataclass(frozen=True)
class Limits:
    """What is still a raster and no longer a decompression bomb.

    Attributes:
        pixels: largest height x width of a raster.
        member_bytes: largest unpacked size of a zip member.
        ratio: largest unpacked / packed size; a picture of one colour reaches 1000, hence ``ratio_from_bytes``.
        ratio_from_bytes: the ratio counts for members that unpack to more than this.
    """

    pixels: int = MAX_PIXELS
    member_bytes: int = 8 << 30
    ratio: float = 200.0
    ratio_from_bytes: int = 512 << 20


@dataclass(frozen=True)
class Entry:
    """One raster of a source: a file in a folder, or a member of a zip. ``str()`` names it for a human."""

    source: Path
    name: str  # posix, relative to the source

    def __str__(self) -> str:
        return str(self.source / self.name)

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders between the source and the raster."""
        return PurePosixPath(self.name).parts[:-1]


@dataclass(frozen=True)
class Listing:
    """The rasters of a source, other files that the import does not use, and what is wrong with the source."""

    rasters: tuple[Entry, ...]
    unused: tuple[str, ...]
    problems: tuple[str, ...]


def list_source(source: Path, limits: Limits, ending: str = "") -> Listing:
    """List the rasters of a folder (and the folders in it) or of a zip, sorted by name; hidden files are left out.

    ``ending`` is that of all rasters that count: virtual rasters beside the files that they are made of.
    """
    names: list[str] = []
    problems: list[str] = []
    if source.is_dir():
        names = _folder_names(source)
    elif source.is_file():
        names, problems = _zip_names(source, limits)
    else:
        return Listing((), (), (str(DataError(f"no {source}", expected="a folder or zip", cure="check the path")),))
    names = sorted(n for n in names if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(n).parts))
    suffixes = ordinary = RASTER_SUFFIXES | FURTHER_SUFFIXES
    if ending:
        suffixes = frozenset({ending})
    elif not any(PurePosixPath(n).suffix.lower() in suffixes for n in names):
        suffixes |= LONE_SUFFIXES
    rasters = tuple(Entry(source, n) for n in names if PurePosixPath(n).suffix.lower() in suffixes)
    other = (n for n in names if PurePosixPath(n).suffix.lower() not in suffixes | ordinary | _SILENT_SUFFIXES)
    if not rasters and not problems:
        wanted = [ending] if ending else [*sorted(RASTER_SUFFIXES), *sorted(FURTHER_SUFFIXES | LONE_SUFFIXES)]
        empty = DataError(
            f"no raster in {source}",
            expected=f"files ending in {', '.join(wanted)}",
            cure="name the folder or zip that holds them",
        )
        problems = [str(empty)]
    return Listing(rasters, tuple(str(source / n) for n in other), tuple(problems))


@contextmanager
def local_file(entry: Entry, scratch: Path) -> Iterator[Path]:
    """A real file with the entry's pixels and its sidecars beside it; unpacked ones lie in ``scratch`` until the end.

    Raises:
        DataError: the member is damaged.
    """
    if entry.source.is_dir():
        yield entry.source / entry.name
        return
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        yield _unpack(entry, scratch)
    finally:
        shutil.rmtree(scratch)


def _folder_names(source: Path) -> list[str]:
    """Files below a folder, linked folders included; a folder that is reached twice counts once."""
    found: list[str] = []
    seen: set[str] = set()
    for folder, below, names in os.walk(source, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            below.clear()  # a link back up would never end
            continue
        seen.add(real)
        found += [(Path(folder) / name).relative_to(source).as_posix() for name in names]
    return found


def _zip_names(source: Path, limits: Limits) -> tuple[list[str], list[str]]:
    """Names of the files of a zip, and its problems; members with a problem are not among the names."""
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except BROKEN_ZIP as error:
        broken = DataError(f"{source}: {error}", expected="a folder or a whole zip", cure="download it again")
        return [], [str(broken)]
    names, problems = [], []
    for member in members:
        found = _what_is_wrong(member, limits)
        if found is None:
            names.append(member.filename)
        else:
            expected = "a member inside the archive's folder, plain, unencrypted and of a sensible size"
            cure = "do not trust this archive; unpack what you need of it yourself"
            problems.append(
                str(DataError(f"{source}: member {member.filename!r} {found}", expected=expected, cure=cure))
            )
    for name in sorted(name for name, count in Counter(names).items() if count > 1):
        twice = DataError(f"{source}: member {name!r} twice", expected="each once", cure="pack the archive again")
        problems.append(str(twice))
    return sorted(set(names)), problems


def _what_is_wrong(member: zipfile.ZipInfo, limits: Limits) -> str | None:
    # "\" separates folders on some machines only, and there a drive counts as well
    parts = member.orig_filename.replace("\\", "/").split("/")
    size, packed = member.file_size, max(member.compress_size, 1)
    if parts[0] == "" or ":" in parts[0] or ".." in parts:
        return "leaves the folder"
    if "\\" in member.filename:
        return "has a backslash in its name"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 1:
        return "is encrypted"
    if size > limits.member_bytes:
        return f"unpacks to {size} bytes"
    if size > limits.ratio_from_bytes and size / packed > limits.ratio:
        return f"unpacks to {size} bytes, {size / packed:.0f} times its size"
    return None


def _unpack(entry: Entry, scratch: Path) -> Path:
    """Unpack a raster and its sidecars under their bare names; never more than the archive's table announced."""
    wanted = PurePosixPath(entry.name)
    try:
        with zipfile.ZipFile(entry.source) as archive:
            for member in archive.infolist():
                name = _target_name(member, wanted)
                if name is None:
                    continue
                if name.endswith((".aux.xml", ".prj")) and member.file_size > MAX_BYTES:
                    raise DataError(
                        f"{entry.source}: member {member.filename!r} unpacks to {member.file_size} bytes",
                        expected=f"a sidecar of at most {MAX_BYTES} bytes",
                        cure="take it out of the archive",
                    )
                with archive.open(member) as packed, (scratch / name).open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except BROKEN_ZIP as error:
        raise DataError(
            f"{entry}: cannot be unpacked ({error})", expected="a whole zip", cure="download it again"
        ) from error
    return scratch / wanted.name


def _target_name(member: zipfile.ZipInfo, wanted: PurePosixPath) -> str | None:
    """The bare name under which a member is unpacked for a raster; None for all but it and its sidecars."""
    path = PurePosixPath(member.filename)
    if path == wanted:
        return path.name
    return sidecar_name(wanted.name, path.name) if path.parent == wanted.parent and not member.is_dir() else None
