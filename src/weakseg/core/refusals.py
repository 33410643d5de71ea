"""What the operating system or a library refuses for want of room, rights, memory or files, as one sentence."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator

from weakseg.core.errors import WeaksegError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_ROOM = re.compile(
    r"no space left on device|disk quota exceeded|disk is full|file too large|file write failed"
    r"|\d+ requested and \d+ written",  # NumPy has no number for it
    re.I,
)
_RIGHTS = re.compile(r"permission denied|read-only file system|readonly database", re.I)
_FILES = re.compile(r"too many open files", re.I)
_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|insufficient memory|bad_alloc|start new thread"
    r"|could not create a (primitive|memory object)",  # all that oneDNN says of it
    re.I,
)
_NO_REASON = re.compile(r"error return without exception set|without setting an exception|NULL result without error")
_NO_READ = re.compile(r"Calling read\(nbytes\) on source failed")  # pandas, without a word of what failed
_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")
_LOADER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)", re.I | re.S)
_BYTES = re.compile(r"allocate (\d+) bytes|[Tt]ried to allocate ([\d.]+ [KMGT]iB)|Unable to allocate ([\d.]+ [KMGT]iB)")


def sentence_for(error: BaseException) -> WeaksegError | None:
    """What to say instead of a traceback; None where only a traceback helps.

    An error of ours is itself, but for want of memory or open files behind it: a file that could not be loaded for it
    is not damaged.
    """
    if not isinstance(error, WeaksegError):
        return refusal_of(error)
    cause = error.__cause__
    told = refusal_of(cause) if cause is not None and not isinstance(cause, WeaksegError) else None
    return told if told is not None and str(told).startswith(("out of ", "too many open files")) else error


def refusal_of(error: BaseException) -> WeaksegError | None:
    """The sentence for an error of the machine, whichever library passed it on; None for anything else.

    What was there before is whole, because files are replaced when they are finished: each cure ends in doing it again.
    """
    for one in _chain(error):
        if (told := _one(one)) is not None:
            return told
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one(error: BaseException) -> WeaksegError | None:
    number = error.errno if isinstance(error, OSError) else None
    text = " ".join(str(error).split())
    if number in _NO_ROOM or _ROOM.search(text):
        return _told(error, "no room", "room for what is written", "make room and do it again: what was whole stays")
    if number in _NO_RIGHTS or _RIGHTS.search(text):
        return _told(error, "no right", "a place that may be written", "mend the permissions and do it again")
    if number in _NO_FILES or _FILES.search(text):
        found = f"too many open files, at most {_open_files()} are allowed"
        return WeaksegError(found, expected="a higher limit", cure="raise it (`ulimit -n 4096`) and do it again")
    if _LOADER.search(text):
        return WeaksegError(
            "a loader process was killed, usually for want of memory",
            expected="all loader processes at work",
            cure="set WEAKSEG_WORKERS lower, or give it more memory, and do it again: it goes on from its last report",
        )
    if kernel := _DETERMINISTIC.search(text):
        return WeaksegError(
            f"{kernel[1]} gives other bits each time on this device, and WEAKSEG_DETERMINISTIC is 1",
            expected="what torch can do in one order",
            cure="train another network or on the CPU, or do without WEAKSEG_DETERMINISTIC",
        )
    said = _MEMORY.search(text) is not None or _failed_in_python(error, text)
    if said or number == errno.ENOMEM or isinstance(error, MemoryError):
        return _no_memory(text)
    return None


def _failed_in_python(error: BaseException, text: str) -> bool:
    """What CPython and pandas say who had no memory left to say why; a library's fault where memory has no limit."""
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    unsaid = isinstance(error, SystemError) and _NO_REASON.search(text) is not None
    return limited and (unsaid or _NO_READ.search(text) is not None)


def _told(error: BaseException, what: str, expected: str, cure: str) -> WeaksegError:
    place = getattr(error, "filename", None)
    reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:200]
    return WeaksegError(f"{what} to write{f' {place}' if place else ''} ({reason})", expected=expected, cure=cure)


def _no_memory(text: str) -> WeaksegError:
    wanted = next((next(filter(None, found)) for found in _BYTES.findall(text)), "")
    wanted = f"{int(wanted) / 2**20:.0f} MiB" if wanted.isdigit() else wanted
    graphics = "CUDA" in text or "HIP" in text
    found = f"out of {'GPU ' if graphics else ''}memory" + (f" at a request of {wanted}" if wanted else "")
    return WeaksegError(
        f"{found}{'' if graphics else f', {_memory()}'}",
        expected="memory for a batch",
        cure="halve the batch or the crop in params.yaml (--batch and --window of predict)"
        + (", or set WEAKSEG_PRECISION=bf16," if graphics else ", or lower WEAKSEG_WORKERS,")
        + " and do it again",
    )


def _memory() -> str:
    """What this process had at most, and its limit."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    allowed = f" of {limit / 2**20:.0f} MiB allowed" if limit != resource.RLIM_INFINITY else ""
    return f"this process had {peak:.0f} MiB{allowed}"


def _open_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
