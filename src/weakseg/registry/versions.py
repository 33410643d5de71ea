"""MLflow model registry: register an evaluated model, move an alias only through gates, roll back.

The alias ``champion`` is the model in use, ``challenger`` the next one. Every move is written to the version's tags (so
it can be undone from any machine) and appended to ``results/promotions.jsonl`` (so that git keeps the history).
Promotions that race, on one machine or on many, wait for each other: whoever moves an alias first makes a registered
model ``<name>.lock``, which the registry allows once, and deletes it afterwards. Then the alias is compared with the
champion that the gates were checked against, and the later promotion is refused.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from weakseg.core.errors import ParamsError, StageError, TrackingError
from weakseg.core.files import append_line
from weakseg.core.processes import birth_of, is_at_work
from weakseg.tracking import connect, mlflow_errors, provenance

ALIASES = ("challenger", "champion")
PATIENCE = 60.0  # seconds that a promotion waits for another one
CLASSES = "weakseg.classes"  # version tag: the order of the classes in its evaluation, as JSON
_EVIDENCE, _PREVIOUS, _GATE = "weakseg.evidence", "weakseg.previous", "weakseg.gate"


@dataclass(frozen=True)
class Evidence:
    """What an evaluation says about a model.

    Attributes:
        data_hash: hash of the validation data; figures compare only where it is the same.
        miou: in [0, 1].  iou: by class name, in [0, 1]; NaN for a class that is nowhere.
    """

    data_hash: str
    miou: float
    iou: Mapping[str, float]


@dataclass(frozen=True)
class Gates:
    """What a model must show against the champion.

    Attributes:
        min_gain: the lower bound of the paired-bootstrap interval of the mIoU gain must lie above it.
        max_drop: IoU that any class may lose; ``allowance`` overrides it by class name.
    """

    min_gain: float = 0.0
    max_drop: float = 0.02
    allowance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """One gate: its name, whether it passed, what was found and what was expected."""

    name: str
    passed: bool
    found: str
    expected: str


@dataclass(frozen=True)
class Promotion:
    """The outcome of :func:`promote` or :func:`rollback`; ``previous`` is None where the alias was new.

    Attributes:
        warnings: sentences about versions that were there before.
    """

    alias: str
    version: str
    previous: str | None
    moved: bool
    results: tuple[GateResult, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> list[str]:
        """Names of the gates that refused the model."""
        return [result.name for result in self.results if not result.passed]


def check_gates(
    candidate: Evidence, champion: Evidence | None, gates: Gates, *, gain: tuple[float, float] | None
) -> list[GateResult]:
    """All gates, also those behind a failed one; a number that is missing or NaN fails its gate.

    Args:
        candidate: the model to judge.
        champion: the model in use; None if there is none, and then only soundness of the candidate is asked.
        gates: the limits.
        gain: paired-bootstrap interval of candidate minus champion mIoU on the same areas; None if not computed.

    Raises:
        ParamsError: if an allowance names a class that the candidate does not have.
    """
    if unknown := sorted(set(gates.allowance) - set(candidate.iou)):
        raise ParamsError(
            f"allowance for class {unknown[0]!r}", expected=f"one of {sorted(candidate.iou)}", cure="mend params.yaml"
        )
    if champion is None:
        sound = bool(candidate.data_hash) and 0.0 <= candidate.miou <= 1.0
        found = f"data hash {candidate.data_hash or 'missing'}, mIoU {candidate.miou:.4f}"
        return [GateResult("evaluated", sound, found, "a data hash and a mIoU in [0, 1]")]
    same = bool(candidate.data_hash) and candidate.data_hash == champion.data_hash
    results = [GateResult("same validation data", same, candidate.data_hash or "no hash", champion.data_hash)]
    low, high = gain if gain is not None else (math.nan, math.nan)
    found = f"gain {candidate.miou - champion.miou:+.4f} [{low:+.4f}, {high:+.4f}]"
    results.append(GateResult("mIoU gain", low > gates.min_gain, found, f"lower bound above {gates.min_gain:+.4f}"))
    for name, before in champion.iou.items():
        if not math.isnan(before):
            limit, after = gates.allowance.get(name, gates.max_drop), candidate.iou.get(name, math.nan)
            # The tolerance is for binary fractions only: a loss of exactly the allowance passes.
            passed = before - after <= limit + 1e-12
            results.append(GateResult(f"class {name}", passed, f"{before:.4f} -> {after:.4f}", f"loss <= {limit:.4f}"))
    return results


def register(
    root: Path,
    folder: Path,
    *,
    name: str,
    run_id: str,
    evidence: Evidence,
    tags: Mapping[str, str] | None = None,
    card: str = "",
) -> str:
    """Log the local model ``folder`` into a run as ``model/`` and register it as the next version of ``name``.

    Args:
        root: the workspace, whose tracking server is used.
        folder: a saved MLflow model (holds a file ``MLmodel``).
        name: of the registered model; made if it is new.
        run_id: the run that evaluated the model.
        evidence: kept as a version tag, the base of later gates.
        tags: further version tags.
        card: the model card in Markdown, shown as the version's description.

    Returns:
        The version number as MLflow writes it.

    Raises:
        StageError: if ``folder`` is no MLflow model.
        TrackingError: if the server does not answer or refuses.
    """
    if not (folder / "MLmodel").is_file():
        raise StageError(f"{folder} has no file MLmodel", expected="a saved MLflow model", cure="save the model first")
    every = {**provenance(root), **(tags or {}), _EVIDENCE: json.dumps(asdict(evidence))}
    every |= {"miou": f"{evidence.miou:.4f}", "weakseg.validation_data": evidence.data_hash}
    every |= {f"iou.{key}": f"{value:.4f}" for key, value in evidence.iou.items()}
    with mlflow_errors(root):
        client = connect(root)
        client.log_artifacts(run_id, str(folder), "model")
        _create_model(client, _plain(name))
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        version = client.create_model_version(name, source, run_id=run_id, tags=every, description=card)
    return str(version.version)


def champion_of(root: Path, name: str, *, alias: str = "champion") -> tuple[str, Evidence] | None:
    """Version and evidence of the model that holds ``alias``, or None."""
    with mlflow_errors(root):
        version = _alias_version(connect(root), name, alias)
        return None if version is None else (version, _evidence(connect(root), name, version))


def old_cards(root: Path, name: str) -> list[str]:
    """A sentence for each version with an alias whose card was written before reports carried their classes.

    Such a card took the order of the classes from the sorted names: where that is not the order of the class table, the
    intervals in its rows are those of other classes. The version's metrics and tags are by name and right.
    """
    with mlflow_errors(root):
        client = connect(root)
        held = {alias: _alias_version(client, name, alias) for alias in ALIASES}
        return [
            f"the model card of version {version} of {name} ({alias}) was written before reports named the classes of "
            "their matrices; expected each interval beside its own class, but its class rows may be wrong; register "
            "the model again (`weakseg promote SOURCE`): the card of the new version is right"
            for alias, version in held.items()
            if version is not None and CLASSES not in client.get_model_version(name, version).tags
        ]


def promote(
    root: Path,
    name: str,
    version: str,
    *,
    alias: str = "champion",
    gates: Gates,
    gain: tuple[float, float] | None,
    against: str | None,
) -> Promotion:
    """Check the gates against the champion and move ``alias`` to ``version`` if all pass.

    Args:
        root: the workspace: its server and its ``results/promotions.jsonl``.
        name: the registered model.
        version: the candidate.
        alias: ``champion`` or ``challenger``; the gates compare with the champion in both cases.
        gates: the limits.
        gain: paired-bootstrap interval of the mIoU gain over version ``against``; None for a first champion.
        against: the champion that ``gain`` was computed against (:func:`champion_of`), None if there was none.

    Returns:
        ``moved`` False and the ``failed`` gates if the model is refused; that is logged too.

    Raises:
        TrackingError: if another promotion came in between, the alias is unknown, or the server does not answer.
    """
    _check_alias(alias)
    with mlflow_errors(root), _one_at_a_time(connect(root), name) as client:
        champion = _alias_version(client, name, "champion")
        if champion != against:
            raise TrackingError(
                f"champion of {name} is now version {champion}",
                expected=f"version {against}, which the gates were computed against",
                cure="another promotion came first: compare with the new champion and promote again",
            )
        previous = champion if alias == "champion" else _alias_version(client, name, alias)
        if version == previous:
            raise TrackingError(
                f"version {version} of {name} is the {alias} already", expected="another version", cure="nothing to do"
            )
        held = None if champion is None else _evidence(client, name, champion)
        results = tuple(check_gates(_evidence(client, name, version), held, gates, gain=gain))
        for result in results:
            text = f"{'passed' if result.passed else 'failed'}: {result.found}; expected {result.expected}"
            client.set_model_version_tag(name, version, f"{_GATE}.{result.name}", text)
        outcome = Promotion(alias, version, previous, all(result.passed for result in results), results)
        if outcome.moved:
            _move(client, name, outcome)
        _log(root, "promote" if outcome.moved else "refuse", name, outcome)
    return outcome


def rollback(root: Path, name: str, *, alias: str = "champion") -> Promotion:
    """Move ``alias`` back to the version that held it before, as often as the log has a version before.

    Raises:
        TrackingError: if no version holds the alias, none came before, or that one was deleted.
    """
    _check_alias(alias)
    with mlflow_errors(root), _one_at_a_time(connect(root), name) as client:
        current = _alias_version(client, name, alias)
        if current is None:
            raise TrackingError(f"{name} has no {alias}", expected="a version with that alias", cure="promote one")
        before = _version_before(root, client, name, alias, current)
        if before is None:
            raise TrackingError(
                f"version {current} of {name} is the first {alias}",
                expected="an earlier one to go back to",
                cure=f"promote another version, or delete the alias in `mlflow ui`; see {promotion_log(root)}",
            )
        client.get_model_version(name, before)  # raises if it was deleted
        client.set_registered_model_alias(name, alias, before)
        outcome = Promotion(alias, before, current, True)
        _log(root, "rollback", name, outcome)
    return outcome


def promotion_log(root: Path) -> Path:
    """The append-only log: one JSON object per line, for moves, refusals and rollbacks."""
    return root / "results" / "promotions.jsonl"


def _move(client: Any, name: str, outcome: Promotion) -> None:
    """Tags first: if we are stopped in between, the way back is already written."""
    client.set_model_version_tag(name, outcome.version, f"{_PREVIOUS}.{outcome.alias}", outcome.previous or "")
    client.set_model_version_tag(name, outcome.version, f"weakseg.promoted.{outcome.alias}", _time())
    client.set_registered_model_alias(name, outcome.alias, outcome.version)


def _version_before(root: Path, client: Any, name: str, alias: str, current: str) -> str | None:
    """From the log, read as a stack; if it does not end at ``current`` (moved from elsewhere), from its tag."""
    stack: list[str] = []
    for entry in _read_log(root):
        if (entry["name"], entry["alias"]) == (name, alias):
            if entry["action"] == "promote":
                stack.append(entry["version"])
            elif entry["action"] == "rollback" and stack:
                stack.pop()
    if len(stack) > 1 and stack[-1] == current:
        return stack[-2]
    tag = client.get_model_version(name, current).tags.get(f"{_PREVIOUS}.{alias}")
    return tag or None


def _read_log(root: Path) -> list[dict[str, Any]]:
    file = promotion_log(root)
    lines = file.read_text().splitlines() if file.is_file() else []
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as problem:
        raise StageError(
            f"{file}: {problem}", expected="one JSON object per line", cure="restore it from git"
        ) from None


def _log(root: Path, action: str, name: str, outcome: Promotion) -> None:
    facts = provenance(root)
    entry = {
        "time": _time(),
        "action": action,
        "name": name,
        "alias": outcome.alias,
        "version": outcome.version,
        "previous": outcome.previous,
        "failed": outcome.failed,
        "gates": [asdict(result) for result in outcome.results],
        "user": _user(),
        "commit": facts.get("mlflow.source.git.commit", ""),
    }
    append_line(promotion_log(root), json.dumps(entry))


@contextlib.contextmanager
def _one_at_a_time(client: Any, name: str) -> Iterator[Any]:
    """Hold ``<name>.lock`` in the registry. Making a model of a given name succeeds once, whoever asks."""
    lock, deadline = f"{_plain(name)}.lock", time.monotonic() + PATIENCE
    me = f"{_user()} on {platform.node()} since {_time()}, process {os.getpid()} born {birth_of():.0f}"
    while not _create_model(client, lock, me):
        holder = _holder(client, lock)
        if _is_dead(holder):
            _delete_model(client, lock)
        elif time.monotonic() > deadline:
            raise TrackingError(
                f"the registry holds {lock} for longer than {PATIENCE:.0f} s ({holder})",
                expected="no other promotion",
                cure="if none is under way, one was killed: delete that registered model in `mlflow ui`",
            )
        else:
            time.sleep(0.1)
    try:
        yield client
    finally:
        client.delete_registered_model(lock)


def _holder(client: Any, lock: str) -> str:
    """Who holds the lock, as that one has written; "" if it is free by now."""
    found = client.search_registered_models(f"name = '{lock}'")
    return str(found[0].description or "") if found else ""


def _is_dead(holder: str) -> bool:
    """Whether the holder was a process of this computer that is gone; of another computer nobody here knows."""
    found = re.search(r" on (\S+) since \S+, process (\d+) born (\d+)$", holder)
    return found is not None and found[1] == platform.node() and not is_at_work(int(found[2]), float(found[3]))


def _delete_model(client: Any, name: str) -> None:
    """Delete it, whoever is faster."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model(name)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _create_model(client: Any, name: str, description: str = "") -> bool:
    """Whether this call made the registered model; False if it was there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as problem:
        # the second: it was there, and gone when MLflow looked at it to say so
        if problem.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        return False
    return True


def _alias_version(client: Any, name: str, alias: str) -> str | None:
    found: Sequence[Any] = client.search_registered_models(f"name = '{_plain(name)}'")
    version = found[0].aliases.get(alias) if found else None
    return None if version is None else str(version)


def _evidence(client: Any, name: str, version: str) -> Evidence:
    text = client.get_model_version(name, version).tags.get(_EVIDENCE)
    if text is None:
        raise TrackingError(
            f"version {version} of {name} has no tag {_EVIDENCE}",
            expected="a version registered by weakseg",
            cure="register it with `weakseg promote`",
        )
    return Evidence(**json.loads(text))


def _check_alias(alias: str) -> None:
    if alias not in ALIASES:
        raise TrackingError(f"alias {alias!r}", expected=" or ".join(ALIASES), cure="check the spelling")


def _plain(name: str) -> str:
    if "'" in name:
        raise TrackingError(f"model name {name!r} holds a quote", expected="no quotes", cure="choose another name")
    return name


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return "unknown"


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
