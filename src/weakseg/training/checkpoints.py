"""Checkpoints: one file of tensors and plain data, loaded with weights_only and checked by name and shape.

A *model file* holds what inference needs: weights, network parameters, class scheme, preprocessing, ground sampling.
A *resume file* holds the whole state of a training; it exists only while that training is unfinished.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weakseg.core.bands import PLAIN, Bands, parse_bands
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import WeightsError
from weakseg.core.files import atomic_path
from weakseg.data.crops.augment import Preprocessing

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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(
            f"{path} does not load ({reason})", expected="a weakseg checkpoint", cure="make it anew"
        ) from error
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
    return described if preprocessing.bands == PLAIN else {**described, "bands": preprocessing.bands.content()}


def bands_of(checkpoint: dict[str, Any]) -> Bands:
    """The bands of the images that a checkpoint was trained on; files of before 2026-11-29 say none, and have three."""
    return parse_bands(checkpoint["bands"], "the model file") if "bands" in checkpoint else PLAIN


def scheme_of(checkpoint: dict[str, Any]) -> ClassScheme:
    """The class scheme a checkpoint was trained with."""
    stored = checkpoint["classes"]
    return ClassScheme(
        tuple(stored["names"]),
        tuple((r, g, b) for r, g, b in stored["colours"]),
        tuple((name, (r, g, b)) for name, (r, g, b) in stored["ignored"]),
        background=stored.get("background", ""),
    )


def load_weights(module: nn.Module, state: dict[str, Any], name: str) -> None:
    """Strict load; differing names or shapes raise WeightsError with the first few of them."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise WeightsError(
            f"{name} does not fit the network: {' '.join(lines)[:300]}",
            expected="weights of the network that its parameters describe",
            cure="use the params.yaml it was trained with, or train again",
        ) from error
