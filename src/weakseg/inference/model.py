"""Opening a trained model for prediction: a model file, or anything that ``weakseg export`` wrote.

What a network needs beside its weights (classes, preprocessing, scale, ground sampling distance) travels with each of
these; :func:`weakseg.registry.addresses.find_model` turns an address in MLflow's registry into such a file.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from weakseg.core.bands import PLAIN, Bands, parse_bands
from weakseg.core.classes import ClassScheme, parse_classes
from weakseg.core.errors import ParamsError, WeightsError
from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.inference.fixed import at_side
from weakseg.inference.scene import ONE_SCALE, View, mean_over_views
from weakseg.networks.applicability import read_applicability
from weakseg.training.checkpoints import scheme_of
from weakseg.training.machine import Machine

SETTINGS: Final = "weakseg.json"  # metadata property of an ONNX file, extra file of a TorchScript one


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

    @property
    def applicable(self) -> bool:
        """Whether the model knows what it was trained on."""
        return self.with_index is not None


def load_predictor(
    model_file: Path, views: Sequence[View], machine: Machine, *, scales: Sequence[float] = ONE_SCALE
) -> Predictor:
    """Open a model file (.pt), an exported .onnx, .pt2 or TorchScript file, or the folder of a bundle.

    ``views`` and ``scales`` are what probabilities are averaged over, as ``inference.mean_over_views`` has it.

    Raises:
        WeightsError: there is no such file, or it is none of these.
        ParamsError: ONNX without the extra ``export``.
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
    average = partial(mean_over_views, views=views, scales=scales)
    load: Callable[[Path, Average, Machine, str], Predictor] = _load_checkpoint
    if model_file.is_dir():
        load = _load_bundle
    elif model_file.suffix.lower() == ".onnx":
        load = _load_onnx
    elif model_file.suffix.lower() == ".pt2":
        load = _load_pt2
    elif _is_torchscript(model_file):
        load = _load_torchscript
    return load(model_file, average, machine, digest.hexdigest())


Run = Callable[[Tensor, bool], Sequence[Tensor]]
"""Normalised images, and whether to give the index -> probabilities (B, C, h, w) and, second, that (B, 1, h, w)."""
Average = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""A network (normalised images -> probabilities) and images -> the mean probabilities over views and scales."""


def _load_checkpoint(model_file: Path, average: Average, machine: Machine, digest: str) -> Predictor:
    from weakseg.training.segmenter import load_segmenter

    model, content = load_segmenter(model_file)
    device = machine.torch_device()
    preprocessing = model.preprocessing
    network = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    known = read_applicability(content.get("applicability"))  # files of before 2026-11-28 have none
    known = known and known.to(device)

    def run(images: Tensor, index: bool) -> list[Tensor]:
        encoded = network.encode(images)
        said = [network.decode(encoded).float().softmax(1)]
        return [*said, known(encoded)] if index and known is not None else said

    def forward(images: Tensor, *, index: bool = False) -> Tensor:
        with torch.inference_mode(), machine.autocast():
            return _mean_of(run, average, normalise(images, preprocessing), index)

    return Predictor(
        forward,
        scheme_of(content),
        float(content["scale"]),
        content.get("gsd"),
        device,
        digest,
        tuple(content.get("temperatures") or ()),
        None if known is None else partial(forward, index=True),
        preprocessing.bands,
    )


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


def _load_bundle(folder: Path, average: Average, machine: Machine, digest: str) -> Predictor:
    settings = json.loads((folder / "preprocessing.json").read_text())
    settings |= json.loads((folder / "classes.json").read_text())
    session = _open_session(folder / "model.onnx", machine)
    return _exported(run_session(session), settings, average, torch.device("cpu"), digest)


def _load_onnx(model_file: Path, average: Average, machine: Machine, digest: str) -> Predictor:
    session = _open_session(model_file, machine)
    settings = _settings_in(model_file, session.get_modelmeta().custom_metadata_map.get(SETTINGS))
    run: Callable[[Tensor], Sequence[Tensor]] = run_session(session)
    if settings.get("side"):
        run = at_side(run, settings["side"], one_by_one=True)
    return _exported(run, settings, average, torch.device("cpu"), digest)


def _load_pt2(model_file: Path, average: Average, machine: Machine, digest: str) -> Predictor:
    kept, device = {SETTINGS: ""}, machine.torch_device()
    program = torch.export.load(model_file, extra_files=kept)
    settings, module = _settings_in(model_file, kept[SETTINGS]), program.module().to(device)
    run = at_side(lambda images: (module(images),), settings["side"], one_by_one=False)
    return _exported(run, settings, average, device, digest)


def _load_torchscript(model_file: Path, average: Average, machine: Machine, digest: str) -> Predictor:
    kept, device = {SETTINGS: ""}, machine.torch_device()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export
        script = torch.jit.load(str(model_file), map_location=device, _extra_files=kept)  # type: ignore[no-untyped-call]
    settings = _settings_in(model_file, kept[SETTINGS])

    def run(images: Tensor) -> Sequence[Tensor]:
        outputs = script(images)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return _exported(run, settings, average, device, digest)


def _exported(
    run: Callable[[Tensor], Sequence[Tensor]],
    settings: dict[str, Any],
    average: Average,
    device: torch.device,
    digest: str,
) -> Predictor:
    """A predictor of a network that takes normalised images and gives probabilities and, if asked for, the index."""
    bands = parse_bands(settings["bands"], "the model file") if "bands" in settings else PLAIN
    preprocessing = Preprocessing(tuple(settings["mean"]), tuple(settings["std"]), bands)

    def forward(images: Tensor, *, index: bool = False) -> Tensor:
        with torch.inference_mode():
            return _mean_of(lambda x, both: run(x)[: 1 + both], average, normalise(images, preprocessing), index)

    table = {key: settings.get(key) for key in ("classes", "ignored", "background")}
    scheme, scale = parse_classes(table, "the model file"), float(settings["scale"])
    temperatures = tuple(settings.get("temperatures") or ())
    with_index = partial(forward, index=True) if settings.get("applicable") else None
    return Predictor(forward, scheme, scale, settings["gsd"], device, digest, temperatures, with_index, bands)


def _open_session(path: Path, machine: Machine) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidProtobuf
    except ImportError as error:
        raise ParamsError("no onnxruntime", expected="the extra export", cure="install weakseg[export]") from error
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = max(1, machine.threads)
    try:
        return onnxruntime.InferenceSession(str(path), threads, providers=onnxruntime.get_available_providers())
    except (Fail, InvalidProtobuf) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(
            f"{path} does not load ({reason})", expected="an ONNX model", cure="run `weakseg export` again"
        ) from error


def run_session(session: Any) -> Callable[[Tensor], list[Tensor]]:
    """Normalised images -> all outputs of an onnxruntime session."""

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"image": images.contiguous().numpy()})]

    return run


def _is_torchscript(path: Path) -> bool:
    """Both kinds of torch file are zip archives; only a script has code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/", 1)[-1].startswith("code/") for name in archive.namelist())


def _settings_in(path: Path, text: str | bytes | None) -> dict[str, Any]:
    if not text:
        raise WeightsError(
            f"{path} does not say its classes and preprocessing",
            expected="a file that `weakseg export` wrote",
            cure="export the model again",
        )
    settings: dict[str, Any] = json.loads(text)
    return settings
