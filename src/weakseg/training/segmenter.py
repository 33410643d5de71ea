"""Opening what the training stages saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.params import NetworkParams
from weakseg.networks.build import Segmenter, build_segmenter
from weakseg.training.checkpoints import bands_of, load_checkpoint, load_weights, scheme_of


def load_segmenter(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """(network in evaluation mode, the rest of its model file) from a file that segment@SOURCE wrote."""
    content = load_checkpoint(path)
    # files of before 2026-11-27 have no depth: all scales were in use
    params = NetworkParams.model_validate({"encoder_depth": 5, **content["network"], "weights": "none"})
    model = segmenter_of(params, len(scheme_of(content)), bands_of(content))
    load_weights(model, content["weights"], str(path))
    return model.eval(), content


def segmenter_of(params: NetworkParams, classes: int, bands: Bands = PLAIN) -> Segmenter:
    """The network that the params describe, for images of these bands."""
    return build_segmenter(
        params.name,
        classes,
        encoder=params.encoder,
        weights=params.weights,
        width=params.width,
        dropout=params.dropout,
        decoder_channels=params.decoder_channels,
        encoder_depth=params.encoder_depth,
        bands=bands,
    )
