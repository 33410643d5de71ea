"""One changed file after another through a reader of ours, in a process that may die, with limits on time and memory.

An input ends in one of these ways, and only the first two are right:

accepted   its reader took it, and an independent check agrees that it says what it says
refused    an error of weakseg, one line
wrong      accepted, but the check disagrees
traceback  any other exception
slow       more than :data:`SECONDS` of processor time, or no end
memory     more than :data:`BASE` + :data:`FACTOR` times its size above what the process had
died       the process ended (a library beneath us): only counted, the input is kept nowhere
"""

from __future__ import annotations

import os
import re
import resource
import select
import subprocess
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

from weakseg.core.errors import ImportProblems, WeaksegError

SECONDS: Final = 5.0
BASE: Final = 160 << 20  # bytes: GDAL's cache of blocks is 128 MiB
FACTOR: Final = 2100  # deflate packs 1032 bytes into one, and pixels are held twice while they are turned
WAIT: Final = 90.0  # seconds of a shared machine without a sign of life
START: Final = 600.0  # the same, until torch and GDAL are imported and the whole examples are read
ROOM: Final = 4 << 30  # bytes of address space beyond what the warm process has
RIGHT: Final = ("accepted", "refused")


class WrongError(Exception):
    """Something was accepted that an independent check reads in another way."""


class Format:
    """A kind of input: whole examples, how they are changed, and who reads them.

    Attributes:
        name: of the format. inputs: of the whole run. sample: of the default suite.
        suffix: of the file that :meth:`read` gets.
        is_file: what :meth:`read` gets may be any bytes; else only what :meth:`draw` makes.
    """

    name: ClassVar[str]
    inputs: ClassVar[int] = 2000
    sample: ClassVar[int] = 40
    suffix: ClassVar[str] = ""
    is_file: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        """Make the examples, and what else the reader needs, in an empty folder."""
        self.folder = folder
        self.seeds: list[Any] = []

    def draw(self, rng: Random) -> bytes:
        """A changed example."""
        raise NotImplementedError

    def whole(self) -> list[bytes]:
        """The examples as they are: all must be accepted."""
        return [seed if isinstance(seed, bytes) else str(seed).encode() for seed in self.seeds]

    def read(self, path: Path, content: bytes) -> None:
        """Read a file, and check what was read; a WeaksegError refuses it.

        Raises:
            WrongError: it was accepted, and should not have been.
        """
        raise NotImplementedError


def same(found: Any, expected: Any, what: str) -> None:
    """Raise WrongError unless both are equal; NaN equals NaN."""
    if found != expected and repr(found) != repr(expected):
        raise WrongError(f"{what}: read {str(found)[:200]}, the file says {str(expected)[:200]}")


def sure(holds: bool, what: str) -> None:
    """Raise WrongError unless it holds."""
    if not holds:
        raise WrongError(what)


@dataclass
class Tally:
    """How the inputs of a format ended; ``failures``: kind of failure -> numbers of its inputs, with the first note."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[int]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, end: str, note: str) -> None:
        self.ends[end] += 1
        if end == "refused":
            self.reasons[_shape(note)] += 1
        elif end not in RIGHT:
            key = f"{end}: {_shape(note.splitlines()[0]) if note else ''}"
            self.failures.setdefault(key, []).append(number)
            self.notes.setdefault(key, note)

    @property
    def failed(self) -> int:
        return sum(count for end, count in self.ends.items() if end not in RIGHT)

    def row(self) -> str:
        """A row of the table of docs/reliability.md."""
        others = ("wrong", "traceback", "slow", "memory", "died")
        numbers = [self.ends.total(), self.ends["accepted"], self.ends["refused"], *(self.ends[o] for o in others)]
        return f"| {self.name} | " + " | ".join(f"{number:,}" for number in numbers) + f" | {self.seconds:.0f} |"


HEAD: Final = (
    "| format | inputs | accepted | refused | wrong | tracebacks | slow | memory | died | s |\n" + "| --- " * 10 + "|"
)


def one(form: Format, content: bytes, path: Path) -> tuple[str, str]:
    """(how an input ends, a note) in this process."""
    path.write_bytes(content)
    before, began = _reset_peak(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            form.read(path, content)
        end, note = "accepted", ""
    except WeaksegError as error:
        end, note = "refused", str(error)
        lines = error.problems if isinstance(error, ImportProblems) else [note]
        if not note.strip() or any("\n" in line or "\r" in line for line in lines):
            end, note = "traceback", f"an error that is no line: {note!r}"
    except WrongError as error:
        end, note = "wrong", str(error)
    except Exception as error:
        end, note = "traceback", f"{type(error).__name__} in {_ours(error)}: {error}\n{traceback.format_exc()}"
    taken = _peak() - before
    if (spent := time.process_time() - began) > SECONDS:
        end, note = "slow", f"{spent:.1f} s, {end}"
    elif taken > BASE + FACTOR * len(content):
        end, note = "memory", f"{taken >> 20} MiB, {end} {note[:200]}"
    return end, note


def _ours(error: Exception) -> str:
    """The innermost line of weakseg in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/weakseg/" in f.filename]
    return f"{Path(frames[-1].filename).name}, {frames[-1].name}" if frames else "the check"


def input_of(form: Format, seed: int, number: int) -> bytes:
    """Input ``number`` of a format; depends on nothing else."""
    return form.draw(Random(f"{form.name} {seed} {number}"))


def work(form: Format, seed: int, first: int, last: int) -> None:
    """In a process of its own: read inputs and tell each on stdout; ``first`` to ``last``, not included."""
    path = form.folder / f"input{form.suffix}"
    for content in form.whole():
        end, note = one(form, content, path)
        if end != "accepted":
            raise AssertionError(f"{form.name}: a whole example is {end}: {note}")
    print("\x01ready", flush=True)
    limit = _status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(first, last):
        end, note = one(form, input_of(form, seed, number), path)
        print(f"\x01{number}\x02{end}\x02{zlib.compress(note.encode(errors='replace')).hex()}", flush=True)


def run(name: str, seed: int, inputs: int, folder: Path, *, by: str = "worker") -> Tally:
    """Inputs 0 to ``inputs`` of a format; a process that dies or hangs is replaced by another that goes on after it.

    ``by``: the module that reads them, ``worker`` or ``guided``.
    """
    tally, number, began = Tally(name), 0, time.monotonic()
    while number < inputs:
        reached, left, said = _until_end(by, [name, str(seed), str(number), str(inputs), str(folder)], tally, number)
        if reached == number and left == "died" and not tally.ends.total():
            raise RuntimeError(f"{name}: {said[-3000:]}")
        if reached < inputs:
            tally.add(reached, left, "the process ended" if left == "died" else f"no end within {WAIT:.0f} s")
            reached += 1
        number = reached
    tally.seconds = time.monotonic() - began
    return tally


def _until_end(by: str, words: list[str], tally: Tally, number: int) -> tuple[int, str, str]:
    """(the first number without an answer, why, what the process said beside its answers)."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"tests.fuzzing.{by}", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as process:
        assert process.stdout is not None
        rest, said, end, wait = b"", b"", "died", START
        while True:
            if not select.select([process.stdout], [], [], wait)[0]:
                process.kill()
                end = "slow"
                break
            if not (chunk := os.read(process.stdout.fileno(), 1 << 16)):
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                head, found, answer = line.partition(b"\x01")
                said = (said + head)[-10_000:]
                wait = WAIT if found else wait
                if answer == b"ready":
                    continue
                if found:
                    at, how, note = answer.split(b"\x02")
                    tally.add(int(at), how.decode(), zlib.decompress(bytes.fromhex(note.decode())).decode())
                    number = int(at) + 1
                else:
                    said += b"\n"
        if end == "died" and process.wait() == 1:  # Python's own end: a fault of these tests
            raise RuntimeError(f"{words[0]}, input {number}: {said.decode(errors='replace')[-3000:]}")
        return number, end, said.decode(errors="replace")


def _reset_peak() -> int:
    """Forget the largest memory that this process had; returns what it has, bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not allowed here: the peak of before counts on
        return max(_status("VmHWM"), _status("VmRSS"))
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def _shape(note: str) -> str:
    """A note without the names and numbers of its case, to be counted."""
    note = note.partition("; expected ")[0]
    note = re.sub(r"\S*/(?:input|data)\S*", "FILE", note)
    note = re.sub(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "N", note)
    note = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "'X'", note)
    return " ".join(note.split())[:110]
