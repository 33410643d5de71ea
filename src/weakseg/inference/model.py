"""Opening a trained model for prediction: a model file, or anything that ``weakseg export`` wrote.

What a network needs beside its weights (classes, preprocessing, scale, ground sampling distance) travels with each of
these; :func:`weakseg.registry.addresses.find_model` turns an address in MLflow's registry into such a file.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import WeightsError
from weakseg.core.reading import BROKEN_ZIP, parse_json
from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.inference.engine import Choice, Run, Runner, Wanted, network_bytes, session_plain
from weakseg.inference.fixed import at_side
from weakseg.inference.mapper import Maps, Network, Settle, in_passes
from weakseg.inference.onnx_file import (
    Described,
    check_shapes,
    describe_folder,
    loading,
    open_session,
    read_description,
    runs_on_cpu,
)
from weakseg.inference.precision import Held, choose_precision, has_native_bf16, read_held
from weakseg.inference.scene import ONE_SCALE, View, mean_over_views
from weakseg.networks.applicability import Applicability, join_scales, read_applicability
from weakseg.networks.build import Segmenter
from weakseg.networks.portable import ExportNet, write_onnx
from weakseg.raster.stream import Pixels
from weakseg.training.checkpoints import scheme_of
from weakseg.training.machine import Machine

SETTINGS: Final = "weakseg.json"  # metadata property of an ONNX file, extra file of a TorchScript one
_FORCE: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


Average = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""A network (normalised images -> probabilities) and images -> the mean probabilities over views and scales."""


@dataclass(frozen=True)
class Predictor:
    """A model ready to run.

    Attributes:
        forward: images (B, K, h, w) on the machine's device -> probabilities (B, C, h, w) float32; uint8 of 3 bands.
        scale: resampling of the training rasters; 0.5 halves the side.
        gsd: metres per px of the training rasters before that, None where it is unknown.
        digest: of the model file and of how it is run; a map is only ever continued by the same.
        temperatures: per class, of calibrated probabilities; () where the model has none.
        with_index: as ``forward``, and as a last layer the dissimilarity index over its limit
            (``networks.applicability``): (B, C + 1, h, w). None where the model does not know what it was trained on.
        bands: of the images.
        settle: px through the network, what gives a few windows (B, K, h, w), a numpy array, and whether the index is
            wanted -> the engine that both functions run under from then on (``inference.engine``); None where there is
            only one.
        together: all windows of a batch in one pass, as a GPU likes it. Else as ``mapper.in_passes`` has it: what a CPU
            needs of memory grows with the px of a pass and its speed does not; the numbers are the same.
    """

    forward: Callable[[Tensor], Tensor]
    scheme: ClassScheme
    scale: float
    gsd: float | None
    device: torch.device
    digest: str
    temperatures: tuple[float, ...] = ()
    with_index: Callable[[Tensor], Tensor] | None = None
    bands: Bands = PLAIN
    settle: Settle | None = None
    together: bool = False

    @property
    def applicable(self) -> bool:
        """Whether the model knows what it was trained on."""
        return self.with_index is not None

    def network(self, *, index: bool = False) -> Network:
        """``forward``, or ``with_index``, of numpy arrays: here alone do they become tensors and tensors arrays."""
        forward = (self.with_index if index else None) or self.forward

        def run(images: Pixels) -> Maps:
            found: Maps = forward(torch.from_numpy(images).to(self.device)).float().cpu().numpy()
            return found

        return run if self.together else in_passes(run)


@dataclass(frozen=True)
class _How:
    """What all kinds of files have in common: how they are run."""

    average: Average
    machine: Machine
    digest: str
    engine: Wanted
    passes: float

    @property
    def precision(self) -> str:
        """float32, bf16 or fp16."""
        name = self.machine.mixed_precision()
        return "float32" if name == "no" else name

    def faster(self, held: Held | None, device: torch.device) -> dict[str, Any]:
        """A precision that may be tried first, and why or why not, where nobody said which and it can matter."""
        if self.machine.precision != "auto" or device.type != "cpu" or self.engine not in ("auto", "openvino"):
            return {}
        found, why = choose_precision(held, native=has_native_bf16(), installed=find_spec("openvino") is not None)
        return {"faster": "" if found == self.precision else found, "why": why}


def load_predictor(
    model_file: Path,
    views: Sequence[View],
    machine: Machine,
    *,
    scales: Sequence[float] = ONE_SCALE,
    engine: Wanted = "auto",
) -> Predictor:
    """Open a model file (.pt), an exported .onnx, .pt2 or TorchScript file, or the folder of a bundle.

    ``views`` and ``scales`` are what probabilities are averaged over, as ``inference.mean_over_views`` has it.
    ``engine`` is what may run it on a CPU, chosen for each raster (``inference.engine``).

    Raises:
        WeightsError: there is no such file, or it is none of these.
        ParamsError: ONNX without the extra ``export``; an engine that is not installed or cannot run this model.
    """
    weights = model_file / "model.onnx" if model_file.is_dir() else model_file
    if not weights.is_file():
        raise WeightsError(
            f"no model {weights}",
            expected="a model file, an exported model, a bundle or models:/NAME@ALIAS",
            cure="check the path",
        )
    digest = hashlib.blake2b(weights.read_bytes(), digest_size=16)
    digest.update(f"{list(views)} {list(scales)} {machine.torch_device()} {machine.mixed_precision()}".encode())
    passes = len(views) * sum(scale**2 for scale in scales)
    average = partial(mean_over_views, views=views, scales=scales)
    load: Callable[[Path, _How], Predictor] = _load_checkpoint
    if model_file.is_dir():
        load = _load_bundle
    elif model_file.suffix.lower() == ".onnx":
        load = _load_onnx
    elif model_file.suffix.lower() == ".pt2":
        load = _load_pt2
    elif _is_torchscript(model_file):
        load = _load_torchscript
    return load(model_file, _How(average, machine, digest.hexdigest(), engine, passes))


def _load_checkpoint(model_file: Path, how: _How) -> Predictor:
    from weakseg.training.segmenter import load_segmenter

    model, content = load_segmenter(model_file)
    device = how.machine.torch_device()
    network = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    held = read_held(content, str(model_file), engine="openvino", precision="bf16")
    known = read_applicability(content.get("applicability"))  # files of before 2026-11-28 have none
    if "scale" not in content:
        raise WeightsError(f"{model_file} says no scale", expected="a model of segment@SOURCE", cure="train it again")
    if known is not None:
        _check_depth(model, known, model_file)
        known = known.to(device)

    def exact(images: Tensor, index: bool) -> list[Tensor]:
        encoded = network.encode(images)
        said = [network.decode(encoded).float().softmax(1)]
        return [*said, known(encoded)] if index and known is not None else said

    def run(images: Tensor, index: bool) -> list[Tensor]:
        with how.machine.autocast():
            return exact(images, index)

    def to_onnx(index: bool) -> bytes:
        return network_bytes(partial(write_onnx, ExportNet(network, known if index else None).eval()))

    runner = Runner(
        "torch",
        run,
        exact=exact,
        to_onnx=to_onnx if device.type == "cpu" else None,
        wanted=how.engine,
        precision=how.precision,
        **how.faster(held, device),
        threads=how.machine.threads,
        passes=how.passes,
    )
    forward = partial(_forward, runner, how.average, model.preprocessing)
    return Predictor(
        partial(forward, index=False),
        scheme_of(content),
        float(content["scale"]),
        content.get("gsd"),
        device,
        how.digest,
        tuple(content.get("temperatures") or ()),
        None if known is None else partial(forward, index=True),
        model.preprocessing.bands,
        partial(_settle, runner, model.preprocessing, device),
        device.type != "cpu",
    )


def _check_depth(model: Segmenter, known: Applicability, model_file: Path) -> None:
    """Refuse an area of applicability that is of another encoder's features."""
    with torch.inference_mode():
        depth = join_scales(model.encode(torch.zeros(1, len(model.preprocessing.bands), 32, 32))).shape[1]
    if known.mean.numel() != depth:
        raise WeightsError(
            f"{model_file}: an area of applicability of {known.mean.numel()} features",
            expected=f"{depth}, as its network has",
            cure="train it again",
        )


def _forward(run: Run, average: Average, preprocessing: Preprocessing, images: Tensor, *, index: bool) -> Tensor:
    with torch.inference_mode():
        return _mean_of(run, average, normalise(images, preprocessing), index)


def _settle(
    runner: Runner,
    preprocessing: Preprocessing,
    device: torch.device,
    pixels: float,
    windows: Callable[[], Pixels],
    index: bool,
) -> Choice:
    return runner.settle(pixels, lambda: normalise(torch.from_numpy(windows()).to(device), preprocessing), index)


def _mean_of(run: Run, average: Average, images: Tensor, index: bool) -> Tensor:
    """Mean probabilities of normalised images and, where asked for, below them the index of the images as they are."""
    found: list[Tensor] = []

    def see(view: Tensor) -> Tensor:
        plain = view is images  # neither turned nor resized; not every choice of views has it
        probabilities, *rest = run(view, index and plain)
        found.extend(rest)
        return probabilities

    maps = average(see, images)
    if not index:
        return maps
    return torch.cat([maps, found[0] if found else run(images, True)[1]], 1)


def _load_bundle(folder: Path, how: _How) -> Predictor:
    session = open_session(folder / "model.onnx", max(1, how.machine.threads), only_cpu=False)
    described = describe_folder(folder)
    check_shapes(session, described)
    on_gpu = not runs_on_cpu(session)
    return _exported(session_plain(session), described, how, onnx=folder / "model.onnx", together=on_gpu)


def _load_onnx(model_file: Path, how: _How) -> Predictor:
    session = open_session(model_file, max(1, how.machine.threads), only_cpu=False)
    described = _described_in(model_file, session.get_modelmeta().custom_metadata_map.get(SETTINGS))
    check_shapes(session, described)
    run: Callable[[Tensor], Sequence[Tensor]] = session_plain(session)
    if described.side:
        run = at_side(run, described.side, one_by_one=True)
    return _exported(run, described, how, onnx=model_file, together=not runs_on_cpu(session))


def _load_pt2(model_file: Path, how: _How) -> Predictor:
    kept, device = {SETTINGS: ""}, how.machine.torch_device()
    with _no_pickles(), loading(model_file, "a torch.export program"):
        module = torch.export.load(model_file, extra_files=kept).module().to(device)
    described = _described_in(model_file, kept[SETTINGS])
    if described.side is None:
        raise WeightsError(f"{model_file} says no side", expected="one", cure="export the model again")
    run = at_side(lambda images: (module(images),), described.side, one_by_one=False)
    return _exported(run, described, how, device, together=device.type != "cpu")


def _load_torchscript(model_file: Path, how: _How) -> Predictor:
    kept, device = {SETTINGS: ""}, how.machine.torch_device()
    with warnings.catch_warnings(), loading(model_file, "a TorchScript file"):
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export
        script = torch.jit.load(str(model_file), map_location=device, _extra_files=kept)  # type: ignore[no-untyped-call]
    described = _described_in(model_file, kept[SETTINGS])

    def run(images: Tensor) -> Sequence[Tensor]:
        outputs = script(images)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return _exported(run, described, how, device, together=device.type != "cpu")


def _exported(
    run: Callable[[Tensor], Sequence[Tensor]],
    described: Described,
    how: _How,
    device: torch.device | None = None,
    *,
    onnx: Path | None = None,
    together: bool,
) -> Predictor:
    """A predictor of a network that takes normalised images and gives probabilities and, if asked for, the index.

    Args:
        device: of torch; None for ``onnx``, the file that runs under ONNX Runtime.
        together: as ``Predictor`` has it.
    """
    device = device or torch.device("cpu")
    preprocessing = Preprocessing(described.mean, described.std, described.bands)
    runner = Runner(
        "torch" if onnx is None else "onnx",
        lambda x, both: run(x)[: 1 + both],
        to_onnx=None if onnx is None or described.side else lambda _: onnx.read_bytes(),
        wanted=how.engine,
        **({} if onnx is None or described.side else how.faster(described.held, device)),
        threads=how.machine.threads,
        passes=how.passes,
    )
    forward = partial(_forward, runner, how.average, preprocessing)
    return Predictor(
        partial(forward, index=False),
        described.scheme,
        described.scale,
        described.gsd,
        device,
        how.digest,
        described.temperatures,
        partial(forward, index=True) if described.applicable else None,
        described.bands,
        partial(_settle, runner, preprocessing, device),
        together,
    )


@contextmanager
def _no_pickles() -> Iterator[None]:
    """torch.export unpickles anything where plain data does not do; torch's own switch forbids it."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FORCE)
        os.environ |= {} if before is None else {_FORCE: before}


def _is_torchscript(path: Path) -> bool:
    """Both kinds of torch file are zip archives; only a script has code in it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/", 1)[-1].startswith("code/") for name in archive.namelist())
    except BROKEN_ZIP:
        return False  # what reads model files says what is wrong


def _described_in(path: Path, text: str | bytes | None) -> Described:
    settings = parse_json(text, f"{path}, its settings", WeightsError) if text else None
    if not isinstance(settings, dict):
        raise WeightsError(
            f"{path} does not say its classes and preprocessing",
            expected="a file that `weakseg export` wrote",
            cure="export the model again",
        )
    return read_description(settings)
