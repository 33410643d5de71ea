"""``python -m tests.fuzzing.guided FORMAT SEED FIRST LAST FOLDER``: a format under atheris, in search of new branches.

atheris (libFuzzer) watches which branches of weakseg an input reaches, keeps what reaches new ones, and changes that
again: bytes by its own mutators, half of the time what the format's own draw makes. Inputs are numbered as they come
and told as ``worker`` tells them. What it keeps lies in the scratch folder alone, and goes with it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzzing.formats import find_format
from tests.fuzzing.harness import Format, one

NEVER = 86_400  # seconds; 0 would be at once


def fuzz(form: Format, seed: int, first: int, last: int) -> None:
    """Read inputs until number ``last`` and tell each on stdout; begins again with the examples where it died."""
    import atheris

    path, corpus = form.folder / f"input{form.suffix}", form.folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(form.whole()):
        (corpus / str(number)).write_bytes(content)
        if (found := one(form, content, path))[0] != "accepted":
            raise AssertionError(f"{form.name}: a whole example is {found}")
    print("\x01ready", flush=True)
    numbers = iter(range(first, last))

    def read(content: bytes) -> None:
        if not content and not form.is_file:
            return  # libFuzzer begins with it, and it is nothing that the format's own draw makes
        number = next(numbers, None)
        if number is None:
            sys.stdout.flush()
            os._exit(0)
        end, note = one(form, content, path)
        print(f"\x01{number}\x02{end}\x02{zlib.compress(note.encode(errors='replace')).hex()}", flush=True)

    def change(content: bytes, longest: int, number: int) -> bytes:
        rng = Random(f"{form.name} {seed} {first} {number}")
        if not form.is_file or rng.random() < 0.5:
            drawn = form.draw(rng)
            return drawn if len(drawn) <= longest else content
        changed: bytes = atheris.Mutate(content, longest)
        return changed

    atheris.Setup(_words(form, seed, first, corpus), read, custom_mutator=change)
    atheris.Fuzz()


def _words(form: Format, seed: int, first: int, corpus: Path) -> list[str]:
    """The command line of libFuzzer: its limits are off, as the harness has its own."""
    largest = max(len(content) for content in form.whole())
    number = zlib.crc32(f"{form.name} {seed} {first}".encode()) or 1
    options = {
        **{"seed": number, "max_len": 4 * largest + 4096, "len_control": 0, "verbosity": 0, "timeout": NEVER},
        **{"rss_limit_mb": 0, "malloc_limit_mb": 0, "artifact_prefix": f"{form.folder}/", "reload": 0},
        **{f"handle_{signal}": 0 for signal in ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz")},
    }
    return ["guided", *(f"-{name}={value}" for name, value in options.items()), str(corpus)]


def main(name: str, seed: str, first: str, last: str, folder: str) -> None:
    with _instrumented(), tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as scratch:
        fuzz(find_format(name)(Path(scratch)), int(seed), int(first), int(last))


def _instrumented() -> Any:
    """weakseg's modules are imported with a counter at every branch while this is open."""
    import atheris

    return atheris.instrument_imports(include=["weakseg"])


if __name__ == "__main__":
    main(*sys.argv[1:])
