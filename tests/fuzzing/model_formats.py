"""Models and what they compute: checkpoints, weight files, ONNX, bundles, ScoreMaps; and zips of rasters."""

from __future__ import annotations

import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file
from tests.fuzzing.harness import Format, same, sure
from tests.fuzzing.mutations import JUNK, as_json, change_bytes, change_tree
from tests.generators.small_networks import save_network, unpool
from torch import Tensor

from weakseg.core.errors import ImportProblems
from weakseg.data.importing.archives import Limits, list_source, local_file
from weakseg.evaluation.applicability import fit_applicability
from weakseg.inference.model import SETTINGS, Predictor, load_predictor
from weakseg.inference.scene import PLAIN
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.networks.applicability import join_scales
from weakseg.networks.weights import read_state
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster
from weakseg.training.checkpoints import load_checkpoint
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

CPU = Machine(device="cpu", precision="no", quiet=True)


def small_model(folder: Path) -> Path:
    """A model file with all that one may hold."""
    file = save_network(folder / "seed.pt", unpool(64), scale=1.0)
    model, _ = load_segmenter(file)
    depth = join_scales(model.encode(torch.zeros(1, 3, 32, 32))).shape[1]
    places = torch.randn(60, depth, generator=torch.Generator().manual_seed(0)).abs()
    known = fit_applicability(places, torch.arange(60) % 3).content()
    more = {"gsd": 0.1, "temperatures": [1.5, 1.0, 1.0, 2.0, 1.0], "applicability": known}
    return save_network(file, unpool(64), scale=1.0, **more)


def check_predictor(predictor: Predictor, *, sound: bool = True) -> None:
    """It knows its classes and gives probabilities of them."""
    sure(np.isfinite(predictor.scale) and predictor.scale > 0, f"scale {predictor.scale}")
    sure(predictor.gsd is None or (np.isfinite(predictor.gsd) and predictor.gsd > 0), f"gsd {predictor.gsd}")
    sure(len(predictor.temperatures) in (0, len(predictor.scheme)), f"temperatures {predictor.temperatures}")
    found = predictor.forward(torch.zeros(1, len(predictor.bands), 32, 32, dtype=torch.uint8))
    same(tuple(found.shape[:2]), (1, len(predictor.scheme)), "classes")
    sure(not sound or bool(torch.isfinite(found).all()), "probabilities")


def same_tree(found: Any, expected: Any, place: str) -> None:
    """Plain data and tensors are equal."""
    if isinstance(expected, Tensor):
        sure(isinstance(found, Tensor) and torch.equal(found, expected), place)
    elif isinstance(expected, dict):
        same(set(found), set(expected), f"{place}: keys")
        for key, value in expected.items():
            same_tree(found[key], value, f"{place}.{key}")
    else:
        same(found, expected, place)


class CheckpointFormat(Format):
    """Bytes of a model file: what is accepted is what was written, to the last bit."""

    name = "checkpoint bytes"
    inputs = 2500
    sample = 15
    suffix = ".pt"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        file = small_model(folder)
        self.content = load_checkpoint(file)
        self.seeds = [file.read_bytes()]

    def draw(self, rng: Random) -> bytes:
        content = self.seeds[0]
        if rng.random() < 0.5:
            return change_bytes(rng, content, self.seeds)
        at = max(0, len(content) - 12_000)  # the table of the archive
        return content[:at] + change_bytes(rng, content[at:], self.seeds)

    def read(self, path: Path, content: bytes) -> None:
        check_predictor(load_predictor(path, PLAIN, CPU))
        same_tree(load_checkpoint(path), self.content, "the file")


class ModelFormat(Format):
    """What a model file says: another value, key or tensor somewhere."""

    name = "checkpoint content"
    is_file = False
    inputs = 1000
    sample = 15
    suffix = ".pt"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        file = small_model(folder)
        self.content = load_checkpoint(file)
        self.seeds = [file.read_bytes()]

    def draw(self, rng: Random) -> bytes:
        tensors = (torch.zeros(3), torch.full((2, 2), torch.nan), torch.zeros(0), torch.ones(1, dtype=torch.int64))
        content = {**self.content, "weights": dict(self.content["weights"])}
        plain = {key: value for key, value in content.items() if key not in ("weights", "applicability")}
        part = rng.choice(("plain", "plain", "plain", "weights", "applicability"))
        if part == "plain":
            plain = change_tree(rng, plain, (*JUNK, *tensors))
            content = (
                {**plain, **{k: content[k] for k in ("weights", "applicability")}} if isinstance(plain, dict) else plain
            )
        else:
            content[part] = change_tree(rng, dict(content[part]), (*JUNK, *tensors, *content[part].values()))
        saved = io.BytesIO()
        torch.save(content, saved)
        return saved.getvalue()

    def read(self, path: Path, content: bytes) -> None:
        stated = torch.load(path, weights_only=True)
        predictor = load_predictor(path, PLAIN, CPU)
        check_predictor(predictor)
        same(predictor.scheme.names, tuple(map(str, stated["classes"]["names"])), "classes")
        same(predictor.scale, stated["scale"], "scale")
        same(predictor.gsd, stated.get("gsd"), "gsd")
        model, _ = load_segmenter(path)
        kept = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
        told = {key: value for key, value in stated["weights"].items() if not key.endswith("num_batches_tracked")}
        same_tree(kept, told, "weights")


class WeightsFormat(Format):
    """A safetensors file, and a state_dict in both of torch's formats."""

    name = "weight files"
    suffix = ".bin"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        state = {"conv.weight": torch.arange(54.0).reshape(2, 3, 3, 3), "conv.bias": torch.tensor([0.5, -1.0])}
        save_file(state, folder / "seed.safetensors")
        self.seeds = [(folder / "seed.safetensors").read_bytes()]
        for new in (True, False):
            saved = io.BytesIO()
            torch.save(state, saved, _use_new_zipfile_serialization=new)
            self.seeds.append(saved.getvalue())

    def draw(self, rng: Random) -> bytes:
        return change_bytes(rng, rng.choice(self.seeds), self.seeds, head=400)

    def read(self, path: Path, content: bytes) -> None:
        safe = b'{"' in content[6:12]
        named = path.with_suffix(".safetensors" if safe else ".pt")
        named.write_bytes(content)
        state = read_state(named)
        sure(all(bool(torch.isfinite(value).all()) for value in state.values()), "finite")
        sure(sum(value.untyped_storage().nbytes() for value in state.values()) <= len(content), "bytes")
        if safe:
            length = int.from_bytes(content[:8], "little")
            table = json.loads(content[8 : 8 + length])
            kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "F16": "<f2"}
            for name, value in state.items():
                first, last = table[name]["data_offsets"]
                if kind := kinds.get(table[name]["dtype"]):
                    raw = np.frombuffer(content[8 + length + first : 8 + length + last], kind)
                    same(value.numpy().tolist(), raw.reshape(table[name]["shape"]).tolist(), name)


class OnnxFormat(Format):
    """The settings in an ONNX file and in a bundle, and seldom bytes of the graph."""

    name = "onnx and bundles"
    is_file = False
    inputs = 1500
    sample = 15
    suffix = ".onnx"
    GRAPH: ClassVar[float] = 0.1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from onnx import load

        from weakseg.export.model_files import export_bundle, export_onnx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_onnx(small_model(folder), folder / "seed.onnx")
            export_bundle(folder / "seed.pt", folder / "seed")
        self.onnx = load(folder / "seed.onnx")
        self.settings = json.loads(next(p.value for p in self.onnx.metadata_props if p.key == SETTINGS))
        self.files = {p: json.loads((folder / "seed" / p).read_text()) for p in ("classes.json", "preprocessing.json")}
        self.seeds = [(folder / "seed.onnx").read_bytes()]

    def draw(self, rng: Random) -> bytes:
        if rng.random() < self.GRAPH:
            return change_bytes(rng, self.seeds[0])
        if rng.random() < 0.3:
            changed = change_tree(rng, self.files)
            return as_json(changed if isinstance(changed, dict) else self.files)
        text = as_json(change_tree(rng, self.settings)).decode()
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text))]
        for entry in self.onnx.metadata_props:
            if entry.key == SETTINGS:
                entry.value = text
        return bytes(self.onnx.SerializeToString())

    def read(self, path: Path, content: bytes) -> None:
        if content[:1] != b"{":
            predictor, stated = load_predictor(path, PLAIN, CPU), None
        else:
            folder = self.folder / "bundle"
            shutil.copytree(self.folder / "seed", folder, dirs_exist_ok=True)
            for name, value in json.loads(content).items():
                if name in self.files:
                    (folder / name).write_bytes(as_json(value))
            predictor, stated = load_predictor(folder, PLAIN, CPU), json.loads(content)
        check_predictor(predictor, sound=stated is not None)  # a graph computes what it says
        if stated is not None and isinstance(stated.get("classes.json"), dict):
            rows = stated["classes.json"].get("classes")
            same(predictor.scheme.names, tuple(str(row["name"]) for row in rows), "classes")


class ScoresFormat(Format):
    """ScoreMaps: what is accepted are the maps that were written."""

    name = "scoremaps npz"
    suffix = ".npz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        scores = np.random.default_rng(0).random((2, 12, 16), np.float32).astype(np.float16)
        self.maps = ScoreMaps(scores, np.array([True, False, True, False]))
        save_scores(folder / "seed.npz", self.maps)
        self.seeds = [(folder / "seed.npz").read_bytes()]
        self.members = dict(np.load(folder / "seed.npz"))

    def draw(self, rng: Random) -> bytes:
        if rng.random() < 0.5:
            return change_bytes(rng, self.seeds[0], self.seeds)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in self.members.items():
                raw = io.BytesIO()
                np.save(raw, self._changed(rng, array))
                body = raw.getvalue() if rng.random() < 0.5 else change_bytes(rng, raw.getvalue(), head=100)
                archive.writestr(f"{name}.npy", body)
        return packed.getvalue()

    @staticmethod
    def _changed(rng: Random, array: Any) -> Any:
        how = rng.randrange(8)
        if how == 0:
            return array.astype(rng.choice(["i8", "f8", "c8", "S4", "U3", "u1", ">f2", "M8[s]"]))
        if how == 1:
            return array[..., : rng.randrange(2)]
        if how == 2:
            return array.T
        return array

    def read(self, path: Path, content: bytes) -> None:
        maps = load_scores(path)
        sure(maps.scores.dtype == np.float32 and maps.present.dtype == bool, "dtypes")
        sure(len(maps.scores) == maps.present.sum(), "a map per class")
        with np.load(path) as stored:
            sure(stored["scores"].dtype.kind == "f" and stored["present"].dtype == bool, f"{stored['scores'].dtype}")
            sure(maps.scores.size == 0 or bool(np.isin(maps.scores, stored["scores"].astype("f4")).all()), "values")


class ZipFormat(Format):
    """A zip of rasters with their sidecars."""

    name = "zips"
    inputs = 2000
    sample = 25
    suffix = ".zip"
    names = (
        "../x.png",
        "/x.png",
        "a/../../x.png",
        "C:\\x.png",
        "a\\x.png",
        ".hidden.png",
        "a.png",
        "x/a.png",
        "é.png",
        "a\0.png",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = np.random.default_rng(0)
        self.images = {}
        for name in ("a.png", "b.png"):
            write_raster(folder / name, rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
            self.images[name] = (folder / name).read_bytes()
        self.seeds = [self._pack({**self.images, "a.pgw": b"1\n0\n0\n-1\n0\n0\n", "note.txt": b"x"})]

    @staticmethod
    def _pack(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", how) as archive:
            for name, body in members.items():
                archive.writestr(name, body)
        return packed.getvalue()

    def draw(self, rng: Random) -> bytes:
        if rng.random() < 0.6:
            return change_bytes(rng, self.seeds[0], self.seeds)
        members = {rng.choice(self.names): self.images["a.png"], **self.images}
        members["c.png"] = change_bytes(rng, self.images["b.png"])
        return self._pack(
            members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        )

    def read(self, path: Path, content: bytes) -> None:
        scratch, before = self.folder / "scratch", sorted(self.folder.iterdir())
        listing = list_source(path, Limits())
        if listing.problems:
            raise ImportProblems(listing.problems)
        for entry in listing.rasters:
            with local_file(entry, scratch) as file:
                sure(file.resolve().is_relative_to(scratch.resolve()), f"{entry} leaves its folder")
                with zipfile.ZipFile(path) as archive:
                    same(file.read_bytes(), archive.read(entry.name), "unpacked")
                read_image(file)
        same(sorted(self.folder.iterdir()), before, "files beside it")


MODEL_FORMATS = (CheckpointFormat, ModelFormat, WeightsFormat, OnnxFormat, ScoresFormat, ZipFormat)
