"""Opening what the training stages saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import WeightsError
from weakseg.core.model_facts import check_facts
from weakseg.core.params import NetworkParams
from weakseg.networks.build import Segmenter, build_segmenter
from weakseg.networks.weights import LITES
from weakseg.training.checkpoints import bands_of, check_bands, load_checkpoint, load_weights, scheme_of


def load_segmenter(
    path: Path, *, classes: ClassScheme | None = None, tiles: Bands | None = None
) -> tuple[Segmenter, dict[str, Any]]:
    """(network in evaluation mode, the rest of its model file) from a file that segment@SOURCE wrote.

    ``classes`` and the bands of the ``tiles`` are those of the workspace, where the network has to have the same ones
    in the same order.

    Raises:
        WeightsError: anything else.
    """
    content = load_checkpoint(path)
    scheme, bands, params = scheme_of(content), bands_of(content), _network_of(content, path)
    if classes is not None and scheme.names != classes.names:
        raise WeightsError(
            f"{path} knows the classes {', '.join(scheme.names)}",
            expected=f"{', '.join(classes.names)}, as out/tiles/classes.yaml has them",
            cure="train it again (`dvc repro`)",
        )
    if tiles is not None:
        check_bands(bands, tiles, path)
    if "scale" in content:
        check_facts({key: content.get(key) for key in ("scale", "gsd", "temperatures")}, bands, len(scheme), str(path))
    if params.name != "encdec_unpool" and params.encoder not in LITES:
        with torch.device("meta"):  # of no bytes: its size is the file's to say, and not yet known to fit
            load_weights(segmenter_of(params, len(scheme), bands), content.get("weights"), str(path))
    model = segmenter_of(params, len(scheme), bands)
    load_weights(model, content.get("weights"), str(path))
    return model.eval(), content


def _network_of(content: dict[str, Any], path: Path) -> NetworkParams:
    try:
        # files of before 2026-11-27 have no depth: all scales were in use
        return NetworkParams.model_validate({"encoder_depth": 5, **content["network"], "weights": "none"})
    except (KeyError, TypeError, ValueError) as error:  # pydantic's error is a ValueError
        raise WeightsError(
            f"{path} describes no network ({error})", expected="a model as weakseg writes it", cure="train it again"
        ) from error


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
