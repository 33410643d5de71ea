"""The one seed function, and the generators that draws come from."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). Draws of data use generators of their own, not these."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator for the draws of one training step: the same for a resumed run as for an unbroken one.

    Under torchrun each rank draws its own, because each has its own crops.
    """
    own = rank_seed(seed, int(os.environ.get("RANK") or 0))
    return torch.Generator().manual_seed((own * 1_000_003 + step) % 2**63)


def rank_seed(seed: int, rank: int) -> int:
    """A seed of its own for every rank; the main rank's is ``seed``."""
    return seed + 7_368_787 * rank
