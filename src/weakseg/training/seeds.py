"""The one seed function, and the generators that draws come from."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). Draws of data use generators of their own, not these."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator for the draws of one training step: the same for a resumed run as for an unbroken one."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
