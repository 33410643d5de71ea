"""Pictures and a table of a study, for reports/tuning/."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.core.files import atomic_path
from weakseg.studies.study import BASELINE, best_trial

if TYPE_CHECKING:
    from optuna import Study


def write_tuning_report(study: Study, folder: Path) -> list[Path]:
    """Write history, importance and parallel coordinates (PNG), all trials (CSV) and the best one (JSON).

    A picture that needs more completed trials than there are (importance: two with different objectives) is left out.
    """
    import matplotlib

    matplotlib.use("agg")
    from optuna.trial import TrialState

    folder.mkdir(parents=True, exist_ok=True)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    differing = len({tuple(trial.values) for trial in complete}) > 1
    names = ["history", *(["importance", "parallel"] if differing else [])]
    written = [_draw(study, folder, name) for name in names]
    table = study.trials_dataframe(attrs=("number", "state", "values", "params", "duration"))
    with atomic_path(folder / "trials.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f")
    best = best_trial(study)
    states = Counter(trial.state for trial in study.get_trials(deepcopy=False))  # a copy of each takes seconds
    summary = {
        "study": study.study_name,
        "states": {state.name.lower(): states[state] for state in TrialState},
        "baseline": study.user_attrs.get(BASELINE),
        "best": {"number": best.number, "params": best.params, "metrics": best.user_attrs["metrics"]},
    }
    with atomic_path(folder / "study.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return [*written, folder / "trials.csv", folder / "study.json"]


def _draw(study: Study, folder: Path, name: str) -> Path:
    """One picture; with two objectives each shows the mIoU."""
    import matplotlib.pyplot as plt
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "experimental" and layout notes of optuna's drawing
        from optuna.visualization import matplotlib as draw

        several = len(study.directions) > 1
        options = {"target": _miou, "target_name": "mIoU"} if several else {"target_name": "mIoU"}
        if name == "history":
            axes = draw.plot_optimization_history(study, **options)
        elif name == "importance":
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            axes = draw.plot_param_importances(study, evaluator=evaluator, **options)
        else:
            axes = draw.plot_parallel_coordinate(study, **options)
            axes.set_title("")  # it would lie over the legend
            (first, *_) = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
            names = sorted(first.params)  # optuna's order; it cuts them at 20 letters
            axes.set_xticks(axes.get_xticks(), ["mIoU", *(".".join(name.split(".")[-2:]) for name in names)])
        figure: Any = axes.figure
        figure.set_size_inches(9, 5)
        with atomic_path(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=110, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
    return folder / f"{name}.png"


def _miou(trial: Any) -> float:
    return float(trial.values[0])
