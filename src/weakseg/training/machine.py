"""Machine facts: device, precision, loader workers, threads. They come from flags or the environment, never params."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weakseg.errors import ParamsError

if TYPE_CHECKING:  # stages without a network start in a second: torch waits until it is asked for
    import torch
    from accelerate import Accelerator

PRECISIONS = ("no", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class Machine:
    """Where and how to compute.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        precision: "no" (float32), "bf16", "fp16", or "auto": bf16 where the hardware multiplies it natively.
        workers: loader processes; 0 loads in the training process.
        threads: of each process; fixed, because results differ between 1 and 2 threads.
        quiet: no progress bar.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    threads: int = 1
    quiet: bool = False

    def accelerator(self) -> Accelerator:
        """The accelerate object of this process; under torchrun it joins the other ranks."""
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        # EncDecUnpool's image-level head gets no gradient from segmentation losses
        spare = DistributedDataParallelKwargs(find_unused_parameters=True)
        return Accelerator(
            cpu=self.torch_device().type == "cpu", mixed_precision=self.mixed_precision(), kwargs_handlers=[spare]
        )

    def torch_device(self) -> torch.device:
        """The device; torch is held to ``threads`` from here on."""
        import torch

        torch.set_num_threads(max(1, self.threads))
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def mixed_precision(self) -> str:
        """accelerate's name of the precision in force."""
        import torch

        if self.precision != "auto":
            return self.precision
        if self.torch_device().type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "no"
        return "bf16" if _cpu_has_bf16() else "no"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The same precision for inference outside a training."""
        import torch

        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision())
        with torch.autocast(self.torch_device().type, dtype=kind or torch.bfloat16, enabled=kind is not None):
            yield

    @contextmanager
    def progress(self, total: int, start: int, label: str = "train") -> Iterator[Callable[[float], None]]:
        """A bar with the mean loss and the time left; silent where the output is no terminal."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown = not self.quiet and sys.stderr.isatty()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeRemainingColumn(), disable=not shown, transient=True) as bar:
            task = bar.add_task(label, total=total, completed=start)

            def advance(loss: float) -> None:
                bar.update(task, advance=1, description=f"{label} loss {loss:.3f}")

            yield advance


def machine_from_environment() -> Machine:
    """WEAKSEG_DEVICE, WEAKSEG_PRECISION, WEAKSEG_WORKERS and WEAKSEG_THREADS (1 where unset)."""
    precision = os.environ.get("WEAKSEG_PRECISION", "auto")
    if precision not in PRECISIONS:
        raise ParamsError(f"WEAKSEG_PRECISION={precision}", expected=" | ".join(PRECISIONS), cure="mend the variable")
    return Machine(
        device=os.environ.get("WEAKSEG_DEVICE", "auto"),
        precision=precision,
        workers=_count("WEAKSEG_WORKERS", 0),
        threads=_count("WEAKSEG_THREADS", 1),
        quiet=os.environ.get("WEAKSEG_QUIET", "") == "1",
    )


def _count(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdigit():
        raise ParamsError(f"{name}={text}", expected="a whole number from 0", cure="mend the variable")
    return int(text)


def _cpu_has_bf16() -> bool:
    """Native bf16 multiplication; emulated bf16 is slower than float32."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
