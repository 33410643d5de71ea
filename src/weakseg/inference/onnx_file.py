"""An exported ONNX network under ONNX Runtime alone, and what every export says of its classes and preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import PLAIN, Bands, parse_bands
from weakseg.core.classes import ClassScheme, parse_classes
from weakseg.core.errors import ParamsError, WeaksegError, WeightsError
from weakseg.core.model_facts import check_facts
from weakseg.core.reading import read_json
from weakseg.inference.mapper import Maps, Network, Settle, in_passes
from weakseg.inference.precision import Held, read_held
from weakseg.raster.stream import Pixels


@dataclass(frozen=True)
class Described:
    """What a network needs beside its weights, as exports carry it; a folder's two JSON files, or a file's metadata.

    Attributes:
        mean, std: per band, in units of 255.
        side: px of the images that it takes, None for any size.
        held: what bf16 under OpenVINO costs it, None where nobody measured that.
        others: as :class:`weakseg.inference.model.Predictor` has them.
    """

    scheme: ClassScheme
    bands: Bands
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    gsd: float | None
    temperatures: tuple[float, ...]
    applicable: bool
    side: int | None
    held: Held | None


def read_description(content: Mapping[str, Any]) -> Described:
    """What ``export.model_files.settings_text`` wrote; anything else is a DataError or WeightsError."""
    scheme = parse_classes({key: content.get(key) for key in ("classes", "ignored", "background")}, "the model file")
    bands = parse_bands(content["bands"], "the model file") if "bands" in content else PLAIN
    check_facts({"mean": None, "std": None, **content}, bands, len(scheme), "the model file")
    return Described(
        scheme,
        bands,
        tuple(content["mean"]),
        tuple(content["std"]),
        float(content["scale"]),
        content.get("gsd"),
        tuple(content.get("temperatures") or ()),
        bool(content.get("applicable")),
        content.get("side"),
        read_held(content, "the model file", engine="openvino", precision="bf16"),
    )


def describe_folder(folder: Path) -> Described:
    """What the two JSON files of a bundle say."""
    files = (folder / "preprocessing.json", folder / "classes.json")
    parts = [read_json(file, WeightsError) for file in files]
    return read_description({key: value for part in parts if isinstance(part, dict) for key, value in part.items()})


def open_session(path: Path, threads: int, *, only_cpu: bool = True) -> Any:
    """An onnxruntime session.

    Args:
        threads: 0 for all cores.
        only_cpu: else whatever else this onnxruntime can run on comes first.

    Raises:
        ParamsError: there is no onnxruntime.
        WeightsError: the file is no network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ParamsError("no onnxruntime", expected="the extra export", cure="install weakseg[export]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"] if only_cpu else onnxruntime.get_available_providers()
    with loading(path, "an ONNX model"):
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        session.get_modelmeta()  # texts that are none are found here
        return session


def runs_on_cpu(session: Any) -> bool:
    """Whether an onnxruntime session has nothing but the CPU here; Azure's provider calls networks elsewhere."""
    return set(session.get_providers()) <= {"CPUExecutionProvider", "AzureExecutionProvider"}


@contextmanager
def loading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a runtime raises of a file, as one sentence: their errors have no base of their own."""
    try:
        yield
    except (WeaksegError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(
            f"{path} does not load ({reason})", expected=kind, cure="run `weakseg export` again"
        ) from error


def check_shapes(session: Any, described: Described) -> None:
    """Refuse (WeightsError) a network whose numbers of bands or classes are not those that its file names."""
    shapes = [value.shape for value in (session.get_inputs()[0], session.get_outputs()[0])]
    told = (("bands", len(described.bands)), ("classes", len(described.scheme)))
    for (what, number), shape in zip(told, shapes, strict=True):
        found = shape[1] if len(shape) == 4 else number
        if isinstance(found, int) and found != number:
            raise WeightsError(
                f"a network of {found} {what}, whose file names {number}", expected="as many", cure="export it again"
            )


def run_session(session: Any, images: npt.NDArray[np.float32]) -> list[Maps]:
    """Normalised images (B, K, h, w) -> all outputs of an onnxruntime session."""
    try:
        found: list[Maps] = session.run(None, {"image": np.ascontiguousarray(images)})
    except Exception as error:  # of kinds without a base of their own
        reason = " ".join(str(error).split())[-120:]
        raise WeightsError(
            f"the network does not run on {images.shape} ({reason})", expected="one of weakseg", cure="export it again"
        ) from error
    return found


@dataclass(frozen=True)
class OnnxMapper(Described):
    """A bundle's network as a :class:`weakseg.inference.mapper.Mapper`: one pass per window, float32 on the CPU."""

    session: Any
    digest: str
    settle: Settle | None = None

    def network(self, *, index: bool = False) -> Network:
        """See the protocol."""
        mean, std = (np.array(values, np.float32)[:, None, None] * np.float32(255) for values in (self.mean, self.std))

        def run(images: Pixels) -> Maps:
            outputs = run_session(self.session, (images.astype(np.float32) - mean) / std)
            return np.concatenate(outputs[: 1 + index], axis=1)

        return in_passes(run)


def open_bundle(folder: Path, threads: int) -> OnnxMapper:
    """The network of a bundle's folder; ``threads`` as :func:`open_session` has it."""
    weights = folder / "model.onnx"
    session = open_session(weights, threads)
    described = describe_folder(folder)
    check_shapes(session, described)
    digest = hashlib.blake2b(weights.read_bytes(), digest_size=16).hexdigest()
    return OnnxMapper(**vars(described), session=session, digest=digest)
