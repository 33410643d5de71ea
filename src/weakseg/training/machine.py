"""Machine facts: device, precision, loader workers, threads, ranks. Flags or the environment say them, never params.

Under ``torchrun`` several processes, the ranks, run the same stage. This is the one place that knows about them: a
stage asks for its ``shard`` of the areas, hands in the results with ``gather``, and leaves what is done once to
``is_main``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weakseg.core.errors import ParamsError, StageError

if TYPE_CHECKING:  # stages without a network start in a second: torch waits until it is asked for
    import torch
    from accelerate import Accelerator

PRECISIONS = ("no", "bf16", "fp16", "auto")
PATIENCE = timedelta(days=7)  # that long a rank waits for a slower one; of a dead one it hears at once

Item = TypeVar("Item")


@dataclass(frozen=True)
class Machine:
    """Where and how to compute.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        precision: "no" (float32), "bf16", "fp16", or "auto": bf16 on GPUs that have it, float32 on every CPU
            (where prediction may take bf16 all the same, see ``inference.precision``).
        workers: loader processes; 0 loads in the training process.
        threads: of each process; fixed, because results differ between 1 and 2 threads.
        quiet: no progress bar.
        deterministic: equal bits from equal runs on a GPU too, at the price of slower kernels; what has no such
            kernel is an error. CPUs are so without it.
        rank, world: number of this process and count of all that run the stage, as torchrun sets them.
        local_rank, local_world: the same among the processes of this computer.
    """

    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    threads: int = 1
    quiet: bool = False
    deterministic: bool = False
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once, and talks; true where it is alone."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> list[Item]:
        """This process's part of ``items``, every ``world``-th; all of them where it is alone."""
        return list(items[self.rank :: self.world])

    def gather(self, part: Sequence[Item]) -> list[Item]:
        """The inverse of :meth:`shard`: what all processes made of their parts, in the order of the items.

        Every process must come here and gets the whole list; nobody leaves before all have come.

        Args:
            part: one small picklable result per item of this process's shard, in its order.

        Raises:
            StageError: if another process ended before it came here.
        """
        if self.world == 1:
            return list(part)
        from accelerate.utils import gather_object

        with self._together():
            parts: list[list[Item]] = gather_object([list(part)])
        whole: list[Any] = [None] * sum(map(len, parts))
        for rank, results in enumerate(parts):
            whole[rank :: self.world] = results
        return whole

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.gather([])

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over the processes, which all have the same names."""
        everyone = self.gather([dict(values)])
        return {name: sum(one[name] for one in everyone) / len(everyone) for name in values}

    def agree(self, model: torch.nn.Module) -> None:
        """Give every process the weights and buffers that the main one has, in place."""
        if self.world == 1:
            return
        from torch.distributed import broadcast

        with self._together():
            for tensor in model.state_dict().values():
                whole = tensor.contiguous()
                broadcast(whole, 0)
                tensor.copy_(whole)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Join the other processes; one that is gone is a StageError of those that wait for it."""
        try:
            self._join()
            yield
        except RuntimeError as error:
            raise StageError(
                f"process {self.rank} of {self.world} lost another one ({' '.join(str(error).split())[:80]})",
                expected="all of them at work until the end",
                cure="see the message of the one that failed",
            ) from error

    def _join(self) -> None:
        from accelerate import PartialState

        if self.world > 1:
            PartialState(cpu=self.torch_device().type == "cpu", timeout=PATIENCE)

    def accelerator(self) -> Accelerator:
        """The accelerate object of this process; under torchrun it joins the other ranks."""
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self._join()
        # EncDecUnpool's image-level head gets no gradient from segmentation losses
        spare = DistributedDataParallelKwargs(find_unused_parameters=True)
        return Accelerator(
            cpu=self.torch_device().type == "cpu", mixed_precision=self.mixed_precision(), kwargs_handlers=[spare]
        )

    def torch_device(self) -> torch.device:
        """The device; torch is held to ``threads``, and to what ``deterministic`` says, from here on."""
        import torch

        torch.set_num_threads(max(1, self.threads))
        if self.deterministic:
            _be_deterministic()
        device = torch.device(self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda" and device.index is None and self.world > 1:
            device = torch.device("cuda", self.local_rank % torch.cuda.device_count())
            torch.cuda.set_device(device)
        return device

    def mixed_precision(self) -> str:
        """accelerate's name of the precision in force."""
        import torch

        if self.precision != "auto":
            return self.precision
        return "bf16" if self.torch_device().type == "cuda" and torch.cuda.is_bf16_supported() else "no"

    def at_precision(self, name: str) -> Machine:
        """The same machine at another precision: auto, float32 (here "no"), bf16 or fp16.

        Raises:
            ParamsError: another name.
        """
        known = {**{one: one for one in PRECISIONS}, "float32": "no"}
        if name not in known:
            raise ParamsError(f"precision {name}", expected="auto | float32 | bf16 | fp16", cure="name one of them")
        return replace(self, precision=known[name])

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The same precision for inference outside a training."""
        import torch

        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision())
        with torch.autocast(self.torch_device().type, dtype=kind or torch.bfloat16, enabled=kind is not None):
            yield

    @contextmanager
    def progress(self, total: int, start: int) -> Iterator[Callable[[float, float | None], None]]:
        """A bar with the mean loss, the last mIoU if any, and the time left; silent where the output is no terminal."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown = not self.quiet and self.is_main and sys.stderr.isatty()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeRemainingColumn(), disable=not shown, transient=True) as bar:
            task = bar.add_task("train", total=total, completed=start)

            def advance(loss: float, miou: float | None) -> None:
                seen = "" if miou is None else f", hold-out mIoU {miou:.3f}"
                bar.update(task, advance=1, description=f"train loss {loss:.3f}{seen}")

            yield advance


def machine_from_environment() -> Machine:
    """WEAKSEG_DEVICE, WEAKSEG_PRECISION, WEAKSEG_WORKERS, WEAKSEG_THREADS (1 where unset), WEAKSEG_DETERMINISTIC (1 or
    0), and what torchrun sets.

    Raises:
        ParamsError: a value that is none of these.
    """
    precision = os.environ.get("WEAKSEG_PRECISION", "auto")
    if precision not in PRECISIONS:
        raise ParamsError(f"WEAKSEG_PRECISION={precision}", expected=" | ".join(PRECISIONS), cure="mend the variable")
    machine = Machine(
        device=os.environ.get("WEAKSEG_DEVICE", "auto"),
        precision=precision,
        workers=_count("WEAKSEG_WORKERS", 0),
        threads=_count("WEAKSEG_THREADS", 1),
        quiet=os.environ.get("WEAKSEG_QUIET", "") == "1",
        deterministic=_switch("WEAKSEG_DETERMINISTIC"),
        rank=_count("RANK", 0),
        world=max(1, _count("WORLD_SIZE", 1)),
        local_rank=_count("LOCAL_RANK", 0),
        local_world=max(1, _count("LOCAL_WORLD_SIZE", 1)),
    )
    if not (told := os.environ.get("WEAKSEG_SHARD")):
        return machine
    from weakseg.training.shards import Shard

    part, parts, folder = told.split(" ", 2)  # as `weakseg stage --shard` writes it
    facts = {one.name: getattr(machine, one.name) for one in fields(machine)}
    return Shard(**facts, part=int(part), parts=int(parts), folder=Path(folder))


def _be_deterministic() -> None:
    """Keep torch from kernels that add in a different order each time; cuBLAS reads its variable when it starts."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all ours is written first


def _switch(name: str) -> bool:
    text = os.environ.get(name) or "0"
    if text not in ("0", "1"):
        raise ParamsError(f"{name}={text}", expected="1 or 0", cure="mend the variable")
    return text == "1"


def _count(name: str, otherwise: int) -> int:
    text = os.environ.get(name) or str(otherwise)
    if not text.isdigit():
        raise ParamsError(f"{name}={text}", expected="a whole number from 0", cure="mend the variable")
    return int(text)
