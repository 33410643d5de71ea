"""Folders and zips list and open alike; hostile archives are reported and never unpacked where they want."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from weakseg.core.errors import DataError
from weakseg.data.importing import archives
from weakseg.data.importing.archives import Entry, Limits, list_source, local_file

LIMITS = Limits()


def make_zip(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_folder_and_zip_list_the_same(tmp_path: Path) -> None:
    members = {"top/b.tif": b"1", "top/b.tfw": b"2", "a.PNG": b"3", "dsm.dat": b"4", "readme.txt": b"5"}
    hidden = {"__MACOSX/top/._b.tif": b"6", ".DS_Store": b"7"}
    folder = tmp_path / "folder"
    for name, content in (members | hidden).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    archive = make_zip(tmp_path / "z.zip", members | hidden)
    for source in (folder, archive):
        listing = list_source(source, LIMITS)
        assert [entry.name for entry in listing.rasters] == ["a.PNG", "top/b.tif"]
        assert listing.unused == (str(source / "dsm.dat"),)
        assert listing.problems == ()
    assert listing.rasters[1].folders == ("top",)
    assert listing.rasters[1].stem == "b"


def test_linked_folders_are_listed_and_a_link_back_up_ends(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.tif").write_bytes(b"2")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.tif").write_bytes(b"1")
    (tmp_path / "source" / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "source")
    listing = list_source(tmp_path / "source", LIMITS)
    assert [entry.name for entry in listing.rasters] == ["a.tif", "part/b.tif"]


def test_unpacked_raster_has_its_world_file_and_goes_again(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "z.zip", {"top/b.tif": b"one", "top/b.tfw": b"two", "b.tfw": b"another", "top/c.tif": b""}
    )
    scratch = tmp_path / "scratch"
    with local_file(Entry(archive, "top/b.tif"), scratch) as path:
        assert path.read_bytes() == b"one"
        assert path.with_suffix(".tfw").read_bytes() == b"two"
        assert sorted(file.name for file in scratch.iterdir()) == ["b.tfw", "b.tif"]
    assert not scratch.exists()


def test_a_folder_entry_is_the_file_itself(tmp_path: Path) -> None:
    with local_file(Entry(tmp_path, "x/a.tif"), tmp_path / "scratch") as path:
        assert path == tmp_path / "x" / "a.tif"
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("name", ["../a.tif", "x/../../a.tif", "/etc/a.tif", "C:/a.tif", "..\\a.tif"])
def test_members_that_leave_the_folder_are_reported(tmp_path: Path, name: str) -> None:
    listing = list_source(make_zip(tmp_path / "z.zip", {name: b"1", "good.tif": b"2"}), LIMITS)
    assert [entry.name for entry in listing.rasters] == ["good.tif"]
    assert len(listing.problems) == 1
    assert "leaves the folder" in listing.problems[0]
    assert "do not trust this archive" in listing.problems[0]
    assert "\n" not in listing.problems[0]


def test_links_encrypted_and_repeated_members_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.tif")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("twice.tif", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("twice.tif", b"2")
        archive.writestr("secret.tif", b"3")
        archive.filelist[-1].flag_bits |= 1
    listing = list_source(path, LIMITS)
    assert [entry.name for entry in listing.rasters] == ["twice.tif"]
    text = "\n".join(listing.problems)
    assert "'link.tif' is a link" in text
    assert "'secret.tif' is encrypted" in text
    assert "'twice.tif' twice" in text


def test_bombs_are_reported_by_size_and_by_ratio(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "z.zip", {"zeros.tif": bytes(1_000_000), "noise.tif": os.urandom(200_000)})
    assert list_source(archive, LIMITS).problems == ()
    by_ratio = list_source(archive, Limits(ratio=100, ratio_from_bytes=100_000))
    assert [entry.name for entry in by_ratio.rasters] == ["noise.tif"]
    assert "unpacks to 1000000 bytes, " in by_ratio.problems[0]
    assert list_source(archive, Limits(ratio=100, ratio_from_bytes=2_000_000)).problems == ()
    by_size = list_source(archive, Limits(member_bytes=999_999))
    assert [entry.name for entry in by_size.rasters] == ["noise.tif"]
    assert "'zeros.tif' unpacks to 1000000 bytes;" in by_size.problems[0]


def test_damaged_archives_are_reported(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "z.zip", {"a.tif": os.urandom(1000)}, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    assert "z.zip: File is not a zip file" in list_source(path, LIMITS).problems[0]
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    entry = list_source(path, LIMITS).rasters[0]
    with pytest.raises(DataError, match=r"a\.tif: cannot be unpacked .*CRC"), local_file(entry, tmp_path / "scratch"):
        pass
    assert not (tmp_path / "scratch").exists()


def test_missing_and_empty_sources_are_reported(tmp_path: Path) -> None:
    assert "expected a folder or zip" in list_source(tmp_path / "none", LIMITS).problems[0]
    (tmp_path / "notes.txt").touch()
    problem = list_source(tmp_path, LIMITS).problems[0]
    assert problem.startswith(f"no raster in {tmp_path}; expected files ending in .jpeg, .jpg")


def test_unpacked_rasters_have_all_their_sidecars_under_names_that_are_looked_for(tmp_path: Path) -> None:
    sidecars = {"top/B.TIF.AUX.XML": b"1", "top/b.PRJ": b"2", "top/b.aux.xml": b"3", "top/B.TFW": b"4"}
    others = {"top/b.shp": b"5", "b.prj": b"6", "top/b2.tfw": b"7", "top/b.png.aux.xml": b"8"}
    archive = make_zip(tmp_path / "z.zip", {"top/b.tif": b"one"} | sidecars | others)
    with local_file(Entry(archive, "top/b.tif"), tmp_path / "scratch") as path:
        found = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert found == {
        "b.tif": b"one",
        "b.tif.aux.xml": b"1",
        "b.prj": b"2",
        "b.aux.xml": b"3",
        "b.tfw": b"4",
    }


def test_sidecars_that_unpack_to_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 99)
    archive = make_zip(tmp_path / "z.zip", {"a.tif": b"1", "a.tif.aux.xml": bytes(100)})
    expected = r"member 'a\.tif\.aux\.xml' unpacks to 100 bytes; expected a sidecar of at most 99 bytes"
    with pytest.raises(DataError, match=expected), local_file(Entry(archive, "a.tif"), tmp_path / "scratch"):
        pass
