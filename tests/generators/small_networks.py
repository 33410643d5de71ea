"""Model files of small random networks, as the segment stage writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weakseg.core.classes import ISPRS
from weakseg.core.params import NetworkParams
from weakseg.networks.build import build_segmenter
from weakseg.training.checkpoints import describe_model, save_checkpoint


def save_network(path: Path, *, width: int, **more: Any) -> Path:
    """An EncDecUnpool of the ISPRS classes with seed 0; ``more`` are further entries (scale, gsd)."""
    torch.manual_seed(0)
    network = {"name": "encdec_unpool", "encoder": "", "weights": "none", "width": width, "dropout": 0.0,
               "encoder_depth": 5, "decoder_channels": [8, 8, 8]}  # fmt: skip
    params = NetworkParams.model_validate(network)
    model = build_segmenter(
        params.name, 5, encoder="", weights="none", width=width, dropout=0.0, decoder_channels=params.decoder_channels
    )
    content = describe_model(params.model_dump(mode="json"), ISPRS, model.preprocessing)
    save_checkpoint(path, {**content, **more, "weights": model.state_dict()})
    return path
