"""Numbers in the words of a command line, as `4,1,2`."""

from __future__ import annotations

from weakseg.core.errors import ParamsError


def whole_numbers(text: str | None) -> tuple[int, ...]:
    """``4,1,2`` -> (4, 1, 2); none without text; ParamsError for anything else."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ParamsError(f"{text!r}", expected="whole numbers and commas", cure="write for instance 4,1,2") from error


def decimals(text: str | None) -> tuple[float, ...]:
    """``0.75,1`` -> (0.75, 1.0); none without text; ParamsError for anything else."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ParamsError(f"{text!r}", expected="numbers and commas", cure="write for instance 0.75,1,1.25") from error
