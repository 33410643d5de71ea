"""What one process knows of the others, without any: shards, gathering, devices. Real ranks: test_distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from weakseg.core.errors import ParamsError
from weakseg.training.machine import Machine, machine_from_environment
from weakseg.training.seeds import rank_seed, step_generator


def test_ranks_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = machine_from_environment()
    assert (alone.rank, alone.world, alone.local_rank, alone.local_world, alone.is_main) == (0, 1, 0, 1, True)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    one = machine_from_environment()
    assert (one.rank, one.world, one.local_rank, one.local_world, one.is_main) == (5, 8, 1, 4, False)
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ParamsError, match=r"WORLD_SIZE=many.*mend the variable"):
        machine_from_environment()


@pytest.mark.parametrize(("count", "world"), [(7, 3), (3, 3), (2, 4), (0, 2)])
def test_shards_are_disjoint_and_whole(count: int, world: int) -> None:
    areas = [f"a{number}" for number in range(count)]
    shards = [Machine(rank=rank, world=world).shard(areas) for rank in range(world)]
    assert sorted(area for shard in shards for area in shard) == areas
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("count", [5, 2, 1])
def test_gather_restores_the_order_of_the_areas(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    areas = list(range(count))
    shards = [Machine(rank=rank, world=3).shard(areas) for rank in range(3)]
    monkeypatch.setattr("accelerate.utils.gather_object", lambda part: shards)  # as three ranks would answer
    monkeypatch.setattr(Machine, "_join", lambda self: None)
    assert [Machine(rank=rank, world=3).gather(shards[rank]) for rank in range(3)] == [areas] * 3


def test_a_process_alone_waits_for_nobody() -> None:
    machine, model = Machine(), nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    machine.wait()
    machine.agree(model)
    assert machine.gather(machine.shard(["a", "b"])) == ["a", "b"]
    assert machine.mean({"loss": 0.1}) == {"loss": 0.1}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_every_rank_of_a_computer_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    devices = [Machine(rank=rank, world=8, local_rank=rank % 4).torch_device() for rank in range(8)]
    assert [device.index for device in devices] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert chosen == devices
    assert Machine().torch_device() == torch.device("cuda")  # alone: wherever CUDA_VISIBLE_DEVICES points
    assert Machine(device="cpu", rank=1, world=2).torch_device() == torch.device("cpu")


def test_ranks_draw_for_themselves_and_the_main_one_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(rank: str | None) -> float:
        monkeypatch.delenv("RANK", raising=False) if rank is None else monkeypatch.setenv("RANK", rank)
        return float(torch.rand(1, generator=step_generator(3, 5)))

    assert draw("0") == draw(None)
    assert len({draw(str(rank)) for rank in range(8)}) == 8
    assert rank_seed(7, 0) == 7


@pytest.fixture
def as_before() -> Iterator[None]:
    """What `deterministic` sets for the whole process, set back."""
    there, fill = os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.utils.deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark = fill, benchmark
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    os.environ.update({} if there is None else {"CUBLAS_WORKSPACE_CONFIG": there})


def test_deterministic_is_a_variable(monkeypatch: pytest.MonkeyPatch, as_before: None) -> None:
    monkeypatch.delenv("WEAKSEG_DETERMINISTIC", raising=False)
    assert not machine_from_environment().deterministic
    Machine(device="cpu").torch_device()
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv("WEAKSEG_DETERMINISTIC", "1")
    torch.backends.cudnn.benchmark = True
    machine_from_environment().torch_device()
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("WEAKSEG_DETERMINISTIC", "yes")
    with pytest.raises(ParamsError, match=r"WEAKSEG_DETERMINISTIC=yes; expected 1 or 0"):
        machine_from_environment()
