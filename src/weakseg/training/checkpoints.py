"""Checkpoints: one file of tensors and plain data, loaded with weights_only and checked by name and shape.

A *model file* holds what inference needs: weights, network parameters, class scheme, preprocessing, ground sampling.
A *resume file* holds the whole state of a training; it exists only while that training is unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.core.bands import PLAIN, Bands, parse_bands
from weakseg.core.classes import ClassScheme, parse_classes
from weakseg.core.errors import DataError, WeightsError
from weakseg.core.files import atomic_path
from weakseg.core.model_facts import no_model
from weakseg.data.crops.augment import Preprocessing
from weakseg.networks.tensor_files import is_finite, read_tensors

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data (dict, list, str, numbers) whole or not at all; equal content gives equal bytes.

    Given a path, torch names a folder inside the archive after the file, which has a temporary name here; given an open
    file it always takes the same name.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU without unpickling code; anything else raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"no checkpoint {path}", expected="a file that a stage wrote", cure="run `dvc repro`")
    content = read_tensors(path, says="does not load", expected="a weakseg checkpoint", cure="make it anew")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(f"{path} is not of format {FORMAT}", expected="a weakseg checkpoint", cure="make it anew")
    return content


def describe_model(network: dict[str, Any], scheme: ClassScheme, preprocessing: Preprocessing) -> dict[str, Any]:
    """What a model file says beside its weights, as plain data."""
    described: dict[str, Any] = {
        "network": network,
        "classes": {
            "names": list(scheme.names),
            "colours": [list(colour) for colour in scheme.colours],
            "ignored": [[name, list(colour)] for name, colour in scheme.ignored],
            **({"background": scheme.background} if scheme.background else {}),
        },
        "preprocessing": preprocessing.numbers(),
    }
    return described | describe_bands(preprocessing.bands)


def describe_bands(bands: Bands) -> dict[str, Any]:
    """What a checkpoint says of the bands of its images: nothing where they are what images always were."""
    return {} if bands == PLAIN else {"bands": bands.content()}


def bands_of(checkpoint: Mapping[str, Any]) -> Bands:
    """The bands of the images that a checkpoint was trained on; files of before 2026-11-29 say none, and have three."""
    return parse_bands(checkpoint["bands"], "the model file") if "bands" in checkpoint else PLAIN


def check_bands(bands: Bands, tiles: Bands, path: Path) -> None:
    """Refuse (WeightsError) a network of other bands than the workspace's tiles: names, order and depths.

    Three bands of 8 bits without names may be those that have some: files of before there were names say none.
    """
    nameless = PLAIN.names in (bands.names, tiles.names) and bands.plain and tiles.plain
    found, wanted = ([f"{band.name} ({band.dtype})" for band in each.members] for each in (bands, tiles))
    if found != wanted and not nameless:
        raise WeightsError(
            f"{path} knows the bands {', '.join(found)}",
            expected=f"{', '.join(wanted)}, as out/tiles has them",
            cure="train it again (`dvc repro`)",
        )


def scheme_of(checkpoint: Mapping[str, Any]) -> ClassScheme:
    """The class scheme a checkpoint was trained with; WeightsError where it says none."""
    try:
        stored = checkpoint["classes"]
        rows = [{"name": n, "colour": c} for n, c in zip(stored["names"], stored["colours"], strict=True)]
        ignored = [{"name": name, "colour": colour} for name, colour in stored["ignored"]]
        table = {"classes": rows, "ignored": ignored, "background": stored.get("background") or None}
        return parse_classes(table, "the model file")
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise no_model("the model file", f"classes ({type(error).__name__}: {error})") from error


def _widens(value: Tensor, wanted: Tensor) -> bool:
    """Whether a float becomes a wider one without a loss."""
    floats = value.is_floating_point() and wanted.is_floating_point()
    return floats and value.element_size() < wanted.element_size()


def load_weights(module: nn.Module, state: Any, name: str) -> None:
    """Strict load; differing names, dtypes or shapes, or values that are not finite, raise WeightsError with a few.

    Floats may be narrower than the network's, as files in half precision have them.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise no_model(name, "weights")
    wanted = module.state_dict()
    others = [
        key
        for key, value in state.items()
        if key in wanted and value.dtype != wanted[key].dtype
        if not _widens(value, wanted[key])
    ]
    if others:
        found = f"{others[0]} of {state[others[0]].dtype}"
        raise WeightsError(f"{name}: {found}", expected=f"{wanted[others[0]].dtype}", cure="train again")
    spoilt = [str(key) for key, value in state.items() if not is_finite(value)]
    if spoilt:
        raise WeightsError(
            f"{name}: weights that are not finite in {', '.join(spoilt[:3])}", expected="numbers", cure="train again"
        )
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:  # the latter two of names that are no texts
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise WeightsError(
            f"{name} does not fit the network: {' '.join(lines)[:300]}",
            expected="weights of the network that its parameters describe",
            cure="use the params.yaml it was trained with, or train again",
        ) from error
