"""Masks of N2 that a training makes of its own averaged network, once or several times while it runs.

Self-training without a second pipeline (iterated as in Xie et al., CVPR 2020): the network's probabilities, held to the
tags, times what the experts of the section fused say, under the weights and thresholds that the stage choice found on
the hold-out of N1 with the task (i) network that never saw it. So the training itself may know all of N1.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from weakseg.core.errors import StageError
from weakseg.core.methods import ENTRIES, MAKES_MASKS, Source
from weakseg.data.store import save_array
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context
from weakseg.pipeline.network_scores import Choice, make_mask


class MaskMaking:
    """When and how the training of one seed makes masks; of a source that makes none it does nothing.

    Attributes:
        steps: before which masks are made.
        masks: folder of the masks in force, ``<area>.npy``; None before the first making.
    """

    def __init__(self, context: Context, source: Source, seed: int, training: str) -> None:
        """``training``: its identity, as for its resume file; masks of another one are never taken for its own."""
        self.context, self.source, self.seed = context, source, seed
        params = context.params
        shares: Sequence[float] = params.joint.make_masks if ENTRIES[source].gives in MAKES_MASKS else ()
        self.steps = [round(share * params.segment.optimiser.steps) for share in shares]
        self.masks: Path | None = None
        digest = hashlib.blake2b(training.encode(), digest_size=8).hexdigest()
        self._folder = context.layout.out / "resume" / f"segment-{source}-{seed}-masks" / digest

    def renew(self, model: Segmenter | None, step: int) -> None:
        """Make the masks of all N2 areas by this network, or take those that were made before this step (None).

        Every rank calls it. Each making has a folder of its own: a run that is cut off later may resume before it.
        """
        self.masks = self._folder / str(step)
        if model is None:
            return
        machine, choice = self.context.machine, self._choice()
        for area in machine.shard(self.context.tag_areas()):
            save_array(self.masks, area, make_mask(self.context, model, area, choice))
        machine.wait()

    def clear(self) -> None:
        """Forget the masks of a training that has ended, and the folder with the last."""
        if self.context.machine.is_main and self._folder.is_dir():
            shutil.rmtree(self._folder)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()

    def _choice(self) -> Choice:
        path = self.context.layout.choices(self.source)
        kept = json.loads(path.read_text()) if path.is_file() else {}
        if f"seed{self.seed}" not in kept:
            raise StageError(
                f"no choice for seed {self.seed} in {path}",
                expected="one per seed of segment.seeds",
                cure=f"run choice@{self.source}",
            )
        return Choice.of(kept[f"seed{self.seed}"])
