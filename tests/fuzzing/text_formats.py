"""What people write by hand: params, classes, bands, maps of names, tables of tags; and the answers of the tag page."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

from tests.conftest import PROJECT
from tests.fuzzing.harness import Format, WrongError, same, sure
from tests.fuzzing.mutations import as_json, change_bytes, change_text, change_tree

from weakseg.core.bands import Band, Bands, Statistics, load_bands, parse_bands
from weakseg.core.classes import ISPRS, ClassScheme, find_classes, load_classes, parse_classes
from weakseg.core.config import parse_yaml
from weakseg.core.params import load_params
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer, event_from
from weakseg.labels.class_map import read_class_map
from weakseg.labels.tag_table import read_tags, write_tags
from weakseg.labels.tags import TagWindow

YAML_TOKENS: Final = (
    "&a ", "*a", "- ", ": ", ":", "\n", "\n  ", "{", "}", "[", "]", "!!python/name:os.x ", "!!binary ", "!!set ", "!x ",
    "|", ">", "'", '"', "#", "%YAML 1.1\n---\n", "---\n", "...\n", "\t", "<<: ", "? ", "~", "null", "yes", "0x1f",
    "0o17",
    "1_000", "1:30", ".inf", ".nan", "1e5", "2001-01-01", "2001-13-41", "0", "-1", "9" * 400, "\ufeff", "\x00", "\x85",
    "\u2028", "é", "a: 1\n", "- 1\n", "@", "`", "0.5", "true", "=",
)  # fmt: skip


def plain_yaml(text: str) -> Any:
    """YAML by ruamel's own reader, in Python; ours is libyaml, in C."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):  # stricter about tabs and rare line ends: nothing to compare with
        return parse_yaml(text)


class YamlFormat(Format):
    """YAML that is changed as text, as bytes, or as a tree that JSON writes."""

    suffix = ".yaml"
    tokens: ClassVar[tuple[str, ...]] = YAML_TOKENS

    def draw(self, rng: Random) -> bytes:
        seed = rng.choice(self.seeds)
        how = rng.random()
        if how < 0.5:
            return as_json(change_tree(rng, parse_yaml(seed)))
        if how < 0.9:
            return change_text(rng, seed, self.tokens).encode("utf-8", "surrogatepass")
        return change_bytes(rng, seed.encode())


class ParamsFormat(YamlFormat):
    name = "params.yaml"
    inputs = 1500
    sample = 10

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        presets = PROJECT / "src/weakseg/pipeline"
        self.seeds = [(PROJECT / "params.yaml").read_text(), (presets / "base.yaml").read_text()]

    def read(self, path: Path, content: bytes) -> None:
        found = load_params(path).model_dump(mode="json")
        _same_leaves(found, plain_yaml(content.decode()), "params")


def _same_leaves(found: Any, stated: Any, place: str) -> None:
    """Every value of the file is in the params as it is: a number is no text, yes is no number, none is left out."""
    if isinstance(stated, dict):
        sure(isinstance(found, dict) and set(map(str, stated)) <= set(found), f"{place}: keys {stated.keys()}")
        for key, value in stated.items():
            _same_leaves(found[key], value, f"{place}.{key}")
    elif isinstance(stated, list | tuple):
        sure(isinstance(found, list) and len(found) == len(stated), f"{place}: {found} of {stated}")
        for one, other in zip(found, stated, strict=True):
            _same_leaves(one, other, place)
    else:
        sure(isinstance(found, bool) == isinstance(stated, bool), f"{place}: {found!r} of {stated!r}")
        sure(isinstance(found, str) == isinstance(stated, str), f"{place}: {found!r} of {stated!r}")
        sure(not isinstance(found, float) or math.isfinite(found), f"{place}: {found!r}")
        same(found, stated, place)


class ClassesFormat(YamlFormat):
    name = "classes.yaml"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for number, scheme in enumerate((ISPRS, find_classes("dubai"), find_classes("loveda"))):
            scheme.save(folder / f"{number}.yaml")
            self.seeds.append((folder / f"{number}.yaml").read_text())
        self.seeds.append(
            'classes:\n- {name: <b>"o\'x"</b>, colour: [1, 2, 3], value: 3}\n- name: Größe\n  colour: [0, 0, 9]\n'
            "  value: 9\nignored:\n- {name: a b, colour: [9, 9, 9]}\nbackground: Größe\n"
        )

    def read(self, path: Path, content: bytes) -> None:
        scheme = load_classes(path)
        stated = plain_yaml(content.decode("utf-8-sig"))
        same(parse_classes(scheme.to_table(), "again"), scheme, "written and read again")
        same(scheme.names, tuple(unicodedata.normalize("NFC", str(row["name"])) for row in stated["classes"]), "names")
        same(scheme.colours, tuple(tuple(row["colour"]) for row in stated["classes"]), "colours")
        values = tuple(row["value"] for row in stated["classes"] if row.get("value") is not None)
        same(scheme.values, values, "values")
        same(len(scheme.ignored), len(stated.get("ignored") or []), "ignored")


def some_bands() -> Bands:
    """Four bands of 16 bits and a height."""
    statistics = Statistics(500.0, 20.0, (1.0, 2.0, 3.0, 4.0, 5.0))
    optical = [Band(n, "", "1", "uint16", 0, 4000, 0, statistics=statistics) for n in ("red", "green", "blue", "nir")]
    height = Band("ndsm", "m", "2", "float32", 0, 30, -9999.0, colour=False, drop=True, statistics=statistics)
    return Bands((*optical, height), {"a": ("ndsm",)})


class BandsFormat(YamlFormat):
    name = "bands.yaml"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "in").mkdir()
        for bands in (some_bands(), Bands((Band("red"), Band("green"), Band("blue")))):
            bands.save(folder / "bands.yaml")
            self.seeds.append((folder / "bands.yaml").read_text())

    def read(self, path: Path, content: bytes) -> None:
        place = self.folder / "in" / "bands.yaml"
        place.write_bytes(content)
        bands = load_bands(place.parent)
        same(parse_bands(bands.content(), "again"), bands, "written and read again")
        stated = plain_yaml(content.decode())
        same(bands.names, tuple(entry["name"] for entry in stated["bands"]), "names")
        for band, entry in zip(bands.members, stated["bands"], strict=True):
            for key, found in (("dtype", band.dtype), ("nodata", band.nodata), ("unit", band.unit)):
                if (
                    said := entry.get(key)
                ) is not None:  # an integer of thirty digits is the nearest number of a raster
                    same(found, float(said) if key == "nodata" and type(said) is int else said, key)
            sure(type(entry.get("nodata")) in (int, float, type(None)), f"nodata {entry.get('nodata')!r}")
            for number in (band.low, band.high):
                sure(type(number) is float and math.isfinite(number), f"range {entry.get('range')}")
            if band.statistics is not None:
                numbers = (band.statistics.mean, band.statistics.std, *band.statistics.percentiles)
                sure(all(map(math.isfinite, numbers)) and band.statistics.std >= 0, f"statistics {numbers}")
        for area, lacking in bands.missing.items():
            same(list(lacking), stated["missing"][area], "missing")


class ClassMapFormat(YamlFormat):
    name = "map of names"
    inputs = 1500

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = ["Haus: building\nWiese: low_vegetation\n'Auto #1': car\nnix: null\n", "a: tree\n1: car\n"]

    def read(self, path: Path, content: bytes) -> None:
        found = read_class_map(path, ISPRS)
        stated = plain_yaml(content.decode("utf-8-sig"))
        same(dict(found.stated), {str(key): value for key, value in stated.items()}, "the map")
        sure(all(value is None or value in ISPRS.names for value in found.stated.values()), "classes of the scheme")


ODD: Final = ClassScheme(("tree", "a b", "x;y", "<b>", '"q"', "né"), tuple((n, 0, 0) for n in range(6)))
SIZES: Final = {"t1": (64, 64), "t2": (100, 200), "a b": (10, 10)}


class TagsFormat(Format):
    name = "tags.csv"
    inputs = 3500
    suffix = ".csv"
    tokens = (
        ",", ";", "\t", "\n", "\r\n", '"', "'", "t1", "t2", "t9", "0", "16", "16.0", "1.000", "1,5", "-1", "64", "1e3",
        "tree", "car", "building", "hedge", "nan", "None", "sep=;\n", "area", "tags", "unknown", " ", "\ufeff", "\0",
        "é",
        "9" * 30, "t1.tif", "x/t1.tif", "impervious_surface building", "row", "٣", "1_0", "²",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rows = [
            TagWindow("t1", 0, 0, 16, 16, ("building", "tree"), ()),
            TagWindow("t1", 16, 0, 16, 16, ("car",), ("tree",)),
            TagWindow("t2", 84, 184, 16, 16, (), ("building",)),
            TagWindow("a b", 0, 0, 10, 10, (), ()),
        ]
        for sizes in (None, SIZES):
            write_tags(folder / "a.csv", rows, ISPRS, sizes)
            self.seeds.append((folder / "a.csv").read_text())
        self.seeds.append(self.seeds[0].replace(",", ";"))
        self.seeds.append('area;row;column;height;width;tags;mine\nt1.tif;0;0;8;8;"tree; car";x\nt2;1;2;3;4;;\n')

    def draw(self, rng: Random) -> bytes:
        seed = rng.choice(self.seeds)
        if rng.random() < 0.85:
            return change_text(rng, seed, self.tokens).encode("utf-8", "surrogatepass")
        return change_bytes(rng, seed.encode(), [other.encode() for other in self.seeds])

    def read(self, path: Path, content: bytes) -> None:
        rows = read_tags(path, ISPRS, SIZES)
        for row in rows:
            _sound(row)
        write_tags(self.folder / "again.csv", rows, ISPRS, SIZES)
        same(read_tags(self.folder / "again.csv", ISPRS, SIZES), rows, "written and read again")
        _same_cells(rows, content.decode("utf-8-sig"))


def _sound(row: TagWindow) -> None:
    height, width = SIZES[row.area]
    sure(row.row >= 0 and row.column >= 0 and row.height > 0 and row.width > 0, f"window {row}")
    sure(row.row + row.height <= height and row.column + row.width <= width, f"window outside {row}")
    sure({*row.present, *row.unknown} <= {*ISPRS.names}, f"classes of {row}")
    sure(not {*row.present} & {*row.unknown}, f"present and unknown {row}")


def _same_cells(rows: list[TagWindow], text: str) -> None:
    """The cells by Python's csv alone: as many rows, and in each the numbers and no other class names."""
    if text[:4].lower() == "sep=":
        text = text.split("\n", 1)[1] if "\n" in text else text.split("\r", 1)[1]
    for delimiter in ",;\t":
        table = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(map(str.strip, row))
        ]
        head = [cell.strip().casefold() for cell in table[0]] if table else []
        if {"area", "row", "column", "height", "width", "tags"} <= set(head):
            break
    else:
        raise WrongError("no delimiter gives the columns")
    same(len(rows), len(table) - 1, "rows")
    for row, cells in zip(rows, table[1:], strict=True):
        named = dict(zip(head, (cell.strip() for cell in cells), strict=False))
        sure(Path(named["area"].replace("\\", "/")).name.startswith(row.area), f"area {named['area']!r} of {row}")
        numbers = [float(named[key].replace(",", ".")) for key in ("row", "column", "height", "width")]
        same(numbers, [float(n) for n in row.window], "window")
        for key, classes in (("tags", row.present), ("unknown", row.unknown)):
            rest = named.get(key, "")
            for name in sorted(classes, key=len, reverse=True):
                sure(name in rest, f"{name} is not in {named.get(key)!r}")
                rest = rest.replace(name, "", 1)
            empty = {"", "nan", "<na>", "na", "#n/a", "n/a", "null"}
            sure(rest.strip(" ;,|/+\t\"'[]") == "" or rest.casefold() in empty, f"left of {named.get(key)!r}: {rest!r}")


class AnswersFormat(Format):
    name = "answers.jsonl"
    suffix = ".jsonl"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.events: list[dict[str, Any]] = []
        for number, names in enumerate((("tree",), ("building", "car"), ())):
            absent = tuple(name for name in ISPRS.names if name not in names)
            answer = TagAnswer(
                f"i{number}", "t1", (0, 16 * number, 16, 16), (64, 64), names, absent, (), "Ana <b>",
                "2026-03-01T10:00:00.000Z", 1.5, guess={"tree": 0.5}, model="m" if number else "",
            )  # fmt: skip
            self.events.append(answer.to_json())
        self.events.append({"id": "u1", "taken_back": "i0", "annotator": "Ana <b>", "time": "2026-03-01T10:01:00.000Z"})
        self.seeds = [self._lines(self.events[:3])]
        try:
            event_from(self.events[3], ISPRS)
            self.seeds.append(self._lines(self.events))
        except Exception:
            self.events.pop()

    @staticmethod
    def _lines(events: list[Any]) -> bytes:
        return b"".join(as_json(event) + b"\n" for event in events)

    def draw(self, rng: Random) -> bytes:
        if rng.random() < 0.7:
            changed = change_tree(rng, self.events)
            return self._lines(changed if isinstance(changed, list) else [changed])
        return change_bytes(rng, rng.choice(self.seeds), self.seeds)

    def read(self, path: Path, content: bytes) -> None:
        answers = read_answers(path, ISPRS)
        lines = [json.loads(line) for line in content.split(b"\n") if line.strip() and line.rstrip().endswith(b"}")]
        by_id = {line["id"]: line for line in lines}
        for answer in answers:
            row, column, height, width = answer.window
            inside = row >= 0 <= column and height > 0 < width
            sure(inside and row + height <= answer.raster[0] and column + width <= answer.raster[1], f"{answer}")
            sure(set(answer.asked) <= set(ISPRS.names) and len(set(answer.asked)) == len(answer.asked), f"{answer}")
            sure(math.isfinite(answer.seconds) and answer.seconds >= 0, f"{answer}")
            same(event_from(answer.to_json(), ISPRS), answer, "written and read again")
            for key in ("present", "absent", "unsure"):
                same(list(getattr(answer, key)), list(by_id[answer.id].get(key, [])), key)


TEXT_FORMATS = (ParamsFormat, ClassesFormat, BandsFormat, ClassMapFormat, TagsFormat, AnswersFormat)
