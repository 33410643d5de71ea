"""Passwords of addresses, taken out before a text is shown or kept: errors, tags, journals, logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# up to the last @ before the path; databases also take passwords with slashes that nobody quoted. Digits and a slash
# after the colon are a port and a path, which may hold an @ of its own
_USER: Final = re.compile(r"(?<=://)(?:[^/?#\s]{0,1000}|[^:/\s]{0,200}:(?!\d{1,5}[/?#])[^@\s'\"]{0,1000})@")
_QUERY: Final = re.compile(r"(?<=[?&])((?:ssl)?password|passwd|pwd|(?:access_|auth_)?token|secret)=[^&#\s'\"]*", re.I)


def without_passwords(text: str) -> str:
    """A text whose addresses name no user and no password.

    >>> without_passwords("at postgresql://ann:x@host/db?sslmode=off&password=y")
    'at postgresql://host/db?sslmode=off&password=***'
    """
    return _QUERY.sub(r"\1=***", _USER.sub("", text)) if "://" in text else text


def all_without_passwords(value: Any) -> Any:
    """The same for every text in nested plain data; other values as they are."""
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, Mapping):
        return {key: all_without_passwords(one) for key, one in value.items()}
    return [all_without_passwords(one) for one in value] if isinstance(value, list | tuple) else value
