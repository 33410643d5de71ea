"""Networks of one size of image, as some exports are: smaller images are filled up, larger ones refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import ParamsError

Run = Callable[[Tensor], Sequence[Tensor]]


def at_side(run: Run, side: int, *, one_by_one: bool) -> Run:
    """A network for images up to ``side`` px, of one that takes just ``side`` x ``side`` px.

    What is missing to the right and below repeats the border, and is cut off the outputs.

    Args:
        run: normalised images (B, 3, side, side) -> outputs (B, C, side, side).
        one_by_one: it takes one image at a time.

    Raises:
        ParamsError: an image that is larger.
    """

    def run_padded(images: Tensor) -> Sequence[Tensor]:
        height, width = images.shape[2:]
        if max(height, width) > side:
            raise ParamsError(
                f"windows of {height} x {width} px",
                expected=f"at most {side} px, for which the model was exported",
                cure=f"pass --window {side} and no --scales above 1, or export --to onnx",
            )
        whole = F.pad(images, (0, side - width, 0, side - height), mode="replicate")
        groups = [run(part) for part in (whole.chunk(len(whole)) if one_by_one else [whole])]
        return [torch.cat(parts)[..., :height, :width] for parts in zip(*groups, strict=True)]

    return run_padded
