"""The commands of the README on five-band rasters of 16 bits, from the import to maps, exports and pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import yaml
from rasterio.io import MemoryFile
from tests.serving.test_application import running
from tests.tagging.test_server import Client
from typer.testing import CliRunner

import weakseg
from weakseg.cli import app
from weakseg.core.classes import ISPRS, load_classes
from weakseg.core.errors import WeaksegError
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import PLAIN
from weakseg.labels.crop_order import write_order
from weakseg.raster.open import read_mask
from weakseg.serving.application import make_application
from weakseg.serving.demo import make_server
from weakseg.serving.open_rasters import Rasters
from weakseg.serving.service import MapService
from weakseg.tagging.guesses import predict_with
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.run import tag_server
from weakseg.training.machine import Machine

AREAS = ("p1", "p2", "t1", "t2", "v1")
NAMES = ("red", "green", "blue", "nir", "height")
RISE = np.array([0, 900, 0, 500, 150, *[0] * 251], np.uint16)  # cm above ground, by class
Paint = Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


def save(path: Path, layers: npt.NDArray[Any], number: int, names: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = rasterio.Affine(0.5, 0, 400_000 + 100 * number, 0, -0.5, 5_000_000)
    layout = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:25832", transform=place, **layout) as file:
        file.write(layers)
        if names:
            file.descriptions = names


def run(root: Path, *words: object) -> str:
    result = CliRunner().invoke(app, ["--root", str(root), *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, paint: Paint, tiny: Callable[[], dict[str, Any]]) -> Path:
    """A workspace after import and the stages up to an evaluated network; sources/ beside it."""
    base = tmp_path_factory.mktemp("readme")
    for number, area in enumerate(AREAS):
        picture, mask = paint(number)
        infrared = np.where((mask == 2) | (mask == 3), 8000, 2000).astype(np.uint16)
        layers = np.stack([*np.moveaxis(picture.astype(np.uint16) * 40, -1, 0), infrared, RISE[mask]])
        save(base / "images" / f"{area}.tif", layers, number, NAMES)
        save(base / "labels" / f"{area}.tif", np.moveaxis(ISPRS.to_colours(mask), -1, 0), number)
    root = base / "mine"
    root.mkdir()
    raw = tiny()
    raw["segment"]["augment"]["drop_band"] = 0.3
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    said = run(root, "data", "import", base / "images", base / "labels")
    assert "bands: red (uint16), green (uint16), blue (uint16), nir (uint16), height (uint16 m)" in said
    run(root, "data", "split", "--pixel", 2, "--tagged", 2, "--validation", 1, "--no-every-class")
    run(root, "data", "tags", "--size", 16, "--write")
    stages = [("tiles",), ("classifier",), ("cam",), ("segment", "pixel"), ("teacher",), ("pseudo", "teacher")]
    for stage in [*stages, ("segment", "full"), ("evaluate", "pixel"), ("evaluate", "full")]:
        run(root, "stage", *stage)
    return root


def test_every_command_of_the_readme_is_among_these() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"--root \S+ ", "", text)
    named = set(re.findall(r"(?:^|`)weakseg ((?:data|labels|runs) \w+|\w+)", text, re.MULTILINE))
    here = {
        *("init", "data import", "data split", "show", "predict", "areas", "export", "runs compare"),
        *("tag", "next", "labels suspects", "demo", "serve", "repro"),
    }
    assert named - {"readme"} <= here


def test_a_workspace_of_a_preset_takes_the_images(mine: Path, tmp_path: Path) -> None:
    run(tmp_path / "new", "init", "--config", "demo")
    run(tmp_path / "new", "data", "import", mine.parent / "images", mine.parent / "labels", "--dry-run")


def test_stages_run_side_by_side(mine: Path, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    shutil.copytree(mine, root, ignore=shutil.ignore_patterns("out", "reports"))
    run(root, "init")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=root, check=True)
    command = [sys.executable, "-m", "weakseg", "--root", str(root), "repro", "--jobs", "2", "tiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    areas = (root / "out" / "tiles" / "areas.csv").read_text()
    assert areas == (mine / "out" / "tiles" / "areas.csv").read_text()


def test_the_import_draws_its_sheet(mine: Path) -> None:
    assert (mine / "out" / "sheets" / "import.png").stat().st_size > 1000
    assert [band["name"] for band in yaml.safe_load((mine / "data" / "bands.yaml").read_text())["bands"]] == list(NAMES)


@pytest.mark.parametrize("method", ["cam", "teacher"])
def test_show_draws_a_sheet(mine: Path, method: str) -> None:
    area = (mine / "out" / "tiles" / "areas.csv").read_text().splitlines()[1].split(",")[0]
    run(mine, "show", method, "--area", area)
    assert (mine / "out" / "sheets" / method / f"{area}.jpg").is_file()


def test_the_page_is_drawn(mine: Path) -> None:
    run(mine, "stage", "report")
    page = (mine / "reports" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/") > 3


def test_runs_compare(mine: Path) -> None:
    assert "building" in run(mine, "runs", "compare", "pixel", "full")


@contextmanager
def tag_client(root: Path) -> Iterator[Client]:
    """The tag page's client, with the guesses of the task (i) network."""
    model = str(root / "out" / "checkpoints" / "pixel" / "seed0.pt")
    with tag_server(root, order=order_of(root), model=model) as (server, said):
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Client(said.split()[0])
        finally:
            server.shutdown()
            thread.join()


def order_of(root: Path) -> Path:
    """A list of two crops: the table has tags of all others."""
    path = root.parent / "order.csv"
    write_order(path, [("t1", (0, 0, 16, 16)), ("t2", (16, 16, 16, 16))])
    return path


def test_the_tag_page_shows_crops_and_guesses_from_all_bands(mine: Path) -> None:
    with tag_client(mine) as client:
        crops = client.next(2)["crops"]
        assert client.get(f"picture?key={crops[0]['key']}")[:3] == b"\xff\xd8\xff"
        assert client.get("overview?area=t1")[:3] == b"\xff\xd8\xff"
        found = client.get(f"guess?keys={crops[0]['key']}")
    assert found["fault"] == ""
    assert set(found["guesses"][crops[0]["key"]]) == set(ISPRS.names)


def test_guesses_find_the_bands_of_a_model_of_another_order(mine: Path, tmp_path: Path) -> None:
    """A network of another workspace may have its bands elsewhere: they are found by name, or it is no network here."""
    machine = Machine(device="cpu", precision="no", quiet=True)
    predictor = load_predictor(mine / "out" / "checkpoints" / "pixel" / "seed0.pt", PLAIN, machine)
    images = tmp_path / "images"
    order = [4, 3, 2, 1, 0]
    with rasterio.open(mine / "data" / "images" / "t1.tif") as file:
        layers = file.read()
    save(images / "t1.tif", layers[order], 2, tuple(NAMES[index] for index in order))
    save(images / "t2.tif", layers[:4], 2, NAMES[:4])
    whole = np.moveaxis(layers, 0, -1)
    says = predict_with(predictor, mine / "data" / "images", machine)("t1", whole)
    other = predict_with(predictor, images, machine)
    np.testing.assert_array_equal(other("t1", whole[..., order]), says)
    flat = whole.copy()
    flat[..., 4] = predictor.bands.fill_value(4)
    np.testing.assert_array_equal(
        other("t2", whole[..., :4]), predict_with(predictor, mine / "data" / "images", machine)("t1", flat)
    )


def test_next_and_suspects(mine: Path) -> None:
    run(mine, "next", "--count", 4, "--sources", "pixel")
    assert (mine / "out" / "next" / "crops.csv").is_file()
    run(mine, "labels", "suspects", "--shown", 4)
    assert (mine / "tagging" / "suspects.csv").is_file()


def test_the_server_maps_a_file_and_opens_a_raster_of_the_workspace(mine: Path) -> None:
    machine = Machine(device="cpu", precision="no", quiet=True)
    service = MapService(load_predictor(mine / "out" / "checkpoints" / "pixel" / "seed0.pt", PLAIN, machine))
    with running(make_application(service, "m", rasters=Rasters(service, mine))) as ask:
        status, _, body = ask("POST", "/map", (mine.parent / "images" / "v1.tif").read_bytes())
        assert status == 200
        with MemoryFile(body) as memory, memory.open() as file:
            assert file.shape == (64, 64)
        content = json.dumps({"path": "data/images/v1.tif"}).encode()
        status, _, body = ask("POST", "/rasters", content, Content_Type="application/json")
        assert status == 200, body
        status, headers, _ = ask("GET", f"/rasters/{json.loads(body)['key']}/image/0/0/0")
        assert (status, headers["content-type"]) == (200, "image/jpeg")


def test_predict_polygons_and_areas(mine: Path, tmp_path: Path) -> None:
    model = mine / "out" / "checkpoints" / "pixel" / "seed0.pt"
    run(mine, "predict", "--model", model, mine.parent / "images" / "v1.tif", tmp_path / "map.tif", "--window", 48)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.count, file.shape, file.crs.to_epsg()) == (1, (64, 64), 25832)
    run(mine, "polygons", tmp_path / "map.tif", tmp_path / "map.gpkg")
    run(mine, "areas", tmp_path / "map.tif")
    run(mine, "predict", "--model", model, mine.parent / "images", tmp_path / "maps", "--window", 48)
    run(mine, "predict", "--model", model, mine.parent / "images", tmp_path / "one", "--window", 48, "--mosaic")
    assert len(list((tmp_path / "maps").glob("*.tif"))) == 5


def test_predict_without_heights_and_with_heights_beside(mine: Path, tmp_path: Path) -> None:
    model = mine / "out" / "checkpoints" / "pixel" / "seed0.pt"
    with rasterio.open(mine.parent / "images" / "v1.tif") as file:
        save(tmp_path / "v1.tif", file.read([1, 2, 3, 4]), 4, NAMES[:4])
        save(tmp_path / "h.tif", file.read([5]), 4)
    predict = ("predict", "--window", 48, "--model", model)
    assert "lacks height" in run(mine, *predict, tmp_path / "v1.tif", tmp_path / "without.tif")
    run(mine, *predict, tmp_path / "v1.tif", tmp_path / "with.tif", "--heights", tmp_path / "h.tif")
    run(mine, *predict, mine.parent / "images" / "v1.tif", tmp_path / "inside.tif")
    maps = {}
    for name in ("without", "with", "inside"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            maps[name] = file.read(1)
    np.testing.assert_array_equal(maps["with"], maps["inside"])


@pytest.mark.parametrize("to", ["onnx", "bundle", "pt2", "torchscript"])
def test_export(mine: Path, tmp_path: Path, to: str) -> None:
    model = mine / "out" / "checkpoints" / "pixel" / "seed0.pt"
    target = tmp_path / {"onnx": "m.onnx", "bundle": "bundle", "pt2": "m.pt2", "torchscript": "m.pt"}[to]
    run(mine, "export", model, target, "--to", to)
    if to in ("pt2", "torchscript"):
        assert target.stat().st_size > 10_000
        return
    run(mine, "predict", "--model", target, mine.parent / "images" / "v1.tif", tmp_path / "map.tif", "--window", 48)


def test_export_for_deepness_is_refused_in_a_sentence(mine: Path, tmp_path: Path) -> None:
    """The plugin has pictures of 8 bits alone."""
    with pytest.raises(WeaksegError, match="Deepness"):
        run(
            mine, "export", mine / "out" / "checkpoints" / "pixel" / "seed0.pt", tmp_path / "d.onnx", "--to", "deepness"
        )


def test_python(mine: Path) -> None:
    model = weakseg.open_model(mine / "out" / "checkpoints" / "pixel" / "seed0.pt")
    found = weakseg.predict(model, mine / "data" / "images" / "v1.tif")
    truth = read_mask(mine / "data" / "labels" / "v1.tif", load_classes(mine / "data" / "classes.yaml"))
    assert set(weakseg.score(truth, found, model.scheme)["iou"]) == set(ISPRS.names)


def test_the_demo_page_answers(mine: Path) -> None:
    machine = Machine(device="cpu", precision="no", quiet=True)
    service = MapService(load_predictor(mine / "out" / "checkpoints" / "pixel" / "seed0.pt", PLAIN, machine))
    with make_server(service, "m", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        page = urllib.request.urlopen(address).read().decode()
        server.shutdown()
    assert "<html" in page
    answer = service.answer_file((mine.parent / "images" / "v1.tif").read_bytes())
    assert answer.image.shape == (64, 64, 3)


def test_crops_are_shown_on_the_tag_page(mine: Path, tmp_path: Path) -> None:
    pictures = CropPictures(mine / "data" / "images", dict.fromkeys(AREAS, (64, 64)), tmp_path)
    assert pictures.crop(("t1", (0, 0, 16, 16)))[:3] == b"\xff\xd8\xff"
    assert pictures.overview("t1")[:3] == b"\xff\xd8\xff"


def test_the_evaluation_is_one(mine: Path) -> None:
    report = json.loads((mine / "reports" / "evaluate" / "pixel.json").read_text())
    assert 0 <= report["miou"] <= 1
