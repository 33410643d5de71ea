"""MLflow runs that never hold a training up: a stage writes a journal, a sender process carries it to MLflow.

``track`` appends what a stage reports to ``<root>/.weakseg/spool/<run>/journal.jsonl`` (artefacts are copied beside it)
and starts ``python -m weakseg.tracking <root>``, one process per root, which follows all journals and sends them. So a
server that is slow, hangs or dies costs the training nothing, a killed stage is recorded as KILLED, and whatever was
not sent waits for the next sender or for :func:`send_spool`. Sending twice is harmless: a run is found again by its tag
``weakseg.run``, timestamps are fixed when they are written, and ``state.json`` keeps the byte up to which all is sent.

Who is the parent of a run, first match:

1. the run named by the caller, or the tracked run around it (``WEAKSEG_PARENT_RUN``, set while a run is open);
2. ``WEAKSEG_PIPELINE_RUN``: any name for one execution, e.g. set around ``dvc repro``;
3. ``MLFLOW_RUN_ID``, which ``mlflow run`` hands down: that run becomes the parent, no stage writes into it;
4. the pipeline key: one `dvc repro` or `dvc exp run` (its process, and DVC_EXP_NAME) is one parent; stages that are run
   by hand meet in the parent of their git commit, dirty flag and params.yaml.

The data that a stage reads becomes the run's inputs (``mlflow.data``), with DVC's hashes as digests.

Environment: ``MLFLOW_TRACKING_URI`` (default ``sqlite:///<root>/mlflow.db``, artefacts in ``<root>/mlruns``; for
``dvc exp run --temp`` and ``--queue``, which run in a folder that DVC deletes, all this is in the outer workspace),
``MLFLOW_EXPERIMENT_NAME`` (default ``weakseg``), ``WEAKSEG_TRACKING`` = ``on``, ``spool`` (only write journals) or
``off``, ``WEAKSEG_TRACKING_WAIT`` (seconds a finished stage waits for its sender, default 20).
"""

from __future__ import annotations

from weakseg.tracking.asking import RunComparison, compare, create_run, find_evaluation_of_data, find_run, read_artifact
from weakseg.tracking.client import connect, mlflow_errors
from weakseg.tracking.facts import data_hash, pipeline_key, provenance, tracking_uri
from weakseg.tracking.locks import file_lock
from weakseg.tracking.open_run import Run
from weakseg.tracking.sender import SendReport, send_spool, serve
from weakseg.tracking.stage import track
from weakseg.tracking.system_metrics import system_metrics

__all__ = [
    "Run",
    "RunComparison",
    "SendReport",
    "compare",
    "connect",
    "create_run",
    "data_hash",
    "file_lock",
    "find_evaluation_of_data",
    "find_run",
    "mlflow_errors",
    "pipeline_key",
    "provenance",
    "read_artifact",
    "send_spool",
    "serve",
    "system_metrics",
    "track",
    "tracking_uri",
]
