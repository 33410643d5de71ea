"""Settings with which every weak-label stage of the tiny workspace takes a second."""

from __future__ import annotations

from typing import Any

STEPS = {"steps": 3, "batch": 4, "report_every": 2}


def slim(raw: dict[str, Any]) -> None:
    """The networks that need no weights, as narrow as they get, trained for three steps; every choice among little."""
    raw["classifier"] |= {"arch": "vgg16_bn", "weights": "none", "width": 16, "crop": 16, "pooling": "gap"}
    raw["cam"] |= {"scales": [1.0], "flips": True}
    raw["irnet"] |= {"weights": "none", "crop": 64, "walk_steps": [2], "anchors": [1.0], "label_score": 0.1}
    raw["irnet"] |= {"label_margin": 0.0}
    raw["single_stage"] |= {"backbone": "resnet38", "weights": "none", "width": 16, "channels": 16, "crop": 32}
    raw["fused"] |= {"weights": [0.0, 1.0]}
    for section in ("classifier", "irnet", "single_stage"):
        raw[section]["optimiser"] |= STEPS
