"""Land-cover maps from a few pixel-labelled aerial images and many that carry only cheap tags.

What a program needs; each name is imported when it is asked for, so that `import weakseg` costs nothing:

- :func:`open_model`: a model file, anything that ``weakseg export`` wrote, or an address in MLflow's registry
- :func:`predict`: the class map of an image and its probabilities, in memory or as GeoTIFFs
- :func:`read_tags`: a table of tag crops
- :class:`ScoreMaps`: what every weak-label method makes of an area
- :func:`score`: IoU per class, their mean, overall accuracy, kappa and the confusion matrix of a map
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from weakseg.evaluation.metrics import score
    from weakseg.inference.predict import predict
    from weakseg.labels.tag_table import read_tags
    from weakseg.methods.scores import ScoreMaps
    from weakseg.registry.addresses import open_model

__all__ = ["ScoreMaps", "open_model", "predict", "read_tags", "score"]

_HOMES: Final = {
    "ScoreMaps": "methods.scores",
    "open_model": "registry.addresses",
    "predict": "inference.predict",
    "read_tags": "labels.tag_table",
    "score": "evaluation.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weakseg' has no attribute {name!r}")
    return getattr(import_module(f"weakseg.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
