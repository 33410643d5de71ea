"""How often `weakseg choose` takes what the validation areas would have taken: a table over finished runs.

    python scripts/choose_agreement.py results/* --always fused consistency

A run is a folder with choose.json (the hold-out inside N1, written by `weakseg choose`) and report.json (the validation
areas, written by the stage report), such as reports/ of a workspace or results/NAME. Folders without the first are
left out and named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from weakseg.core.errors import DataError


@dataclass(frozen=True)
class Agreement:
    """One run.

    Attributes:
        name: of its folder. sources: how many stand in both files.
        chosen, best: by the hold-out, and by validation. level: sources that the hold-out cannot tell from the chosen.
        regret: mIoU on validation that the choice costs against the best; always: the same of taking one source anyhow,
            by name, where it was trained.
        tau: Kendall's rank correlation of both orders, -1 to 1.
    """

    name: str
    sources: int
    chosen: str
    best: str
    level: tuple[str, ...]
    regret: float
    always: Mapping[str, float]
    tau: float

    @property
    def told(self) -> bool:
        """Whether the best is the chosen one or among those that the hold-out cannot tell from it."""
        return self.best in (self.chosen, *self.level)


def compare(name: str, choice: Mapping[str, Any], report: Mapping[str, Any], always: Sequence[str]) -> Agreement:
    """The agreement of the contents of choose.json and report.json."""
    held = {source: row["holdout_miou"]["value"] for source, row in choice["sources"].items() if source in report}
    valid = {source: report[source]["miou"] for source in held}
    if len(held) < 2 or choice["chosen"] not in held:
        raise DataError(
            f"{name}: {len(held)} sources in both files",
            expected="two, the chosen one too",
            cure="take files of one run",
        )
    best = max(valid, key=valid.__getitem__)
    return Agreement(
        name=name,
        sources=len(held),
        chosen=choice["chosen"],
        best=best,
        level=tuple(choice["level_with"]),
        regret=valid[best] - valid[choice["chosen"]],
        always={source: valid[best] - valid[source] for source in always if source in valid},
        tau=float(kendalltau([held[s] for s in held], [valid[s] for s in held]).statistic),
    )


def table(rows: Sequence[Agreement], always: Sequence[str]) -> str:
    """The rows in Markdown, with what taking one source anyhow would have cost."""
    head = ["run", "sources", "chosen", "best on validation", "costs", "best is level with it", "rank correlation"]
    lines = [[*head, *(f"always {source} costs" for source in always)]]
    for row in rows:
        cells = [row.name, str(row.sources), f"`{row.chosen}`", f"`{row.best}`", f"{row.regret:.3f}"]
        cells += ["yes" if row.told else "no", f"{row.tau:+.2f}"]
        lines.append([*cells, *(f"{row.always[s]:.3f}" if s in row.always else "-" for s in always)])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--always", nargs="*", default=[])
    asked = parser.parse_args()
    rows = []
    for folder in asked.folders:
        files = [folder / name for name in ("choose.json", "report.json")]
        if not all(file.is_file() for file in files):
            print(f"{folder}: no choose.json and report.json, left out")
            continue
        choice, report = (json.loads(file.read_text()) for file in files)
        rows.append(compare(folder.name, choice, report, asked.always))
    print(table(rows, asked.always))


if __name__ == "__main__":
    main()
