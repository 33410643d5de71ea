"""What may be tuned: ranges of values in params.yaml, named by their path, and params with other values in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from weakseg.core.config import set_value
from weakseg.core.errors import ParamsError
from weakseg.core.params import Params, Range

if TYPE_CHECKING:
    from optuna import Trial

_OPEN_TABLES = ("segment.class_weights", "students.pseudo_weight")  # names not given there mean 1


def value_at(params: Params, path: str) -> float:
    """The number at a path such as ``segment.class_weights.car``.

    Raises:
        ParamsError: if there is no number.
    """
    node: Any = params.model_dump()
    table, _, name = path.rpartition(".")
    for part in table.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    value = node.get(name, 1.0 if table in _OPEN_TABLES else None) if isinstance(node, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParamsError(
            f"tune.space names {path}", expected="the path of a number in params.yaml", cure="mend tune.space"
        )
    return float(value)


def baseline_values(params: Params, space: Mapping[str, Range]) -> dict[str, float]:
    """The values in force, which are the first trial; one outside its range raises ParamsError."""
    values = {path: value_at(params, path) for path in space}
    for path, value in values.items():
        limits = space[path]
        if not limits.low <= value <= limits.high:
            raise ParamsError(
                f"{path} is {value:g}",
                expected=f"a value in its range {limits.low:g} to {limits.high:g}",
                cure="widen tune.space: the search starts from the value in force",
            )
    return values


def with_values(params: Params, values: Mapping[str, float]) -> Params:
    """A copy of ``params`` with other values at these paths, checked like the file itself."""
    raw = params.model_dump()
    for path, value in values.items():
        value_at(params, path)
        set_value(raw, path, value)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ParamsError(
            f"{place} = {fault['input']!r}: {fault['msg']}", expected="values it allows", cure="narrow tune.space"
        ) from error


def suggest(trial: Trial, space: Mapping[str, Range]) -> dict[str, float]:
    """Ask ``trial`` for a value of every path."""
    return {path: trial.suggest_float(path, r.low, r.high, log=r.log) for path, r in space.items()}
