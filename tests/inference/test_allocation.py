"""Memory kept by the C library: one pool, whatever the number of threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

POOLS = """
import ctypes, sys, threading
from weakseg.inference.allocation import keep_buffers

if sys.argv[2] == "kept" and not keep_buffers():
    sys.exit(3)
together = threading.Barrier(3)
def ask():
    ctypes.CDLL(None).malloc(1 << 16)
    together.wait()
threads = [threading.Thread(target=ask) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
libc.malloc_info(0, file)
libc.fclose(file)
"""


def pools(path: Path, how: str) -> int:
    subprocess.run([sys.executable, "-c", POOLS, str(path), how], check=True)
    return path.read_text().count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own call")
def test_threads_share_one_pool(tmp_path: Path) -> None:
    assert pools(tmp_path / "own.xml", "own") > 1
    assert pools(tmp_path / "kept.xml", "kept") == 1
