"""Memory that the C library keeps instead of giving it back at once: half of the CPU time of large windows."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1  # glibc's malloc.h
_MMAP_THRESHOLD: Final = -3
_NEVER: Final = 2**31 - 1


def keep_buffers() -> bool:
    """Tell glibc to keep freed memory for the next request, in this process and from now on.

    A network frees and asks for the same hundreds of megabytes at every batch; by default each goes back to the
    system, which clears its pages again. Returns False where the C library is another one, and then changes nothing.
    """
    try:
        change = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(change(_MMAP_THRESHOLD, _NEVER) and change(_TRIM_THRESHOLD, _NEVER))
