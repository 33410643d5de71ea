"""``python -m tests.fuzzing.worker FORMAT SEED FIRST LAST FOLDER``: the process that reads; see ``harness``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzzing.formats import find_format
from tests.fuzzing.harness import work


def main(name: str, seed: str, first: str, last: str, folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as scratch:
        work(find_format(name)(Path(scratch)), int(seed), int(first), int(last))


if __name__ == "__main__":
    main(*sys.argv[1:])
