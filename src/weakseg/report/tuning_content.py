"""What the page says about the tuning of its settings, where `weakseg tune` has run in this workspace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weakseg.core.errors import StageError
from weakseg.report.content import Layer, Tuning

PLOTS = {
    "history": "mIoU of each trial, and the best so far",
    "importance": "importance of each setting (PED-ANOVA)",
    "parallel": "all trials: settings and mIoU",
}


def read_tuning(folder: Path) -> Tuning | None:
    """reports/tuning of the last study; None where there is none.

    Raises:
        StageError: if study.json is not what `weakseg tune` writes.
    """
    file = folder / "study.json"
    if not file.is_file():
        return None
    pictures = {name: folder / f"{name}.png" for name in PLOTS}
    layers = [Layer(name, PLOTS[name], path.read_bytes()) for name, path in pictures.items() if path.is_file()]
    try:
        study: dict[str, Any] = json.loads(file.read_text())
        return Tuning(
            name=str(study["study"]),
            states={name: int(count) for name, count in study["states"].items() if count},
            untuned=float(study["baseline"]["miou"]),
            best=float(study["best"]["metrics"]["miou"]),
            number=int(study["best"]["number"]),
            values={name: float(value) for name, value in study["best"]["params"].items()},
            pictures=tuple(layers),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(
            f"{file} is no summary of a study ({type(error).__name__}: {error})",
            expected="what `weakseg tune` writes",
            cure="run `weakseg tune --resume`, or delete the file",
        ) from error
