"""What the machine refuses is one sentence with a cure, whichever library says it."""

from __future__ import annotations

import errno
import resource

import pytest
from pandas.errors import ParserError

from weakseg.core.errors import DataError, WeightsError
from weakseg.core.refusals import refusal_of, sentence_for

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1 is free."
CPU = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4194304 bytes. Error code 12"
NO_ORDER = "nll_loss2d_forward_out does not have a deterministic implementation, but you set 'torch.use_deterministic'"
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
        (RuntimeError(NO_ORDER), "^nll_loss2d_forward_out gives other bits.*without WEAKSEG_DETERMINISTIC"),
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


def test_a_file_that_found_no_memory_is_not_damaged() -> None:
    """`predict` said "expected a weakseg checkpoint; make it anew" of a good one."""
    spoilt = WeightsError("m.pt does not load", expected="a weakseg checkpoint", cure="make it anew")
    assert sentence_for(spoilt) is spoilt
    spoilt.__cause__ = RuntimeError("unexpected end of file")
    assert sentence_for(spoilt) is spoilt
    spoilt.__cause__ = OSError(errno.ENOSPC, "No space left on device")  # that sentence names the file itself
    assert sentence_for(spoilt) is spoilt
    spoilt.__cause__ = RuntimeError(CPU)
    assert "out of memory at a request of 4 MiB" in str(sentence_for(spoilt))
    spoilt.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert "raise it (`ulimit -n 4096`)" in str(sentence_for(spoilt))
    assert sentence_for(KeyError("a")) is None


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("shapes differ"), FileNotFoundError(2, "No such file")])
def test_faults_of_a_program_are_no_refusals(error: Exception) -> None:
    assert refusal_of(error) is None
    assert refusal_of(DataError("a", expected="b", cure="c")) is None


@pytest.mark.parametrize(
    "text",
    [
        "error return without exception set",
        "<built-in function stat> returned NULL without setting an exception",
        "NULL result without error in PyObject_Call",
    ],
)
def test_an_error_without_a_reason_is_want_of_memory_where_that_is_limited(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython's own words where it had no memory to make an exception of; else a fault of a library, with traceback."""
    assert refusal_of(SystemError(text)) is None
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (2**30, 2**30))
    assert "out of memory, this process had" in str(refusal_of(SystemError(text)))
    assert "of 1024 MiB allowed" in str(refusal_of(SystemError(text)))
    assert refusal_of(SystemError("bad argument to internal function")) is None
    assert refusal_of(RuntimeError(text)) is None


def test_a_table_that_found_no_memory_is_want_of_memory_where_that_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ParserError("Error tokenizing data. C error: Calling read(nbytes) on source failed. Try engine='python'.")
    assert refusal_of(error) is None
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (2**30, 2**30))
    assert "out of memory, this process had" in str(refusal_of(error))
