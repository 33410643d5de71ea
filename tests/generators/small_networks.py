"""Model files of small random networks, as the segment stage writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from weakseg.core.classes import ISPRS
from weakseg.core.params import NetworkParams
from weakseg.training.checkpoints import describe_model, save_checkpoint
from weakseg.training.segmenter import segmenter_of


def unpool(width: int) -> dict[str, Any]:
    """The section of a small EncDecUnpool."""
    return {
        "name": "encdec_unpool",
        "encoder": "",
        "width": width,
        "encoder_depth": 5,
        "decoder_channels": [8, 8, 8],
    }


def save_network(path: Path, network: Mapping[str, Any], *, seed: int = 0, **more: Any) -> Path:
    """A network of random weights for the ISPRS classes; ``more`` are further entries (scale, gsd)."""
    torch.manual_seed(seed)
    params = NetworkParams.model_validate({**network, "weights": "none", "dropout": 0.0})
    model = segmenter_of(params, len(ISPRS))
    content = describe_model(params.model_dump(mode="json"), ISPRS, model.preprocessing)
    save_checkpoint(path, {**content, **more, "weights": model.state_dict()})
    return path
