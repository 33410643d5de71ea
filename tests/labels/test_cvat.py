"""Image tags of CVAT, in the shapes of "CVAT for images 1.1" (CVAT 2.x writes so)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from weakseg.core.errors import DataError
from weakseg.labels.cvat import read_cvat

TASK = """
    <task>
      <id>{id}</id><name>crops</name><size>3</size><mode>annotation</mode><overlap>0</overlap><bugtracker></bugtracker>
      <created>2026-03-01 10:00:00.000000+00:00</created><updated>2026-03-01 10:10:00.000000+00:00</updated>
      <subset>default</subset><start_frame>0</start_frame><stop_frame>2</stop_frame><frame_filter></frame_filter>
      <segments><segment><id>9</id><start>0</start><stop>2</stop><url>http://localhost:8080/api/jobs/9</url></segment></segments>
      <owner><username>admin</username><email>admin@example.org</email></owner>
      <assignee><username>{who}</username><email></email></assignee>
      <labels>
        <label><name>tree</name><color>#33ddff</color><type>tag</type><attributes></attributes></label>
        <label><name>car</name><color>#ff0000</color><type>tag</type><attributes>
          <attribute><name>how many</name><mutable>False</mutable><input_type>number</input_type></attribute>
        </attributes></label>
      </labels>
    </task>"""
IMAGES = """
  <image id="0" name="chips/t1__0_0_16_16.png" width="16" height="16">
    <tag label="tree" source="manual"></tag>
    <tag label="car" source="auto"><attribute name="how many">2</attribute></tag>
  </image>
  <image id="1" name="t1__0_16_16_32.png" width="32" height="16"></image>
  <image id="2" name="t2.png" width="64" height="64" task_id="4">
    <box label="car" source="manual" occluded="0" xtl="1.0" ytl="1.0" xbr="5.0" ybr="5.0" z_order="0"></box>
    <tag label="tree" source="manual"></tag>
  </image>
"""
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def write(folder: Path, body: str, head: str = HEAD) -> Path:
    path = folder / "annotations.xml"
    path.write_text(f"{head}<annotations><version>1.1</version>{body}</annotations>")
    return path


def test_tags_come_with_the_assignee_and_the_labels_that_were_offered(tmp_path: Path) -> None:
    file = write(tmp_path, f"<meta>{TASK.format(id=3, who='ana')}<dumped>2026</dumped></meta>{IMAGES}")
    found = read_cvat(file)
    assert [(m.picture, m.present, m.annotator, m.size) for m in found.rows] == [
        ("chips/t1__0_0_16_16.png", ("tree", "car"), "ana", (16, 16)),
        ("t2.png", ("tree",), "ana", (64, 64)),
    ]
    assert found.offered == ("tree", "car")
    assert found.notes == {
        "image(s) without a tag": 1,
        "box shape(s)": 1,
        "tag(s) that CVAT's own models made": 1,
    }


def test_a_class_that_was_drawn_but_not_ticked_is_unknown_and_one_that_can_be_drawn_alone_was_not_offered(
    tmp_path: Path,
) -> None:
    """Else the car in the box would be written as absent."""
    body = f"<meta>{TASK.format(id=3, who='ana')}</meta>{IMAGES}"
    assert [mark.unsure for mark in read_cvat(write(tmp_path, body)).rows] == [(), ("car",)]
    drawable = body.replace("<color>#ff0000</color><type>tag</type>", "<color>#ff0000</color><type>rectangle</type>")
    found = read_cvat(write(tmp_path, drawable))
    assert (found.offered, [mark.unsure for mark in found.rows]) == (("tree",), [(), ()])


def test_a_project_names_the_assignee_of_each_task(tmp_path: Path) -> None:
    tasks = "<tasks>" + TASK.format(id=3, who="ana") + TASK.format(id=4, who="ben") + "</tasks>"
    file = write(tmp_path, f"<meta><project><id>1</id><name>p</name>{tasks}</project></meta>{IMAGES}")
    assert [mark.annotator for mark in read_cvat(file).rows] == ["", "ben"]


def test_the_zip_that_cvat_sends_is_read_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(write(tmp_path, IMAGES), "annotations.xml")
        archive.writestr("images/t2.png", b"")
    assert len(read_cvat(tmp_path / "task.zip").rows) == 2


BOMB = HEAD + '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE = HEAD + '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE, HEAD + "<!DOCTYPE annotations>"])
def test_entities_are_refused_before_they_are_read(tmp_path: Path, head: str) -> None:
    with pytest.raises(DataError, match="XML with a DOCTYPE or entities"):
        read_cvat(write(tmp_path, IMAGES, head))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<annotations><image id='0' name='a.png'><tag label='tree'/></image>", "not CVAT's XML .*no element found"),
        ("<annotation><folder>VOC</folder></annotation>", "XML of <annotation>"),
        ("<annotations><track id='0' label='car'></track></annotations>", "tracks of a video"),
        ("<annotations><image id='0' name='a.png'/></annotations>", "no tag of an image"),
        ("<annotations><image id='0'><tag label='tree'/></image></annotations>", "image 0 without a name or label"),
        ("<annotations>&lol;</annotations>", "not CVAT's XML"),
        ("\x00", "not CVAT's XML"),
    ],
)
def test_what_is_no_cvat_for_images_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DataError, match=words):
        read_cvat(tmp_path / "a.xml")


def test_zips_without_annotations_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("other.xml", "")
    for name, words in (("a.zip", "not CVAT's XML .File is not a zip"), ("b.zip", "0 annotations.xml")):
        with pytest.raises(DataError, match=words):
            read_cvat(tmp_path / name)
