"""Tags in MLflow are data of users: a move of the source tree may not rename them."""

from __future__ import annotations

from pathlib import Path

import weakseg
from weakseg.registry.versions import CLASSES

TAGS = {
    *("weakseg.classes", "weakseg.data_md5", "weakseg.dvc_exp", "weakseg.dvc_lock", "weakseg.evidence", "weakseg.gate"),
    *("weakseg.git_dirty", "weakseg.params", "weakseg.pipeline", "weakseg.previous", "weakseg.refused", "weakseg.run"),
    *("weakseg.source", "weakseg.stage", "weakseg.validation_data"),
}


def test_names_of_tags_are_those_of_version_0_1() -> None:
    assert CLASSES == "weakseg.classes"
    package = Path(weakseg.__file__).parent
    text = "\n".join(path.read_text() for path in sorted(package.rglob("*.py")))
    assert {tag for tag in TAGS if f'"{tag}"' not in text} == set()
