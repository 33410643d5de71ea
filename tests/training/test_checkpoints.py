"""Model files: plain data and tensors only, and a clear no to anything that does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from weakseg.core.bands import PLAIN
from weakseg.core.classes import ISPRS
from weakseg.core.errors import ParamsError, WeightsError
from weakseg.core.model_facts import check_facts
from weakseg.data.crops.augment import IMAGENET
from weakseg.training.checkpoints import (
    describe_model,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    scheme_of,
)
from weakseg.training.machine import Machine, machine_from_environment
from weakseg.training.seeds import seed_everything, step_generator


def test_round_trip_with_description(tmp_path: Path) -> None:
    content = describe_model({"name": "unet", "width": 1}, ISPRS, IMAGENET)
    save_checkpoint(tmp_path / "sub" / "a.pt", {**content, "weights": {"w": torch.arange(3.0)}})
    back = load_checkpoint(tmp_path / "sub" / "a.pt")
    assert scheme_of(back) == ISPRS
    assert back["network"] == {"name": "unet", "width": 1}
    assert tuple(back["preprocessing"]["mean"]) == IMAGENET.mean
    assert back["weights"]["w"].tolist() == [0.0, 1.0, 2.0]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.pt"]


def test_equal_content_gives_equal_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, {"weights": {"w": torch.arange(3.0)}})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("evil"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "x": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(WeightsError, match="does not load"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [{"weights": {}}, {"format": 99}, [1, 2]])
def test_other_formats_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"is not of format 1; .*make it anew"):
        load_checkpoint(tmp_path / "a.pt")


def test_missing_checkpoint_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no checkpoint .*run `dvc repro`"):
        load_checkpoint(tmp_path / "a.pt")


def test_weights_must_fit() -> None:
    for other in (nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2)):
        with pytest.raises(WeightsError, match=r"x\.pt does not fit the network: ") as error:
            load_weights(nn.Conv2d(3, 2, 1), other.state_dict(), "x.pt")
        assert "\n" not in str(error.value)
    target, source = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    load_weights(target, source.state_dict(), "x.pt")
    assert torch.equal(target.weight, source.weight)


def test_machine_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "cpu", "PRECISION": "bf16", "WORKERS": "3", "THREADS": "1", "QUIET": "1"}.items():
        monkeypatch.setenv(f"WEAKSEG_{name}", value)
    machine = machine_from_environment()
    assert machine == Machine("cpu", "bf16", 3, 1, True)
    assert (machine.torch_device().type, machine.mixed_precision()) == ("cpu", "bf16")
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("WEAKSEG_PRECISION", "auto")
    assert machine_from_environment().mixed_precision() == "no"
    for name, value in {"PRECISION": "half", "WORKERS": "-1", "THREADS": "many"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(f"WEAKSEG_{name}", value)
            with pytest.raises(ParamsError, match=f"WEAKSEG_{name}={value}.*mend the variable"):
                machine_from_environment()


@pytest.mark.parametrize(("precision", "kind"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision: str, kind: torch.dtype) -> None:
    with Machine(device="cpu", precision=precision).autocast():
        assert nn.Conv2d(3, 2, 1)(torch.rand(1, 3, 2, 2)).dtype == kind


def test_step_generators_are_pure_and_differ() -> None:
    def draw(seed: int, step: int) -> float:
        return float(torch.rand(1, generator=step_generator(seed, step)))

    assert draw(3, 5) == draw(3, 5)
    assert len({draw(seed, step) for seed in range(5) for step in range(50)}) == 250


def test_seed_everything_repeats_all_three() -> None:
    import random

    import numpy as np

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    seed_everything(7)
    first = draws()
    second = draws()
    seed_everything(7)
    assert draws() == first != second


def test_the_bar_shows_loss_and_the_last_miou(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, **given: shown.append(given["description"]))
    with Machine(device="cpu").progress(2, 0) as advance:
        advance(0.5, None)
        advance(0.25, 0.4)
    assert shown == ["train loss 0.500", "train loss 0.250, hold-out mIoU 0.400"]


FACTS = {"scale": 0.5, "gsd": 0.1, "temperatures": [1.0, 2.0], "mean": [0.5] * 3, "std": [0.2] * 3, "side": 512}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 0}, "scale 0"),
        ({"scale": "1"}, "scale '1'"),
        ({"scale": True}, "scale True"),
        ({"scale": 1e9}, "scale 1000000000.0"),
        ({"gsd": float("nan")}, "gsd nan"),
        ({"temperatures": [1.0]}, r"temperatures \[1.0\]"),
        ({"temperatures": [1.0, -1.0]}, "temperatures"),
        ({"mean": [0.5]}, r"mean \[0.5\] of 3 band"),
        ({"std": [0.2, 0.2, 0]}, "std"),
        ({"side": 10**6}, "side 1000000"),
        ({"side": 1.5}, "side 1.5"),
    ],
)
def test_numbers_that_cannot_be_what_they_are_called_are_refused(change: dict[str, object], words: str) -> None:
    check_facts(FACTS, PLAIN, 2, "x.pt")
    check_facts({"scale": 1}, PLAIN, 2, "x.pt")
    with pytest.raises(WeightsError, match=f"x.pt has no sensible {words}"):
        check_facts({**FACTS, **change}, PLAIN, 2, "x.pt")


@pytest.mark.parametrize("classes", [None, {}, {"names": ["a"], "colours": [], "ignored": []}, {"names": 3}])
def test_a_model_file_without_a_scheme_is_refused(classes: object) -> None:
    with pytest.raises(WeightsError, match="has no sensible classes"):
        scheme_of({"classes": classes})


def test_weights_of_another_kind_or_not_finite_are_refused() -> None:
    module = nn.Linear(2, 2)
    state = module.state_dict()
    for wrong, words in (
        ([1], "has no sensible weights"),
        ({**state, "bias": 3}, "has no sensible weights"),
        ({**state, "bias": state["bias"].double()}, "bias of torch.float64; expected torch.float32"),
        ({**state, "bias": torch.full((2,), torch.nan)}, "not finite in bias"),
    ):
        with pytest.raises(WeightsError, match=words):
            load_weights(module, wrong, "x.pt")
    load_weights(module, {**state, "bias": torch.tensor([0.5, 0.25]).half()}, "x.pt")
    assert module.bias.tolist() == [0.5, 0.25]
