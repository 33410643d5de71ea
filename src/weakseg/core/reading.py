"""Reading texts and JSON that people and other programs write, in one sentence where they are none."""

from __future__ import annotations

import json
import lzma
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError, WeaksegError

MOST_BYTES: Final = 1 << 30  # of a text: what is made of it takes some times more
BROKEN_ZIP: Final = (  # all that zipfile raises where an archive or a member is damaged, encrypted or of an odd kind
    OSError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError,
    IndexError, OverflowError,
)  # fmt: skip
_ENDLESS: Final = re.compile(r"[\[\s,:-]\d{300}")  # a number that no float holds; in a text it stands after a quote


def read_text(path: Path, error: type[WeaksegError] = DataError) -> str:
    """A text in UTF-8, with or without a byte order mark; no file, another encoding, above 1 GiB: ``error``."""
    try:
        return _read(path, error).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is not UTF-8 ({fault})", expected="a text in UTF-8", cure="save it again so") from fault


def read_json(path: Path, error: type[WeaksegError] = DataError) -> Any:
    """The content of a JSON file in UTF-8; no file, no JSON, above 1 GiB: ``error``."""
    return parse_json(_read(path, error), str(path), error)


def parse_json(text: str | bytes, origin: str, error: type[WeaksegError] = DataError) -> Any:
    """The content of JSON; ``origin`` names it in the error."""
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        if _ENDLESS.search(text):
            raise ValueError("a number of more than 300 digits")
        return json.loads(text)
    except (ValueError, RecursionError) as fault:  # UnicodeDecodeError is a ValueError
        reason = "nested too deeply" if isinstance(fault, RecursionError) else str(fault)
        raise error(f"{origin}: not JSON ({reason})", expected="JSON in UTF-8", cure="export it again") from fault


def _read(path: Path, error: type[WeaksegError]) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise error(f"{path}: larger than 1 GiB", expected="a text that fits the memory", cure="cut it into parts")
        return path.read_bytes()
    except OSError as fault:
        raise error(
            f"{path} cannot be read ({fault.strerror or fault})", expected="a file", cure="mend path and permissions"
        ) from fault
