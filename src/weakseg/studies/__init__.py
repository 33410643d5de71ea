"""Hyper-parameter search with Optuna, on the hold-out inside N1; optuna itself is imported when a study is opened.

The objective comes in as a callable, so that this layer needs no stage; ``weakseg.studies.objective`` has the
real one. Only the storage is shared between workers: a journal file on one machine, a database on many.
"""

from weakseg.core.params import Range, TuneParams
from weakseg.studies.apply import apply_best
from weakseg.studies.plots import write_tuning_report
from weakseg.studies.study import best_trial, journal_of, load_study, open_storage
from weakseg.studies.work import Metrics, Objective, Report, tune

__all__ = [
    "Metrics",
    "Objective",
    "Range",
    "Report",
    "TuneParams",
    "apply_best",
    "best_trial",
    "journal_of",
    "load_study",
    "open_storage",
    "tune",
    "write_tuning_report",
]
