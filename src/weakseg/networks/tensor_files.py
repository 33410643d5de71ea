"""The one reader of files of tensors: no code of a file is run, and what it announces is compared with what it is.

Both kinds of ``.pt`` come in: the zip archives of today, whose table is checked before torch reads anything (torch
neither compares checksums nor asks how much a member unpacks to), and the plain pickles of before 2020, which published
weights still come in.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from weakseg.core.errors import WeightsError
from weakseg.core.reading import BROKEN_ZIP

_FOLDER: Final = 0x10  # a mark by which torch takes a member for a folder and leaves its tensor as memory happens to be
_FLAGS: Final = 0x0808  # UTF-8 names, and sizes that stand behind a member


def read_tensors(path: Path, *, says: str, expected: str, cure: str, plain: bool = False) -> Any:
    """Tensors and plain data of a ``.pt``, ``.pth`` or ``.safetensors`` file, on the CPU.

    Args:
        says, expected, cure: of the error.
        plain: take the pickles of before 2020 too.

    Raises:
        WeightsError: anything that is no such file, or a damaged one.
    """

    def refuse(reason: str) -> WeightsError:
        reason = " ".join(reason.split())[:160]
        return WeightsError(f"{path} {says} ({reason})", expected=expected, cure=cure)

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if found := _what_is_wrong(path, plain):
            raise refuse(found)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # the file is a program for torch's unpickler, which raises whatever comes of it
        raise refuse(str(error) or type(error).__name__) from error
    if _bytes_of(content) > path.stat().st_size:
        raise refuse("more bytes of tensors than the file has")
    return content


def is_finite(value: Tensor) -> bool:
    """Whether all values of a tensor are; those of tensors that cannot be asked (quantised, of bits) are not."""
    try:
        return bool(torch.isfinite(value).all())
    except RuntimeError:
        return False


def _what_is_wrong(path: Path, plain: bool) -> str:
    """What speaks against the table of the archive, or against a file that is none; else nothing."""
    if not zipfile.is_zipfile(path):
        return "" if plain else "no zip archive, as torch writes them"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "members are compressed, as torch writes none"
            if any(member.external_attr & _FOLDER or member.flag_bits & ~_FLAGS for member in members):
                return "members are marked as folders or encrypted"
            if sum(member.file_size for member in members) > path.stat().st_size:
                return "its members are announced larger than the file"
            if (broken := archive.testzip()) is not None:
                return f"the checksum of {broken} is wrong"
    except BROKEN_ZIP as error:
        return str(error) or type(error).__name__
    return ""


def _bytes_of(content: Any) -> int:
    """Bytes of all storages in nested plain data, each once."""
    stores = {store.data_ptr(): store.nbytes() for store in (t.untyped_storage() for t in _tensors(content))}
    return sum(stores.values())


def _tensors(content: Any) -> Iterator[Tensor]:
    open_: list[Any] = [content]
    seen: set[int] = set()  # a pickle may hold itself
    while open_:
        value = open_.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            inside: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
            open_ += inside
