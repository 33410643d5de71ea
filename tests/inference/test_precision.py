"""Precision `auto`: the choice as a table, what files say of it, and what a processor says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.errors import WeightsError
from weakseg.inference.precision import Held, choose_precision, has_native_bf16, read_held

GOOD = Held("openvino", "bf16", "2026.4.1", 0.5, 0.4995)
BAD = Held("openvino", "bf16", "2026.4.1", 0.5, 0.4985)
SAID = "bf16: mIoU of the hold-out 0.4995, in float32 0.5000 (openvino 2026.4.1)"


@pytest.mark.parametrize(
    ("held", "native", "installed", "precision", "why"),
    [
        (GOOD, True, True, "bf16", SAID),
        (GOOD, True, False, "float32", "float32: bf16 wants weakseg[openvino]"),
        (GOOD, False, True, "float32", ""),
        (GOOD, False, False, "float32", ""),
        (BAD, True, True, "float32", SAID.replace("0.4995", "0.4985") + ", 0.001 is allowed"),
        (BAD, False, True, "float32", ""),
        (None, True, True, "float32", "float32: this model file does not say what bf16 costs"),
        (None, True, False, "float32", "float32: bf16 wants weakseg[openvino]"),
        (None, False, True, "float32", ""),
    ],
)
def test_auto_is_bf16_where_processor_library_and_hold_out_allow_it(
    held: Held | None, native: bool, installed: bool, precision: str, why: str
) -> None:
    found, said = choose_precision(held, native=native, installed=installed)
    assert found == precision
    assert said.startswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize(("after", "allowed"), [(0.6, True), (0.5, True), (0.4991, True), (0.4989, False)])
def test_a_tenth_of_a_point_may_be_lost(after: float, allowed: bool) -> None:
    assert Held("openvino", "bf16", "1", 0.5, after).allowed == allowed


def test_a_file_says_what_was_measured() -> None:
    content = {"scale": 1.0, **GOOD.entries()}
    assert read_held(content, "m", engine="openvino", precision="bf16") == GOOD
    assert read_held(content, "m", engine="torch", precision="bf16") is None
    assert read_held(content, "m", engine="openvino", precision="int8") is None
    for silent in ({}, {"precisions": None}, {"precisions": []}):
        assert read_held(silent, "m", engine="openvino", precision="bf16") is None


@pytest.mark.parametrize(
    "entry",
    [
        "bf16",
        {"engine": "openvino"},
        {**GOOD.entries()["precisions"][0], "after": 1.5},
        {**GOOD.entries()["precisions"][0], "before": "half"},
        {**GOOD.entries()["precisions"][0], "after": float("nan")},
        {**GOOD.entries()["precisions"][0], "more": 1},
    ],
)
def test_an_entry_that_is_none_is_refused(entry: Any) -> None:
    with pytest.raises(WeightsError, match=r"m: precision .*scores from 0 to 1; export it again"):
        read_held({"precisions": [entry]}, "m", engine="openvino", precision="bf16")


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\nbugs\t\t: avx512_bf16\n", False),
        ("Features\t: fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_the_processor_says_whether_it_multiplies_bf16(text: str, native: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_native_bf16(tmp_path / "cpuinfo") == native
    assert not has_native_bf16(tmp_path / "none")
