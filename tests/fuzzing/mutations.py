"""Seeded changes to files: of bytes, of text and of trees (JSON, YAML); the same seed makes the same file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

JUNK: Final = (
    None, True, False, 0, 1, -1, 2, 255, 256, 65536, 2**31, -(2**31), 2**63, 10**30, 10**400, 1.5, -0.0, 1e-300, 1e308,
    float("nan"), float("inf"), "", " ", "x", "0", "tree", "a b", "'", '"', "<b>", "a\nb", "a\0b", "../x", "é", "𝔸",
    [], {}, [1], [None], {"a": 1}, [[]], "x" * 3000, list(range(50)),
)  # fmt: skip
NUMBERS: Final = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)


def change_bytes(rng: Random, content: bytes, others: Sequence[bytes] = (), *, head: int | None = None) -> bytes:
    """One to four changes: bits, bytes, numbers of 1 to 8 bytes, parts cut out, doubled, moved, of others, the end off.

    Args:
        head: most changes fall into so many first bytes, where a format has its numbers.
    """
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if data:
            _change_once(rng, data, others, len(data) if head is None or rng.random() < 0.2 else min(head, len(data)))
    return bytes(data)


def _change_once(rng: Random, data: bytearray, others: Sequence[bytes], where: int) -> None:
    at, what = rng.randrange(where), rng.randrange(9)
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))
    if what == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif what == 1:
        data[at] = rng.randrange(256)
    elif what in (2, 3):
        size = rng.choice((1, 2, 4, 8))
        number = rng.choice(NUMBERS) % (1 << 8 * size)
        data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))[: len(data) - at]
    elif what == 4:
        del data[at : at + length]
    elif what == 5:
        data[at:at] = data[at : at + length]
    elif what == 6:
        data[at:at] = rng.randbytes(length)
    elif what == 7 and others:
        other = rng.choice(others)
        start = rng.randrange(len(other)) if other else 0
        data[at : at + length] = other[start : start + length]
    else:
        del data[rng.randrange(len(data)) :]


def change_text(rng: Random, text: str, tokens: Sequence[str]) -> str:
    """One to three changes: a token put in, in place of letters, a line cut out, doubled or moved, the end off."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, what = rng.randrange(len(text) + 1), rng.randrange(7)
        lines = text.split("\n")
        row = rng.randrange(len(lines))
        if what < 2:
            text = text[:at] + rng.choice(tokens) + text[at:]
        elif what < 4:
            text = text[:at] + rng.choice(tokens) + text[at + rng.randrange(1, 12) :]
        elif what == 4:
            text = "\n".join(lines[:row] + lines[row + 1 :])
        elif what == 5:
            text = "\n".join([*lines[: rng.randrange(len(lines) + 1)], lines[row], *lines[row:]])
        else:
            text = text[:at]
    return text


def change_tree(rng: Random, tree: Any, junk: Sequence[Any] = JUNK) -> Any:
    """A copy with one to three values replaced, taken away, doubled, swapped, renamed or slightly changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _change_place(rng, tree, junk)
    return tree


def _change_place(rng: Random, tree: Any, junk: Sequence[Any]) -> Any:
    at = rng.choice(list(places(tree)))
    if not at:
        return rng.choice(junk) if rng.random() < 0.1 else tree
    holder = tree
    for key in at[:-1]:
        holder = holder[key]
    key, what = at[-1], rng.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    elif what == 1:
        holder[rng.choice(("a", "", str(key) + "s", 0, None, "id", "type", "name"))] = holder[key]
    elif what == 2:
        other = rng.choice(list(places(tree)))
        holder[key] = copy.deepcopy(_at(tree, other))
    elif what in (3, 4):
        holder[key] = _near(rng, holder[key])
    else:
        holder[key] = copy.deepcopy(rng.choice(junk))
    return tree


def _near(rng: Random, value: Any) -> Any:
    """A value that looks like another one, or is close to it."""
    if isinstance(value, bool):
        return rng.choice((not value, int(value), str(value)))
    if isinstance(value, int | float) and abs(value) < 1e300:
        return rng.choice((value + 1, value - 1, -value, value * 2, value / 2, float(value), str(value), [value]))
    if isinstance(value, str):
        return rng.choice((value.upper(), value + " ", value[:-1], value[::-1], value + value, [value], value + "\n"))
    if isinstance(value, list):
        return rng.choice((value[::-1], value[:-1], value + value, tuple(value[:1]), {"0": value}))
    return [value]


def _at(tree: Any, place: Sequence[Any]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def places(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys to every value of a tree, its own included."""
    yield here
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield from places(value, (*here, key))


def as_json(tree: Any) -> bytes:
    """JSON as Python and JavaScript write it; keys that are none become texts."""
    return json.dumps(tree, default=str).encode("utf-8", "surrogatepass")
