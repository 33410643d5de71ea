"""Precision `auto` on a CPU: bf16 where the model's own hold-out allowed it, else float32, and why.

What a model file or an export says of it is one entry per engine and precision, measured by ``export.held_precision``
on the processor that made it; files without any are run in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from weakseg.core.bands import is_number
from weakseg.core.errors import WeightsError

KEY: Final = "precisions"  # of a model file's entries and of an export's settings
ALLOWED: Final = 0.001  # of mIoU, that a precision may lose on the hold-out
NATIVE: Final = frozenset(("avx512_bf16", "amx_bf16"))  # as Linux calls what multiplies bf16
_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Held:
    """What a precision costs on the hold-out blocks of N1.

    Attributes:
        engine, version: that ran it.
        before, after: mIoU in float32 and in ``precision``, each in [0, 1].
    """

    engine: str
    precision: str
    version: str
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"{self.precision}: mIoU of the hold-out {self.after:.4f}, in float32 {self.before:.4f} "
            f"({self.engine} {self.version})"
        )

    @property
    def allowed(self) -> bool:
        """Whether it loses at most :data:`ALLOWED`."""
        return self.after >= self.before - ALLOWED

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """For a model file or the settings of an export."""
        return {KEY: [asdict(self)]}


def read_held(content: Mapping[str, Any], origin: str, *, engine: str, precision: str) -> Held | None:
    """What a model says of a precision under an engine; None where it says nothing.

    Raises:
        WeightsError: entries that are none.
    """
    for entry in content.get(KEY) or ():
        if not isinstance(entry, Mapping) or set(entry) != set(Held.__dataclass_fields__):
            raise _broken(origin, entry)
        scores = (entry["before"], entry["after"])
        if not all(is_number(score) and 0 <= score <= 1 for score in scores):
            raise _broken(origin, entry)
        if (entry["engine"], entry["precision"]) == (engine, precision):
            return Held(engine, precision, str(entry["version"]), *map(float, scores))
    return None


def _broken(origin: str, entry: object) -> WeightsError:
    return WeightsError(
        f"{origin}: precision {str(entry)[:80]}",
        expected=f"{', '.join(Held.__dataclass_fields__)}, scores from 0 to 1",
        cure="export it again",
    )


def choose_precision(held: Held | None, *, native: bool, installed: bool) -> tuple[str, str]:
    """What ``auto`` means on a CPU, and why; "" where there is nothing to choose from.

    Args:
        held: what bf16 under OpenVINO costs this model.
        native: this processor multiplies bf16; else it is slower than float32.
        installed: OpenVINO is.
    """
    if not native:
        return "float32", ""
    if not installed:
        return "float32", "float32: bf16 wants weakseg[openvino]"
    if held is None:
        return "float32", "float32: this model file does not say what bf16 costs (`weakseg export --to model` adds it)"
    return ("bf16" if held.allowed else "float32"), f"{held}" + ("" if held.allowed else f", {ALLOWED} is allowed")


def has_native_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether this processor multiplies bf16; False where it does not say (other systems than Linux)."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not NATIVE.isdisjoint(flags.split())
