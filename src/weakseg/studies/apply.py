"""The best values of a study into params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weakseg.core.config import set_values
from weakseg.core.files import atomic_path
from weakseg.core.params import load_params
from weakseg.studies.space import value_at
from weakseg.studies.study import best_trial

if TYPE_CHECKING:
    from optuna import Study


def apply_best(study: Study, params_path: Path, *, number: int | None = None) -> dict[str, tuple[float, float]]:
    """Write the best trial's values (or those of trial ``number``), to 4 digits, and nothing else, into the file.

    Returns:
        (old, new) by path, of the values that changed.

    Raises:
        StageError: if no trial was completed within the bounds.
        ParamsError: if the file cannot be changed in place; it is then as before.
    """
    before = load_params(params_path)
    best = best_trial(study, number)
    wanted = {path: float(f"{value:.4g}") for path, value in best.params.items()}
    old = {path: value_at(before, path) for path in wanted}
    changed = {path: (old[path], value) for path, value in wanted.items() if float(f"{old[path]:.4g}") != value}
    text = set_values(params_path.read_text(), {path: new for path, (_, new) in changed.items()})
    with atomic_path(params_path) as temporary:
        temporary.write_text(text)
        load_params(temporary)
    return changed
