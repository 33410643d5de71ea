"""A STAC item beside an exported model, with the extension for machine-learning models (MLM)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from weakseg.core.bands import PLAIN, Bands, parse_bands
from weakseg.core.errors import ParamsError
from weakseg.export.model_files import open_network
from weakseg.maps.stac import CLASSIFICATION, class_objects, new_item, save_item
from weakseg.networks.portable import ExportNet

MLM: Final = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
_FORMATS: Final = {  # framework, kind of file, media type
    "onnx": ("ONNX", "onnx", "application/octet-stream; framework=onnx"),
    "deepness": ("ONNX", "onnx", "application/octet-stream; framework=onnx"),
    "bundle": ("ONNX", "onnx", "application/octet-stream; framework=onnx"),
    "torchscript": ("PyTorch", "torch.jit.save", "application/octet-stream; application=pytorch"),
    "pt2": ("PyTorch", "torch.export.save", "application/octet-stream; application=pytorch"),
}


def write_model_item(model_file: Path, target: Path, kind: str, *, side: int | None = None) -> Path:
    """Write ``m.onnx.stac.json`` beside the export ``m.onnx``; returns its path.

    Args:
        model_file: what was exported into ``target``, a file or the folder of a bundle.
        kind: onnx, deepness, torchscript, pt2 or bundle.
        side: px of the images that it takes, None for any size.
    """
    if kind not in _FORMATS:
        raise ParamsError(f"export {kind}", expected=" | ".join(_FORMATS), cure="name one of them")
    network, scheme, settings = open_network(model_file)
    framework, artifact, media = _FORMATS[kind]
    item = new_item(target.stem, None)
    item["stac_extensions"] = [MLM, CLASSIFICATION]
    classes = class_objects(scheme)
    item["properties"] |= {
        "mlm:name": "weakseg-" + (re.sub(r"[^a-zA-Z0-9_.-]", "-", target.stem).strip("-_.") or "model"),
        "mlm:architecture": type(network.net).__name__,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": framework,
        "mlm:total_parameters": _count(network),
        "mlm:input": [_input(settings, side)],
        "mlm:output": [_output(classes, side)],
    }
    file = f"./{target.name}/model.onnx" if kind == "bundle" else f"./{target.name}"
    item["assets"]["model"] = {
        "href": file,
        "type": media,
        "title": f"{artifact} model",
        "roles": ["mlm:model"],
        "mlm:artifact_type": artifact,
        "bands": [{"name": name} for name in _bands(settings).names],
    }
    return save_item(item, target.with_name(f"{target.name}.stac.json"))  # q.onnx and q.pt2 may lie side by side


def _bands(settings: dict[str, Any]) -> Bands:
    return parse_bands(settings["bands"], "the model file") if "bands" in settings else PLAIN


def _count(network: ExportNet) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _input(settings: dict[str, Any], side: int | None) -> dict[str, Any]:
    """Pixels / 255, then (value - mean) / std per band; -1 in a shape stands for any size."""
    scaled = [
        {"type": "z-score", "mean": 255 * mean, "stddev": 255 * std}
        for mean, std in zip(settings["mean"], settings["std"], strict=True)
    ]
    bands = _bands(settings)
    kinds = "8 bits per band" if bands.plain else ", ".join(f"{band.name} {band.dtype}" for band in bands.members)
    seen = f" at {settings['gsd'] / settings['scale']:.4g} m per px" if settings["gsd"] else ""
    return {
        "name": "image",
        "bands": list(_bands(settings).names),
        "input": {
            "shape": [-1, len(settings["mean"]), side or -1, side or -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": scaled,
        "resize_type": None,
        "description": f"{kinds}, in the order of the training images{seen}, scaled as value_scaling says",
    }


def _output(classes: list[dict[str, Any]], side: int | None) -> dict[str, Any]:
    return {
        "name": "probabilities",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, len(classes), side or -1, side or -1],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": classes,
    }
