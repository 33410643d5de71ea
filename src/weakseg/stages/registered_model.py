"""The model that MLflow's registry keeps, as code: MLflow runs this file when it saves and when it loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

WINDOW, OVERLAP, BATCH = 512, 0.34, 4


class RegisteredSegmenter(PythonModel):  # type: ignore[misc]
    """uint8 images (B, H, W, 3), bands as in training -> class indices uint8 (B, H, W); any H and W."""

    def load_context(self, context: Any) -> None:
        from weakseg.training.segmenters import load_segmenter

        self.model, _ = load_segmenter(Path(context.artifacts["weights"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> npt.NDArray[np.uint8]:
        from weakseg.inference import PLAIN, predict_scene
        from weakseg.training.machine import machine_from_environment

        machine = machine_from_environment()
        self.model.to(machine.torch_device())
        maps = [
            predict_scene(
                self.model,
                image,
                preprocessing=self.model.preprocessing,
                window=WINDOW,
                overlap=OVERLAP,
                batch=BATCH,
                views=PLAIN,
                machine=machine,
            ).argmax(0)
            for image in np.asarray(model_input)
        ]
        return np.stack(maps).astype(np.uint8)


set_model(RegisteredSegmenter())
