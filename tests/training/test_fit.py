"""The training loop: an interrupted run that resumes is the unbroken run, bit for bit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from weakseg.core.errors import StageError, WeightsError
from weakseg.core.refusals import refusal_of
from weakseg.core.sections import OptimiserParams
from weakseg.data.crops.augment import Preprocessing
from weakseg.networks.identity_norms import set_identity
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.fit import Batch, FitResult, TrainState, _average, _leave_quietly, _loaded, _warm_cosine, fit
from weakseg.training.machine import Machine
from weakseg.training.seeds import seed_everything

MACHINE = Machine(device="cpu", precision="no", workers=0, threads=1, quiet=True)
PLAN = {
    **{"steps": 6, "batch": 2, "lr": 0.01, "encoder_factor": 0.5, "weight_decay": 0.1, "warmup": 0.2},
    **{"ema": 0.9, "report_every": 2},
}


class Noise(Dataset[Batch]):
    """Batch k is drawn from seed k."""

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(2, 3, 8, 8, generator=generator)
        return {"a": {"image": images, "mask": torch.randint(0, 2, (2, 8, 8), generator=generator)}}

    def __len__(self) -> int:
        return 100


class StopError(Exception):
    """Ctrl-C, as a test sees it."""


def network() -> nn.Module:
    """Batch statistics (buffers, an integer one among them) and dropout (global random numbers) make resuming hard."""
    seed_everything(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Conv2d(4, 2, 1))


def loss_of(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = nn.functional.cross_entropy(state.model(batch["a"]["image"]), batch["a"]["mask"])
    return loss, {"ce": loss.detach()}


def train(
    folder: Path, *, identity: str = "me", seed: int = 1, machine: Machine = MACHINE, **options: Any
) -> FitResult:
    plan = OptimiserParams.model_validate({**PLAN, **options.pop("plan", {})})
    model = network()
    return fit(
        model,
        options.pop("step_loss", loss_of),
        parameter_groups=[{"params": list(model.parameters()), "lr": plan.lr, "weight_decay": plan.weight_decay}],
        dataset=options.pop("dataset", lambda rank, world: Noise()),
        plan=plan,
        seed=seed,
        machine=machine,
        resume_file=folder / "resume.pt",
        identity=identity,
        **options,
    )


def stop_at(wanted: int) -> Any:
    def on_report(net: nn.Module, step: int, row: Mapping[str, float]) -> None:
        if step == wanted:
            raise StopError

    return on_report


def stop_in_step(wanted: int) -> Any:
    def step_loss(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        if state.step == wanted:
            raise StopError
        return loss_of(state, batch)

    return step_loss


def assert_same(one: FitResult, two: FitResult) -> None:
    first, second = one.model.state_dict(), two.model.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert one.history == two.history


def weight_sum(net: nn.Module) -> dict[str, float]:
    """Stands for a hold-out evaluation; leaves the network in evaluation mode and draws numbers, as real ones may."""
    net.eval()
    torch.rand(3)
    return {"holdout/sum": float(sum(p.detach().double().abs().sum() for p in net.parameters()))}


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize(
    ("trouble", "resumed_at"),
    [
        ({"on_report": stop_at(4)}, 2),  # during a report: that report is not yet safe
        ({"step_loss": stop_in_step(4)}, 4),  # in the first step after one
        ({"step_loss": stop_in_step(5)}, 4),  # between two
        ({"step_loss": stop_in_step(1)}, 0),  # before the first
    ],
)
def test_resume_is_exact(tmp_path: Path, trouble: dict[str, Any], resumed_at: int, ema: float) -> None:
    plan = {"ema": ema}
    unbroken = train(tmp_path / "a", plan=plan, evaluate=weight_sum)
    with pytest.raises(StopError):
        train(tmp_path / "b", plan=plan, evaluate=weight_sum, **trouble)
    assert (tmp_path / "b" / "resume.pt").is_file() == (resumed_at > 0)
    torch.rand(17)  # another process has other random numbers
    resumed = train(tmp_path / "b", plan=plan, evaluate=weight_sum)
    assert (unbroken.resumed_at, resumed.resumed_at) == (0, resumed_at)
    assert [row["step"] for row in resumed.history] == [2, 4, 6]
    assert_same(resumed, unbroken)
    assert not (tmp_path / "b" / "resume.pt").exists()


def test_interrupted_twice(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "a")
    for step in (3, 5):
        with pytest.raises(StopError):
            train(tmp_path / "b", step_loss=stop_in_step(step))
    assert_same(train(tmp_path / "b"), unbroken)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_loader_process_that_is_killed_while_it_hands_over_is_told_as_killed(error: Exception) -> None:
    """What torch raises where the kernel has closed the socket of a process that is not known to be dead yet."""

    def batches() -> Iterator[Any]:
        yield "first"
        raise error

    found = _loaded(batches())
    assert next(found) == "first"
    with pytest.raises(RuntimeError, match="worker exited") as raised:
        next(found)
    assert "a loader process was killed" in str(refusal_of(raised.value))


def test_a_loader_process_that_is_left_says_nothing_of_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, _error, _trace: said.append(kind))
    _leave_quietly(0)
    for error in (ConnectionResetError(104, "reset"), EOFError(), KeyError("a"), OSError(28, "no space")):
        sys.excepthook(type(error), error, None)
    assert said == [KeyError, OSError]


def test_an_error_of_the_data_in_a_loader_process_stays_what_it_is() -> None:
    def batches() -> Iterator[Any]:
        raise EOFError("Caught EOFError in DataLoader worker process 0.")
        yield

    with pytest.raises(EOFError, match="Caught"):
        next(_loaded(batches()))


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = train(tmp_path / "a")
    helped = train(tmp_path / "b", machine=Machine(device="cpu", precision="no", workers=2, quiet=True))
    assert_same(helped, alone)


def test_seeds_differ(tmp_path: Path) -> None:
    one, two = train(tmp_path, seed=1), train(tmp_path, seed=2)
    assert not torch.equal(one.model[0].weight, two.model[0].weight)


def test_stale_file_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train(tmp_path / "b", identity="other data", step_loss=stop_in_step(5))
    assert (tmp_path / "b" / "resume.pt").is_file()
    fresh = train(tmp_path / "b")
    assert fresh.resumed_at == 0
    assert_same(fresh, train(tmp_path / "a"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04\x95garbage", b"PK\x03\x04 cut short"])
def test_corrupted_resume_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"resume\.pt does not load .*make it anew") as error:
        train(tmp_path)
    assert "\n" not in str(error.value)


def test_truncated_resume_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train(tmp_path, step_loss=stop_in_step(5))
    file = tmp_path / "resume.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match="does not load"):
        train(tmp_path)


def test_resume_file_is_plain_data(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        train(tmp_path, step_loss=stop_in_step(5))
    state = load_checkpoint(tmp_path / "resume.pt")
    assert (state["identity"], state["step"]) == ("me", 4)
    assert [row["step"] for row in state["history"]] == [2.0, 4.0]


def test_a_model_file_in_place_of_a_resume_file_starts_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "resume.pt", {"weights": {}})
    assert train(tmp_path).resumed_at == 0


def test_infinite_loss_stops_the_run(tmp_path: Path) -> None:
    def diverge(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logs = loss_of(state, batch)
        return loss * (math.nan if state.step == 3 else 1.0), logs

    with pytest.raises(StageError, match="loss nan at step 3; expected a finite loss; lower the learning rate"):
        train(tmp_path, step_loss=diverge)


class Named(Noise):
    def describe(self, step: int) -> str:
        return f"pixel: a{step} at row 3, column 4 (8 px)"


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_it_is_kept(where: str, tmp_path: Path) -> None:
    """In step 3, whose state would be kept: that of step 2 stays, and the crops are named."""

    def diverge(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logs = loss_of(state, batch)
        weight = next(state.model.parameters())
        infinite = (weight * 0).abs().sqrt().sum() if where == "gradient" else math.inf  # finite, with a slope of NaN
        return (loss + infinite if state.step == 3 else loss), logs

    found = "gradient of norm nan" if where == "gradient" else "loss inf"
    with pytest.raises(StageError, match=rf"{found} at step 3, of the crops pixel: a3 at row 3, column 4 \(8 px\)"):
        train(tmp_path, step_loss=diverge, dataset=lambda rank, world: Named())
    state = load_checkpoint(tmp_path / "resume.pt")
    assert state["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())


def test_history_is_the_mean_since_the_last_report(tmp_path: Path) -> None:
    losses: list[float] = []

    def step_loss(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, _ = loss_of(state, batch)
        losses.append(float(loss.detach()))
        return loss, {"double": 2 * loss.detach()}

    seen: list[tuple[int, float, bool]] = []
    result = train(
        tmp_path,
        plan={"steps": 5, "report_every": 2},
        step_loss=step_loss,
        report=lambda row, step: seen.append((step, row["train/loss"], row["train/seconds_per_step"] > 0)),
    )
    assert [row["step"] for row in result.history] == [2, 4, 5]  # the last step always reports
    want = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert [row["train/loss"] for row in result.history] == pytest.approx(want)
    assert [row["train/double"] for row in result.history] == pytest.approx([2 * value for value in want])
    assert seen == [(int(row["step"]), row["train/loss"], True) for row in result.history]
    assert not any("seconds" in name for row in result.history for name in row)  # a report, no result


def test_what_is_returned_is_the_average_where_there_is_one(tmp_path: Path) -> None:
    kept: list[tuple[nn.Module, nn.Module | None]] = []

    def step_loss(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        kept.append((state.teacher, state.averaged))
        return loss_of(state, batch)

    averaged = train(tmp_path, step_loss=step_loss)
    assert averaged.model is kept[-1][0] is kept[-1][1]
    assert not any(p.requires_grad for p in averaged.model.parameters())
    plain = train(tmp_path, plan={"ema": 0.0}, step_loss=step_loss)
    assert plain.model is kept[-1][0]
    assert kept[-1][1] is None
    assert not averaged.model.training
    assert not plain.model.training


def test_schedule_by_hand() -> None:
    plan = OptimiserParams.model_validate({**PLAN, "steps": 10, "warmup": 0.2})
    factor = _warm_cosine(plan)
    assert [factor(step) for step in (0, 1, 2)] == pytest.approx([0.5, 1.0, 1.0])
    assert factor(6) == pytest.approx(0.5)  # half way between 2 and 10
    assert factor(10) == pytest.approx(0.0, abs=1e-7)
    assert _warm_cosine(plan.model_copy(update={"warmup": 0.0}))(0) == 1.0


def test_average_by_hand() -> None:
    here, there = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        here.weight.fill_(1.0)
        there.weight.fill_(3.0)
        there.running_mean.fill_(10.0)
        there.num_batches_tracked.fill_(7)
    _average(here, there, 0.75)
    assert here.weight.item() == pytest.approx(1.5)
    assert here.running_mean.item() == pytest.approx(2.5)
    assert here.num_batches_tracked.item() == 7  # counters are copied, not mixed
    assert there.weight.item() == 3.0


def test_identity_norms_get_the_statistics_of_whole_batches_before_the_first_step(tmp_path: Path) -> None:
    """Every rank describes the crops of all ranks; without a step the averaged network holds the same."""
    seen: list[tuple[int, int]] = []
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.Conv2d(3, 2, 1))
    set_identity(model[0], [model[0][0]], Preprocessing((0.0,) * 3, (1.0,) * 3))

    def dataset(rank: int, world: int) -> Noise:
        seen.append((rank, world))
        return Noise()

    def step_loss(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        crops = torch.cat(
            [Noise()[step]["a"]["image"] for step in range(32)]
        )  # 64 of them, grown to 32 px as they train
        mean = nn.functional.pad(crops, (12, 12, 12, 12), mode="replicate").mean((0, 2, 3)) / 255
        torch.testing.assert_close(state.model[0][0].running_mean, mean)
        torch.testing.assert_close(state.averaged[0][0].bias, mean)
        raise StopError

    with pytest.raises(StopError):
        fit(
            model,
            step_loss,
            parameter_groups=[{"params": list(model.parameters()), "lr": 0.1}],
            dataset=dataset,
            plan=OptimiserParams.model_validate(PLAN | {"steps": 40}),
            seed=1,
            machine=MACHINE,
            resume_file=tmp_path / "resume.pt",
            identity="me",
        )
    assert seen == [(0, 1), (0, 1)]
