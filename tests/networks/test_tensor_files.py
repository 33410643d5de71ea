"""Files of tensors: what an archive announces is compared with what it is before torch reads it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from weakseg.core.errors import WeightsError
from weakseg.networks.tensor_files import is_finite, read_tensors

HOW = {"says": "does not load", "expected": "a checkpoint", "cure": "make it anew"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"w": torch.arange(6.0), "note": "x"}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def packed_again(path: Path, change: Callable[[zipfile.ZipInfo], None], how: int = zipfile.ZIP_STORED) -> None:
    """The same members, each with a changed entry in the table."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            entry = zipfile.ZipInfo(member.filename)
            entry.compress_type = how
            change(entry)
            new.writestr(entry, old.read(member))
    path.write_bytes(out.getvalue())


def test_tensors_and_plain_data_come_back(file: Path) -> None:
    found = read_tensors(file, **HOW)
    assert found["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["note"] == "x"


def test_a_tensor_whose_bytes_have_changed_is_refused(file: Path) -> None:
    """torch itself would take them."""
    content = bytearray(file.read_bytes())
    content[content.index(torch.arange(6.0).numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"a\.pt does not load \(the checksum of a/data/0 is wrong\); expected a checkp"
    ):
        read_tensors(file, **HOW)


def test_archives_of_another_kind_are_refused(file: Path) -> None:
    whole = file.read_bytes()
    packed_again(file, lambda _: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="members are compressed"):
        read_tensors(file, **HOW)
    file.write_bytes(whole)
    packed_again(file, lambda entry: setattr(entry, "external_attr", 0x10))
    with pytest.raises(WeightsError, match="marked as folders"):
        read_tensors(file, **HOW)


def test_members_that_are_announced_larger_than_the_file_are_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the last entry of the table; its unpacked size
    content[at + 24 : at + 28] = (1 << 30).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="announced larger than the file"):
        read_tensors(file, **HOW)


def test_plain_pickles_are_for_published_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert read_tensors(path, **HOW, plain=True)["w"].tolist() == [1, 1]
    with pytest.raises(WeightsError, match="no zip archive"):
        read_tensors(path, **HOW)


def test_values_of_any_kind_are_asked_whether_they_are_finite() -> None:
    assert is_finite(torch.ones(2, dtype=torch.int64))
    assert not is_finite(torch.tensor([1.0, torch.inf]))
