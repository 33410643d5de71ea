"""Which classes may occur at each pixel of a batch: :class:`weakseg.core.class_sets.Allowed` as tensors.

Tags of stated error rates (:class:`weakseg.core.tag_errors.TagErrors`) weigh classes instead of allowing them or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakseg.core.class_sets import EVERY_CLASS, NO_CLASS
from weakseg.core.tag_errors import TagErrors


@dataclass(frozen=True)
class AllowedBatch:
    """Which classes may occur at each pixel.

    Attributes:
        numbers: int32 or int64 (B, H, W), rows of ``sets``; 0 is the empty set, 1 that of all classes.
        sets: bool (S, C).
        errors: of the tags that the sets are from; None: they are right.
    """

    numbers: Tensor
    sets: Tensor
    errors: TagErrors | None = None

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
        return self._planes(self.sets)

    def evidence(self) -> Tensor:
        """Weights of the classes' probabilities, float32 (B, C, H, W): 1 in the set and 0 outside, or by ``errors``.

        All are 1 where no class fits, as a contradiction is no constraint, and where all do: most such pixels have no
        tag.
        """
        if self.errors is None:
            table = self.sets.float()
            table[NO_CLASS] = 1.0
            return self._planes(table)
        return self._weighed(self.errors.inside, self.errors.outside)

    def presence(self) -> Tensor:
        """Chance that each class is in the crop of a pixel, float32 (B, C, H, W): as :meth:`evidence`, but chances."""
        if self.errors is None:
            return self.evidence()
        return self._weighed(self.errors.present_if_named, self.errors.present_if_not)

    def _weighed(self, inside: npt.NDArray[np.float64], outside: npt.NDArray[np.float64]) -> Tensor:
        """Numbers (C,) of classes in the set of a pixel and outside, as planes."""
        here, there = (torch.from_numpy(one).to(self.sets.device, torch.float32) for one in (inside, outside))
        table = torch.where(self.sets, here, there)
        table[[NO_CLASS, EVERY_CLASS]] = 1.0
        return self._planes(table)

    def _planes(self, table: Tensor) -> Tensor:
        """Rows of a table (S, C) by pixel, (B, C, H, W)."""
        return table.to(self.numbers.device)[self.numbers.long()].movedim(-1, 1).contiguous()
