"""The one training path: every network of the project is trained by :func:`fit`; a method passes its step.

Hugging Face accelerate supplies device, mixed precision, gradient scaling and DDP; the loop stays readable here.
"""

from __future__ import annotations

import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from weakseg.core.errors import StageError
from weakseg.core.sections import OptimiserParams
from weakseg.networks.identity_norms import settle_norms
from weakseg.training.checkpoints import load_checkpoint, load_weights, save_checkpoint
from weakseg.training.global_norm import normalise_over_ranks
from weakseg.training.machine import Machine
from weakseg.training.seeds import rank_seed, seed_everything

Batch = dict[str, dict[str, Tensor]]
CLIP = 5.0  # largest norm of a step's gradient


@dataclass
class TrainState:
    """What a step may look at: the network as trained, its running average (or None) and the step number."""

    model: nn.Module
    averaged: nn.Module | None
    step: int
    steps: int

    @property
    def teacher(self) -> nn.Module:
        return self.model if self.averaged is None else self.averaged


StepLoss = Callable[[TrainState, Batch], tuple[Tensor, dict[str, Tensor]]]
"""(state, batch) -> scalar loss with gradient, and detached scalars to log by name."""


@runtime_checkable
class _Describing(Protocol):
    """Data that can say what a step is made of."""

    def describe(self, step: int) -> str: ...


@dataclass
class FitResult:
    """The trained network (the average where there is one) and one row per report: step, losses, hold-out metrics."""

    model: nn.Module
    history: list[dict[str, float]] = field(default_factory=list)
    resumed_at: int = 0


class _Step(nn.Module):
    """A step as one forward pass of one module: DDP allows no second pass of its module before the backward pass."""

    def __init__(self, model: nn.Module, step_loss: StepLoss) -> None:
        super().__init__()
        self.model, self.step_loss = model, step_loss

    def forward(
        self, averaged: nn.Module | None, step: int, steps: int, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.step_loss(TrainState(self.model, averaged, step, steps), batch)


class _StepsFrom(Sampler[int]):
    """Steps ``start..stop-1`` in order."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Any:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def fit(
    model: nn.Module,
    step_loss: StepLoss,
    *,
    parameter_groups: list[dict[str, Any]],
    dataset: Callable[[int, int], Dataset[Batch]],
    plan: OptimiserParams,
    seed: int,
    machine: Machine,
    resume_file: Path,
    identity: str,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    report: Callable[[Mapping[str, float], int], None] | None = None,
    on_report: Callable[[nn.Module, int, Mapping[str, float]], None] | None = None,
    renew: Callable[[nn.Module | None, int], None] | None = None,
    renew_at: Sequence[int] = (),
) -> FitResult:
    """Train ``plan.steps`` steps and return the network to use.

    Args:
        step_loss: see :data:`StepLoss`.
        parameter_groups: for AdamW; each with its own ``lr``, the peak of a warm-up and cosine schedule.
        dataset: (rank, world) -> the batches, item k being step k.
        seed: of weights drawn during training (dropout); data draws have their own.
        resume_file: state of an unfinished run; written at every report, removed at the end.
        identity: what the run is made from (params and data, as a digest); a resume file of another identity
            is refused as stale and the run starts over.
        evaluate: network -> hold-out metrics, called at every report on the network that would be used.
        renew: (network, step), called on the network that would be used before each of the steps ``renew_at``; the
            dataset is made anew after it. A run that resumes in between calls it without a network, for the last of
            these steps that it has behind it.
        report, on_report: sinks of (metrics, step), and of (network, step, metrics) to keep checkpoints.

    Raises:
        StageError: the loss or its gradient is not finite. The state of the last report is kept in ``resume_file``.
    """
    seed_everything(seed)
    accelerator = machine.accelerator()
    settle_norms(model, _images(dataset(0, 1), plan.steps))  # the same crops on every rank
    if machine.world > 1:
        normalise_over_ranks(model)
    optimiser = torch.optim.AdamW(parameter_groups, fused=True)  # on the CPU a third of the time of foreach
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_cosine(plan))
    model = model.to(memory_format=torch.channels_last)  # faster on CPUs and GPUs
    averaged = copy.deepcopy(model).requires_grad_(False) if plan.ema > 0 else None
    if averaged is not None:
        averaged.to(accelerator.device)
    take_step, optimiser = accelerator.prepare(_Step(model, step_loss), optimiser)
    result = FitResult(averaged if averaged is not None else model)
    start = _resume(resume_file, identity, model, averaged, optimiser, schedule, result)
    if not machine.is_main:
        torch.manual_seed(rank_seed(seed, machine.rank) + start)  # the ranks drop different units

    def batches() -> Iterator[tuple[int, Batch]]:
        for begin, end in _spans(start, plan.steps, renew_at):
            passed = [cut for cut in renew_at if cut <= begin]
            if renew is not None and passed:
                machine.agree(result.model)  # the ranks' running statistics may differ
                renew(result.model if begin in passed else None, max(passed))
            loader = DataLoader(
                dataset(machine.rank, machine.world),
                batch_size=None,
                sampler=_StepsFrom(begin, end),
                num_workers=machine.workers,
                worker_init_fn=_leave_quietly,
                generator=torch.Generator(),  # else each start takes a global random number, resumed runs one more
            )
            yield from enumerate(_loaded(loader), begin)

    sums: dict[str, float] = {}
    since, clock = 0, time.monotonic()
    with machine.progress(plan.steps, start) as advance:
        for step, batch in batches():
            model.train()
            with accelerator.autocast():
                loss, logs = take_step(averaged, step, plan.steps, _to(batch, accelerator))
            if not torch.isfinite(loss):
                raise _not_finite(f"loss {loss.item()}", step, dataset(machine.rank, machine.world))
            optimiser.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), CLIP)
            if (
                accelerator.scaler is None and norm is not None and not torch.isfinite(norm)
            ):  # a scaler skips such steps
                raise _not_finite(f"gradient of norm {float(norm)}", step, dataset(machine.rank, machine.world))
            optimiser.step()
            schedule.step()
            if averaged is not None:
                _average(averaged, model, min(plan.ema, (1 + step) / (10 + step)))
            for name, value in {"loss": loss.detach(), **logs}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            since += 1
            advance(sums["loss"] / since, result.history[-1].get("holdout/miou") if result.history else None)
            last = step + 1 == plan.steps
            if last or (step + 1) % plan.report_every == 0:
                row = {f"train/{name}": value / since for name, value in sums.items()}
                row = machine.mean(row)
                if evaluate is not None:
                    row |= evaluate(result.model)
                result.history.append({"step": float(step + 1), **row})
                if report is not None and machine.is_main:  # time is no result: it stays out of the history
                    report(row | {"train/seconds_per_step": (time.monotonic() - clock) / since}, step + 1)
                if on_report is not None and machine.is_main:
                    on_report(result.model, step + 1, row)
                if not last and machine.is_main:
                    _save(resume_file, identity, step + 1, model, averaged, optimiser, schedule, result)
                elif not last:  # as a run that goes on from here begins
                    torch.manual_seed(rank_seed(seed, machine.rank) + step + 1)
                sums, since, clock = {}, 0, time.monotonic()
    if machine.is_main:
        resume_file.unlink(missing_ok=True)
    machine.agree(result.model)  # their running statistics may differ
    result.model.eval()
    return result


def _not_finite(found: str, step: int, batches: Dataset[Batch]) -> StageError:
    """Before it gets into the weights, with the crops that it came from where the data can tell."""
    described = batches.describe(step) if isinstance(batches, _Describing) else ""
    found += f" at step {step}" + (f", of the crops {described}" if described else "")
    return StageError(found, expected="a finite loss", cure="lower the learning rate")


def _spans(start: int, steps: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """The steps from ``start`` on, cut before each of ``cuts``."""
    edges = [start, *sorted({cut for cut in cuts if start < cut < steps}), steps]
    return [(begin, end) for begin, end in itertools.pairwise(edges) if begin < end]


def _leave_quietly(_number: int) -> None:
    """In a loader process: say nothing where the training ends while a batch is being handed over.

    Its thread that serves sockets would print a traceback below the sentence that the training ended with.
    """
    told = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            told(kind, error, trace)

    sys.excepthook = tell


def _loaded(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader; a process that was killed while it handed one over is told as torch tells other kills.

    The kernel closes its socket before it is known to be dead, which torch passes on as an error of the socket.
    """
    try:
        yield from batches
    except (ConnectionError, EOFError) as error:
        if "in DataLoader worker process" in str(error):  # raised over there, by the data
            raise
        raise RuntimeError("DataLoader worker exited unexpectedly") from error


def _warm_cosine(plan: OptimiserParams) -> Callable[[int], float]:
    warm = max(1, round(plan.warmup * plan.steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        progress = (step - warm) / max(1, plan.steps - warm)
        return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * min(1.0, progress)))))

    return factor


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and float buffers towards the trained ones; integer buffers are copied."""
    here, there = list(averaged.state_dict().values()), list(model.state_dict().values())
    floats = [(a, b) for a, b in zip(here, there, strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for a, b in zip(here, there, strict=True):
        if not a.is_floating_point():
            a.copy_(b)


def _images(batches: Dataset[Batch], steps: int) -> Iterator[Tensor]:
    """The images (B, 3, H, W) of all pools, step after step."""
    for step in range(steps):
        yield from (part["image"] for part in batches[step].values())


def _to(batch: Batch, accelerator: Accelerator) -> Batch:
    return {
        pool: {name: value.to(accelerator.device, non_blocking=True) for name, value in part.items()}
        for pool, part in batch.items()
    }


def _save(
    path: Path,
    identity: str,
    step: int,
    model: nn.Module,
    averaged: nn.Module | None,
    optimiser: Any,
    schedule: Any,
    result: FitResult,
) -> None:
    save_checkpoint(
        path,
        {
            "identity": identity,
            "step": step,
            "model": model.state_dict(),
            "averaged": averaged.state_dict() if averaged is not None else None,
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "history": result.history,
        },
    )


def _resume(
    path: Path,
    identity: str,
    model: nn.Module,
    averaged: nn.Module | None,
    optimiser: Any,
    schedule: Any,
    result: FitResult,
) -> int:
    """Load an unfinished run of the same identity; returns the step to go on with, 0 for a fresh start."""
    if not path.is_file():
        return 0
    state = load_checkpoint(path)
    if state.get("identity") != identity:
        return 0  # stale: the first report of this run replaces it
    load_weights(model, state["model"], str(path))
    if averaged is not None:
        load_weights(averaged, state["averaged"], str(path))
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["rng"])
    if state["rng_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["rng_cuda"])
    result.history.extend(state["history"])
    result.resumed_at = int(state["step"])
    return result.resumed_at
