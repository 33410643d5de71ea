"""Model files of earlier versions stay readable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from weakseg.core.classes import ISPRS
from weakseg.training.checkpoints import scheme_of
from weakseg.training.segmenter import load_segmenter

OLD = Path(__file__).parents[1] / "old_files" / "encdec_unpool.pt"  # written on 2026-11-27, random weights


def test_a_model_file_of_before_the_tree_was_moved_gives_the_same_logits() -> None:
    model, content = load_segmenter(OLD)
    assert scheme_of(content) == ISPRS
    assert (content["scale"], content["gsd"]) == (1.0, 0.09)
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32))
    assert logits.argmax(1).flatten().bincount(minlength=5).tolist() == [79, 306, 393, 79, 167]
    want = [-8.00901e-05, -1.0686967e-04, 4.0322517e-05, 3.1882173e-05, 1.2316047e-04]
    assert logits[0, :, 5, 7].tolist() == pytest.approx(want, abs=2e-7)
