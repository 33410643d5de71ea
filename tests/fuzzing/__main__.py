"""``python -m tests.fuzzing --seed 0`` (`make fuzz`): changed files of every format through their readers.

See ``harness``. Exit 1 where any input ended in another way than accepted or refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzzing.formats import NAMES, find_format
from tests.fuzzing.harness import HEAD, Tally, input_of, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", default=",".join(NAMES))
    parser.add_argument("--inputs", type=int, help="of each format, else as many as docs/reliability.md has")
    parser.add_argument("--guided", action="store_true", help="by atheris, which looks for new branches of weakseg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reasons", action="store_true", help="print what was refused how often")
    parser.add_argument("--show", type=int, help="write input SHOW of one format to stdout, to be read by hand")
    chosen = parser.parse_args()
    names = chosen.formats.split(",")
    with tempfile.TemporaryDirectory(prefix="weakseg-fuzz-") as folder:
        if chosen.show is not None:
            sys.stdout.buffer.write(input_of(find_format(names[0])(Path(folder)), chosen.seed, chosen.show))
            return 0
        tallies, by = [], "guided" if chosen.guided else "worker"
        print(HEAD, flush=True)
        for name in names:
            tallies.append(run(name, chosen.seed, chosen.inputs or find_format(name).inputs, Path(folder), by=by))
            print(tallies[-1].row(), flush=True)
    return _report(tallies, reasons=chosen.reasons)


def _report(tallies: list[Tally], *, reasons: bool) -> int:
    total = Tally("all")
    for tally in tallies:
        total.ends += tally.ends
        total.seconds += tally.seconds
    print(total.row())
    for tally in tallies:
        for key, numbers in sorted(tally.failures.items(), key=lambda item: -len(item[1])):
            print(f"\n{tally.name}: {len(numbers)} x {key}\n  inputs {numbers[:5]}\n{tally.notes[key][:2500]}")
        if reasons:
            print(f"\n{tally.name}: refused")
            for reason, count in tally.reasons.most_common(25):
                print(f"  {count:5}  {reason}")
    return int(total.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
