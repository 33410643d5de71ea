"""Which classes may occur at each pixel of a batch: :class:`weakseg.core.class_sets.Allowed` as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg.core.class_sets import NO_CLASS


@dataclass(frozen=True)
class AllowedBatch:
    """Which classes may occur at each pixel.

    Attributes:
        numbers: int32 or int64 (B, H, W), rows of ``sets``; 0 is the empty set, 1 that of all classes.
        sets: bool (S, C).
    """

    numbers: Tensor
    sets: Tensor

    @property
    def shape(self) -> torch.Size:
        """(B, H, W)."""
        return self.numbers.shape

    @property
    def some(self) -> Tensor:
        """Pixels that some class fits, bool (B, H, W)."""
        return self.numbers != NO_CLASS

    def channels(self) -> Tensor:
        """bool (B, C, H, W); none is set where no class fits."""
        return self.sets.to(self.numbers.device)[self.numbers.long()].movedim(-1, 1).contiguous()

    def or_every(self) -> Tensor:
        """The same, but all are set where no class fits: a contradiction is no constraint."""
        channels = self.channels()
        return channels | ~self.some.unsqueeze(1)
