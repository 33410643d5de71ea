"""The stack on which a thread handles signals (sigaltstack(2)), for libraries that put another one in its place."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2): address, flags (2: there is none, the thread's own is used), size in bytes."""

    _fields_: ClassVar = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> tuple[int | None, int, int]:
    """Address, flags and size of this thread's."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.sp, found.flags, found.size


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """This thread's stays what it was, whatever is loaded in the block; only Linux has what needs it.

    OpenVINO's CPU plugin (2026.4.1) puts one of 20 KiB in its place on processors with AMX. The registers of AMX, saved
    twice, overflow it: the first signal then killed a process (Python 3.11; SIGCHLD of a loader).
    """
    if sys.platform != "linux":
        yield
        return
    before = SignalStack(*signal_stack())
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
