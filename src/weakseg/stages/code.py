"""Stage code: one digest per stage of the code that it can reach, so that DVC notices every change and no comment."""

from __future__ import annotations

from pathlib import Path

import weakseg
from weakseg.core.files import write_text
from weakseg.core.import_graph import Package, digest
from weakseg.core.layout import Layout
from weakseg.stages import STAGES


def run(root: Path) -> None:
    """Write out/code/<stage>.txt for every stage but this one."""
    layout = Layout(root)
    for stage, text in digests(Path(weakseg.__file__).parent).items():
        write_text(layout.code(stage), f"{text}\n")


def digests(package: Path) -> dict[str, str]:
    """Digest of every stage's code by stage, from the files below the package's folder."""
    modules = Package(package)
    return {stage: digest(modules, f"{package.name}.stages.{stage}") for stage in STAGES if stage != "code"}
