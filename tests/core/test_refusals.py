"""What the machine refuses is one sentence with a cure, whichever library says it."""

from __future__ import annotations

import errno

import pytest

from weakseg.core.errors import DataError
from weakseg.core.refusals import refusal_of

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1 is free."
CPU = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4194304 bytes. Error code 12"
LOADER = "DataLoader worker (pid 77) is killed by signal: Killed. "


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/a.npy"), "no room to write out/a.npy"),
        (OSError("480000 requested and 155520 written"), "no room to write"),
        (RuntimeError("database or disk is full"), "no room to write"),
        (OSError(errno.EROFS, "Read-only file system", "out"), "no right to write out"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "no right to write out"),
        (RuntimeError("attempt to write a readonly database"), "no right to write"),
        (OSError(errno.EMFILE, "Too many open files", "a"), r"too many open files.*ulimit -n"),
        (MemoryError("Unable to allocate 3.00 GiB for an array"), "out of memory at a request of 3.00 GiB"),
        (RuntimeError(CPU), "out of memory at a request of 4 MiB.*batch or the crop"),
        (RuntimeError("could not create a primitive"), "out of memory, this process had.*batch or the crop"),
        (RuntimeError(CUDA), "out of GPU memory at a request of 2.00 GiB.*WEAKSEG_PRECISION=bf16"),
        (RuntimeError(LOADER), "a loader process was killed.*WEAKSEG_WORKERS.*last report"),
    ],
)
def test_the_sentence(error: Exception, words: str) -> None:
    told = refusal_of(error)
    assert told is not None
    assert "\n" not in str(told)
    with pytest.raises(type(told), match=words):
        raise told


def test_the_cause_is_looked_for_behind_what_a_library_made_of_it() -> None:
    wrapped = RuntimeError("PytorchStreamWriter failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "no room" in str(refusal_of(wrapped))


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("shapes differ"), FileNotFoundError(2, "No such file")])
def test_faults_of_a_program_are_no_refusals(error: Exception) -> None:
    assert refusal_of(error) is None
    assert refusal_of(DataError("a", expected="b", cure="c")) is None
