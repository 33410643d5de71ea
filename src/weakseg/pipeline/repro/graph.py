"""DVC's graph of stages, as names that wait for names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weakseg.core.errors import StageError

Needs = dict[str, frozenset[str]]


def read_needs(repo: Any, targets: Sequence[str] = ()) -> Needs:
    """The stages that `dvc repro` would look at, each with those that must have ended before it starts.

    Args:
        repo: a ``dvc.repo.Repo`` whose root is the working directory.
        targets: as `dvc repro` takes them; none: all of dvc.yaml.

    Raises:
        StageError: a target that DVC does not know, or that makes no stages (DVC takes it for the whole pipeline).
    """
    graph = repo.index.graph
    wanted = {stage for target in targets or ["dvc.yaml"] for stage in _collect(repo, target)}
    needs: Needs = {}
    while wanted:
        stage = wanted.pop()
        before = [] if stage.frozen else list(graph.successors(stage))  # an edge leads from a stage to what it needs
        needs[stage.addressing] = frozenset(one.addressing for one in before)
        wanted |= {one for one in before if one.addressing not in needs}
    return needs


def _collect(repo: Any, target: str) -> list[Any]:
    from dvc.exceptions import DvcException

    try:
        found = list(repo.stage.collect(target))
    except DvcException as error:
        raise StageError(f"target {target} ({error})", expected="a stage of dvc.yaml", cure="see `dvc dag`") from error
    if not found:
        raise StageError(
            f"target {target} makes no stages", expected="an entry in its list in params.yaml", cure="name one"
        )
    return found
