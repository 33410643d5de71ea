"""Load, memory and GPUs, sampled while a run lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading

from weakseg.tracking.open_run import Run


def start_sampler(run: Run) -> tuple[threading.Event, threading.Thread]:
    """Sample the machine while the run lasts, and at least once: most stages end before the first interval does.

    The names are those of MLflow's own system metrics.
    """
    stop = threading.Event()
    interval = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or 10)
    wanted = (os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING") or "true").lower() in ("1", "true")

    def sample() -> None:
        import psutil  # type: ignore[import-untyped]

        step, ended = 0, not wanted
        psutil.cpu_percent()  # the load of the first sample is that since this call
        while not ended and run.folder is not None:
            if not (ended := stop.wait(interval)) or step == 0:
                run.log_metrics({f"system/{name}": value for name, value in system_metrics().items()}, step=step)
                step += 1

    thread = threading.Thread(target=sample, daemon=True, name="weakseg-system-metrics")
    thread.start()
    return stop, thread


def system_metrics() -> dict[str, float]:
    """Load and memory of the machine, of this process, and of each NVIDIA GPU that ``nvidia-smi`` reports."""
    import psutil

    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
    if not (command := shutil.which("nvidia-smi")):
        return found
    query = "--query-gpu=index,utilization.gpu,memory.used,power.draw"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=False
        )
        found.update(_gpu_metrics(done.stdout))
    return found


def _gpu_metrics(text: str) -> dict[str, float]:
    """Parse ``index, utilisation %, memory MiB, power W`` lines; what a GPU does not support ("[N/A]") is left out."""
    found = {}
    for line in text.splitlines():
        index, *values = (word.strip() for word in line.split(","))
        names = ("utilization_percentage", "memory_usage_megabytes", "power_usage_watts")
        for name, value, factor in zip(names, values, (1.0, 1.048576, 1.0), strict=False):
            with contextlib.suppress(ValueError):
                found[f"gpu_{index}_{name}"] = float(value) * factor
    return found
