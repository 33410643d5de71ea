"""Exports whose images have one size: ONNX for Deepness, a plugin of QGIS, and torch.export programs (``.pt2``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch

from weakseg.core.bands import parse_bands
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import ParamsError
from weakseg.core.files import atomic_path
from weakseg.export.model_files import add_properties, check_parity, open_network, settings_text
from weakseg.inference.engine import session_plain
from weakseg.inference.model import SETTINGS
from weakseg.inference.onnx_file import open_session
from weakseg.networks.portable import OPSET, quiet

SIDE: Final = 512  # px of the images, as the windows of `weakseg predict`
_OVERLAP: Final = 25  # percent of neighbouring tiles that Deepness proposes


def export_deepness(model_file: Path, target: Path, *, side: int = SIDE) -> float:
    """Write an ``.onnx`` file that runs in QGIS without weakseg; returns the largest difference of a probability.

    Deepness (https://github.com/PUTvision/qgis-plugin-deepness) takes models whose input is one square image of known
    size, which is why this is another file than :func:`weakseg.export.model_files.export_onnx` writes.

    Raises:
        WeightsError: the exported network differs by more than 1e-4.
        ParamsError: the extra ``export`` is not installed.
    """
    network, scheme, content = open_network(model_file)
    if "bands" in content and not parse_bands(content["bands"], "the model file").plain:
        raise ParamsError(
            f"a model of {network.channels} bands, not three of 8 bits",
            expected="pictures, which Deepness gives a model",
            cure="export --to onnx",
        )
    with atomic_path(target) as temporary:
        with quiet():
            torch.onnx.export(
                network,
                (network.zeros(1, side, side),),
                temporary,
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=network.outputs,
            )
        settings = settings_text(scheme, content | {"side": side})
        add_properties(temporary, {SETTINGS: settings} | deepness_metadata(scheme, content, side))
        return check_parity(target, network, session_plain(open_session(temporary, 0)), [(1, side, side)])


def deepness_metadata(scheme: ClassScheme, settings: dict[str, Any], side: int) -> dict[str, str]:
    """What Deepness looks up in an ONNX file, each as JSON.

    Its pages name the size of tiles ``tiles_size`` while its code reads ``tile_size``: both are there. A threshold or a
    least size of segments would turn undecided pixels into the first class, so both are switched off.
    """
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(scheme.names)},
        "tile_size": side,
        "tiles_size": side,
        "tiles_overlap": _OVERLAP,
        "standardization_mean": [float(value) for value in settings["mean"]],
        "standardization_std": [float(value) for value in settings["std"]],
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if settings["gsd"]:
        values["resolution"] = 100 * settings["gsd"] / settings["scale"]  # cm per px of what the network sees
    return {key: json.dumps(value) for key, value in values.items()}


def export_pt2(model_file: Path, target: Path, *, side: int = SIDE) -> float:
    """Write a torch.export program (``torch.export.load``); returns the largest difference of a probability.

    Batches of any number of images of ``side`` x ``side`` px. With free sides the program of one of our networks does
    not load again and takes minutes to make (torch 2.15).

    Raises:
        WeightsError: the exported network differs by more than 1e-4.
        ParamsError: another suffix than ``.pt2``.
    """
    if target.suffix != ".pt2":
        raise ParamsError(f"{target}", expected="a name that ends in .pt2", cure="rename it")
    network, scheme, content = open_network(model_file)
    batch = torch.export.Dim("batch", min=1, max=1024)
    example = network.zeros(2, side, side)
    with atomic_path(target) as temporary, quiet(), torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes={"image": {0: batch}}, strict=False)
        torch.export.save(program, temporary, extra_files={SETTINGS: settings_text(scheme, content | {"side": side})})
        loaded = torch.export.load(temporary).module()
        return check_parity(target, network, loaded, [(1, side, side), (3, side, side)])
