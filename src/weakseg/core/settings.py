"""What each training reads of params.yaml: the values that DVC, resumed trainings and kept results compare.

Sections are as their readers are: ``segment`` all trainings, ``students`` those with weak crops, ``consistency`` one of
them. Of the sections that belong to several, a training's settings hold its own part.
"""

from __future__ import annotations

from typing import Any

from weakseg.core.methods import ENTRIES, MAKES_MASKS, SELF_TAUGHT, Source
from weakseg.core.params import Params


def training_settings(params: Params, source: Source) -> dict[str, Any]:
    """The values by section that a training of the segmentation network on ``source`` reads; plain YAML."""
    tiles: dict[str, Any] = {"scale": params.tiles.scale}  # the model file says for which resolution it is
    read: dict[str, Any] = {"segment": params.segment.model_dump(mode="json"), "tiles": tiles}
    if ENTRIES[source].gives in ("nothing", "truth"):  # every crop has pixel truth
        return read
    students = params.students.model_dump(mode="json")
    weights = students.pop("pseudo_weight")
    read["students"] = students
    gives = ENTRIES[source].gives
    if gives in SELF_TAUGHT:
        read["consistency"] = params.consistency.model_dump(mode="json")
        tiles["tag_size"] = params.tiles.tag_size
    if gives in MAKES_MASKS:
        read["joint"] = params.joint.model_dump(mode="json")
    if gives in ("tags", "all"):
        read["tags"] = params.tags.model_dump(mode="json")
    if gives == "all":
        read["fused"] = {"experts": list(params.fused.experts)}  # all else of the section the stage choice reads
    if gives == "masks":
        students["pseudo_weight"] = {source: weights.get(source, 1.0)}
    return read


def teacher_settings(params: Params) -> dict[str, Any]:
    """The same of the stage teacher, which trains students of its own where it has several rounds."""
    read: dict[str, Any] = {"teacher": params.teacher.model_dump(mode="json")}
    read["segment"] = {"seeds": [params.segment.seeds[0]], "crop": params.segment.crop, "refit": params.segment.refit}
    read["tiles"] = {"tag_size": params.tiles.tag_size}
    if params.teacher.rounds > 1:
        student = training_settings(params, "teacher")
        student["segment"] |= read["segment"]
        student["tiles"] |= read["tiles"]
        read |= student
        read["pseudo"] = params.pseudo.model_dump(mode="json")
    return read
