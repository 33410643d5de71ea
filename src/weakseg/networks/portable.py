"""A segmenter as one graph of tensor operations that takes images of any size, and that graph as ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from weakseg.networks.applicability import Applicability
from weakseg.networks.build import Segmenter
from weakseg.networks.encdec_unpool import Crop, EncDecUnpool, Encoded

OPSET: Final = 18
TRACED: Final = (2, 70, 90)  # images and a size that needs padding, so that the padding is in the graph


class ExportNet(nn.Module):
    """A segmenter whose padding is tensor operations all through: a graph of it takes any size.

    Args of forward: normalised images (B, K, H, W). Returns probabilities (B, C, H, W), and with ``known`` the
    dissimilarity index over its limit (B, 1, H, W) beside them.
    """

    def __init__(self, model: Segmenter, known: Applicability | None = None) -> None:
        super().__init__()
        self.net = model.net
        self.channels = len(model.preprocessing.mean)
        self.known = known

    def zeros(self, images: int, height: int, width: int) -> Tensor:
        """An input of this size."""
        return torch.zeros(images, self.channels, height, width)

    @property
    def outputs(self) -> list[str]:
        """Their names."""
        return ["probabilities"] if self.known is None else ["probabilities", "dissimilarity"]

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        height, width = image.shape[-2], image.shape[-1]
        rows, top = _repeat_border(height, self.net.stride, image.device)
        columns, left = _repeat_border(width, self.net.stride, image.device)
        padded = image.index_select(2, rows).index_select(3, columns)
        crop = Crop(top, left, height, width)
        if isinstance(self.net, EncDecUnpool):
            bottleneck, indices = self.net.encoder(padded)
            encoded = Encoded((padded, bottleneck), indices, crop)
        else:
            encoded = Encoded(tuple(self.net.encoder(padded)), (), crop)
        probabilities = self.net.decode(encoded).softmax(1)
        return probabilities if self.known is None else (probabilities, self.known(encoded))


def _repeat_border(length: int, multiple: int, device: torch.device) -> tuple[Tensor, int]:
    """(source px of every padded px, px padded before): encdec_unpool.pad_to_multiple as an index."""
    missing = (multiple - length % multiple) % multiple
    before = missing // 2
    places = torch.arange(length + missing, device=device) - before
    return places.clamp(min=0).clamp(max=length - 1), before


@contextmanager
def quiet() -> Iterator[None]:
    """torch warns of the tracer's limits; the parity check at other sizes tests what it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_onnx(network: ExportNet, target: Path | BytesIO) -> None:
    """Write a network as ONNX: input ``image``, outputs by their names, batch and sides free.

    The TorchScript-based exporter: the torch.export-based one took more than 70 s of CPU for these networks (2.15).
    """
    names = ("image", *network.outputs)
    with quiet():
        torch.onnx.export(
            network,
            (network.zeros(*TRACED),),
            target,  # type: ignore[arg-type]  # a stream is taken too; the stub says paths alone
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=network.outputs,
            dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in names},
        )
