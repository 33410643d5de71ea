"""Names of classes that people cannot tell apart, or that mean no class: compared in one place, refused in a scheme."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from weakseg.core.errors import DataError

EMPTY: Final = ("nan", "<na>", "na", "#n/a", "n/a", "null")  # how pandas, Excel and databases write an empty cell
_NO_CLASS: Final = frozenset(("ignore", "ignored", "unlabelled", "unlabeled", "void", "no data", "nodata"))
# Cyrillic and Greek letters that most fonts draw like the Latin ones below them, after case is folded
_TWINS: Final = str.maketrans("авеікмнорстухѕјһԁԛԝοιν", "abeikmhopctyxsjhdqwoiv")
_GREEK_TWINS: Final = frozenset("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοιν")


def fold_name(name: str) -> str:
    """What two names that look alike have in common: no capitals, widths, kinds of blanks, ``_`` or ``-``, twins.

    Unicode's NFKC and case folding; letters of other scripts that look like Latin ones become these.

    >>> fold_name("Bare\\u00a0Soil") == fold_name("bare_soil"), fold_name("c\\u0430r") == "car"
    (True, True)
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_\-\u2010-\u2015]+", " ", unicodedata.normalize("NFKC", plain)).strip().translate(_TWINS)


def check_names(names: Sequence[str], ignored: Iterable[str]) -> None:
    """Refuse (DataError) names of classes that look alike, that mean no class, or that mix scripts in a word.

    Args:
        ignored: names of what counts nowhere, which may be alike among themselves.
    """
    seen: dict[str, str] = {}
    for name in names:
        folded = fold_name(name)
        _check_meaning(name, folded)
        _check_script(name)
        if (other := seen.setdefault(folded, name)) is not name:
            raise _alike(other, name)
    for name in ignored:
        if (folded := fold_name(name)) in seen:
            raise _alike(seen[folded], name)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`` (did you mean X?)`` where a known name is like this one; with the letter that differs where nobody sees it."""
    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(fold_name(one), one)
    found = difflib.get_close_matches(fold_name(name), folded, n=1, cutoff=0.75)
    if not found:
        return ""
    return f" (did you mean {folded[found[0]]!r}?{_unseen(name, folded[found[0]])})"


def _unseen(name: str, known: str) -> str:
    if fold_name(name) != fold_name(known):
        return ""
    for has, there, other in (("no", name, known), ("a", known, name)):
        for letter in there:
            if not letter.isascii() and letter not in other:
                return f" It has {has} {_letter(letter)}"
    return ""


def _letter(letter: str) -> str:
    return unicodedata.name(letter, f"U+{ord(letter):04X}")


def _alike(one: str, other: str) -> DataError:
    letters = "".join(f", with {_letter(letter)}" for letter in sorted({*one} ^ {*other}) if not letter.isascii())
    return DataError(
        f"classes {one!r} and {other!r}, which look alike{letters}",
        expected="names that differ in more than capitals, blanks, _, - and letters that look the same",
        cure="make them one class, or rename one, in classes.yaml",
    )


def _check_meaning(name: str, folded: str) -> None:
    if folded in _NO_CLASS:
        raise DataError(
            f"a class called {name!r}, which would be learnt, mapped and scored",
            expected="what counts nowhere under `ignored:`",
            cure="move it there in classes.yaml, or give the class another name",
        )
    if folded in EMPTY:
        raise DataError(
            f"a class called {name!r}, which in tables is an empty cell",
            expected="another name",
            cure="rename it in classes.yaml, and where labels name it",
        )


def _check_script(name: str) -> None:
    for word in re.split(r"[\W\d_]+", name):
        scripts = {unicodedata.name(letter, "").split(" ")[0]: letter for letter in word}
        other = scripts.get("CYRILLIC") or next((letter for letter in word if letter in _GREEK_TWINS), None)
        if "LATIN" in scripts and other:
            raise DataError(
                f"class name {name!r} has a {_letter(other)} among Latin letters",
                expected="one script in a word",
                cure="write it again in classes.yaml",
            )
