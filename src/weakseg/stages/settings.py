"""Stage settings: what each training reads of params.yaml, a file each, so that a change reruns its readers alone."""

from __future__ import annotations

from pathlib import Path

from weakseg.core.config import save_yaml
from weakseg.core.layout import Layout
from weakseg.core.methods import SOURCES
from weakseg.core.params import load_params
from weakseg.core.settings import teacher_settings, training_settings


def run(root: Path) -> None:
    """Write out/settings/segment_<source>.yaml for every source, chosen or not, and teacher.yaml."""
    layout = Layout(root)
    params = load_params(layout.params)
    layout.settings("teacher").parent.mkdir(parents=True, exist_ok=True)
    save_yaml(layout.settings("teacher"), teacher_settings(params))
    for source in SOURCES:
        save_yaml(layout.settings("segment", source), training_settings(params, source))
