"""``python -m tests.generators --seed 0``: draw, take in, compare, count; exit 1 where anything differs in silence.

Without ``--cases`` as many as docs/reliability.md reports: 2,000 imports, 500 box files, 500 imports of other bands,
300 predictions.
"""

from __future__ import annotations

import argparse
import sys

from tests.generators.kinds import KINDS
from tests.generators.outcomes import count_cases


def main() -> int:
    """Count the cases of the chosen kinds and print how they end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--cases", type=int)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    wrong = 0
    for name in chosen.kinds.split(","):
        kind = KINDS[name]
        tally = count_cases(kind.strategy, kind.check, cases=chosen.cases or kind.cases, number=chosen.seed)
        print(tally.text(name, chosen.seed))
        print(tally.failed(), flush=True)
        wrong += len(tally.failures)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
