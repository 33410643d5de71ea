"""``python -m tests.generators --cases 2000 --seed 0``: draw, take in, compare, count; exit 1 where one differs."""

from __future__ import annotations

import argparse
import sys

from tests.generators.drawn_boxes import box_cases, check_boxes
from tests.generators.drawn_imports import check_import, import_cases
from tests.generators.drawn_predictions import check_prediction, predict_cases
from tests.generators.outcomes import count_cases


def main() -> int:
    """Count the cases of every kind and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="imports")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    kinds = {
        "imports": (import_cases(), check_import),
        "boxes": (box_cases(), check_boxes),
        "predictions": (predict_cases(), check_prediction),
    }
    wrong = 0
    for kind in chosen.kinds.split(","):
        strategy, check = kinds[kind]
        tally = count_cases(strategy, check, cases=chosen.cases, number=chosen.seed)
        print(tally.text(kind, chosen.seed))
        print(tally.failed(), flush=True)
        wrong += len(tally.failures)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
