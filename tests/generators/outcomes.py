"""What came of a drawn case, and many of them counted: equal, refused, silently different, crashed."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from weakseg.core.errors import WeaksegError

Kind = Literal["equal", "refused", "silent", "crash"]
_TAKEN: Kind = "equal"


@dataclass(frozen=True)
class Outcome:
    """How one case ended.

    Attributes:
        kind: equal: what came out is what was drawn; refused: an error of one sentence; silent: something else came out
            without a word; crash: an error that is no sentence.
        note: what was refused, or what differs.
    """

    kind: Kind
    note: str = ""


@dataclass
class Tally:
    """Counts over many cases.

    Attributes:
        traits: (trait, outcome) -> cases; a case has several traits ("label: palette", "place: world").
        reasons: what was refused, without names and numbers -> cases.
        failures: kind of failure without names and numbers -> its cases, each as the note and the case.
    """

    cases: int = 0
    plain: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    traits: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, case: Any, outcome: Outcome) -> None:
        """Count one case; it has ``traits`` (a tuple of texts) and ``plain`` (whether it must be taken)."""
        self.cases += 1
        self.plain += case.plain
        self.kinds[outcome.kind] += 1
        for trait in case.traits:
            self.traits[trait, outcome.kind] += 1
        if outcome.kind == "refused":
            self.reasons[_shape(outcome.note)] += 1
        failure = "" if outcome.kind in ("equal", "refused") else outcome.kind
        if outcome.kind == "refused" and case.plain:
            failure = "plainly valid, yet refused"
        if failure:
            odd = ", ".join(sorted(case.odd)) or "nothing"
            key = f"{failure} (odd: {odd}): {_shape(outcome.note)}"
            self.failures.setdefault(key, []).append(f"{outcome.note}\n      {case}")

    @property
    def plain_refused(self) -> int:
        """Cases that are plainly valid and were refused."""
        return sum(len(cases) for key, cases in self.failures.items() if key.startswith("plainly"))

    def failed(self) -> str:
        """For people: every kind of failure, how often, and its shortest case; empty where nothing failed."""
        few = sorted(self.failures.items(), key=lambda item: (item[0].count(","), -len(item[1])))
        return "\n".join(f"  {len(cases):4}  {key}\n      {min(cases, key=len)}" for key, cases in few)

    def text(self, title: str, number: int) -> str:
        """For people: the counts, the share taken per trait, and what was refused how often."""
        share = self.kinds["equal"] / max(self.cases, 1)
        lines = [
            f"{title}: {self.cases} cases, seed {number}, {self.seconds:.0f} s",
            f"  equal {self.kinds['equal']} ({share:.0%}), refused {self.kinds['refused']}, "
            f"silent differences {self.kinds['silent']}, crashes {self.kinds['crash']}; "
            f"plainly valid {self.plain}, of them refused {self.plain_refused}",
            "  taken per trait:",
        ]
        for trait in sorted({trait for trait, _ in self.traits}):
            total = sum(count for (name, _), count in self.traits.items() if name == trait)
            lines.append(f"    {trait:44} {self.traits[trait, 'equal']:5} of {total}")
        lines.append("  refused:")
        lines += [f"    {count:5}  {reason}" for reason, count in self.reasons.most_common()]
        return "\n".join(lines)


def count_cases(
    strategy: SearchStrategy[Any],
    check: Callable[[Any], Outcome],
    *,
    cases: int,
    number: int,
    derandomise: bool = False,
) -> Tally:
    """Draw ``cases`` cases from ``seed`` and count how they end; nothing is raised.

    With ``derandomise`` the cases depend on this code alone, whatever ``number`` is.
    """
    tally = Tally()
    began = time.monotonic()

    def run(case: Any) -> None:
        tally.add(case, check(case))

    quiet = settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=derandomise,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    test = quiet(given(strategy)(run))
    (test if derandomise else seed(number)(test))()
    tally.seconds = time.monotonic() - began
    return tally


def refusal(error: WeaksegError) -> Outcome:
    """An error as the outcome of a case: a sentence per line, or else a crash."""
    lines = str(error).split("\n")
    if all(line.strip() and "Traceback" not in line for line in lines):
        return Outcome("refused", lines[0])
    return Outcome("crash", f"an error that is no sentence: {error!r}")


def crash(error: Exception) -> Outcome:
    """Any other exception as the outcome of a case."""
    return Outcome("crash", f"{type(error).__name__}: {error}")


def _shape(note: str) -> str:
    """A refusal without the names and numbers of its case, to be counted."""
    found, _, rest = note.partition("; expected ")
    found = re.sub(r"/\S*drawn-[^/\s:]*(?=/in:)", "FOLDER", found)
    found = re.sub(
        r"\S*/\S.*?\.(?:tif|tiff|png|jpg|jpeg|json|geojson|gpkg|shp|fgb|yaml|zip)\b(?:/[^:,;]*\.\w+)?",
        "FILE",
        found,
        flags=re.I,
    )
    found = re.sub(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "N", found)
    found = re.sub(r"'[^']*'", "'X'", found)
    return re.sub(r"(?:\(?N, )+N\)?", "N ..", found)[:110] + ("" if rest else " ...")
