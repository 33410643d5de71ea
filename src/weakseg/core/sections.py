"""What sections of params.yaml are made of: frozen, strict about names and types, no field with a default."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: frozen, strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, data: Any) -> Any:
        """YAML has lists only; strict validation wants the tuples that keep a section frozen."""
        if not isinstance(data, dict):
            return data
        return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values, checked like those of the file (pydantic's ``ValidationError``)."""
        return type(self).model_validate(dict(self) | changes)


class AugmentParams(Section):
    """Strength of the training augmentation; flips and quarter turns are always on."""

    scale: tuple[Positive, Positive]  # range of zoom factors
    colour: NotNegative  # gain, contrast and per-band jitter, as a share


class OptimiserParams(Section):
    """AdamW with warm-up and cosine; the encoder learns at ``encoder_factor`` of the rate."""

    steps: Count
    batch: Count
    lr: Positive
    encoder_factor: Share
    weight_decay: NotNegative
    warmup: Share  # share of the steps
    ema: Annotated[float, Field(ge=0.0, lt=1.0)]  # decay of the averaged weights, 0 switches them off
    report_every: Count  # steps between hold-out evaluations, log rows and checkpoints
