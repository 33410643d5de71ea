"""Rasters of the page of `weakseg serve`: opening, the map where somebody looks and of all of it, measuring, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from tests.generators.plain_rasters import save_raster
from tests.serving.test_service import blurred, service
from torch import Tensor

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.raster.pyramid import NoTileError
from weakseg.raster.stream import inspect_source
from weakseg.serving.background import BusyError, Work, Worker
from weakseg.serving.live_windows import WindowCache
from weakseg.serving.open_rasters import MOST_OPEN, Rasters
from weakseg.serving.service import Limits, MapService, TooLargeError
from weakseg.serving.shown import Shown, shrink_map

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)}


def knowing(scale: float = 1.0, forward: Callable[[Tensor], Tensor] = blurred, **limits: int) -> MapService:
    """A service whose model knows what it was trained on: the index is how bright the red band is, 1 at 128."""

    def with_index(images: Tensor) -> Tensor:
        return torch.cat([forward(images), images[:, :1].float() / 128], 1)

    predictor = Predictor(forward, ISPRS, scale, None, torch.device("cpu"), "digest", with_index=with_index)
    return MapService(predictor, Limits(**limits))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a picture of 600 x 700 px whose first 40 rows have no data."""
    coarse = np.random.default_rng(1).integers(1, 256, (30, 35, 3), dtype=np.uint8)
    layers = np.moveaxis(cv2.resize(coarse, (700, 600), interpolation=cv2.INTER_LINEAR), -1, 0).copy()
    layers[:, :40] = 0
    (tmp_path / "ws" / "data").mkdir(parents=True)
    save_raster(tmp_path / "ws" / "data" / "a.tif", layers, nodata=0, **UTM)
    return tmp_path / "ws"


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[..., Rasters]]:
    made: list[Rasters] = []

    def start(service: MapService | None = None) -> Rasters:
        made.append(Rasters(service or knowing(), root))
        return made[-1]

    yield start
    for rasters in made:
        rasters.close()


def finish(work: Callable[[], Work]) -> None:
    until = time.monotonic() + 60
    while work().active:
        assert time.monotonic() < until
        time.sleep(0.01)


# ---- opening --------------------------------------------------------------------------------------------------------


def test_paths_are_those_inside_the_workspace(root: Path, opened: Callable[..., Rasters], tmp_path: Path) -> None:
    rasters = opened()
    save_raster(tmp_path / "secret.tif", np.ones((3, 9, 9), np.uint8))
    (root / "link.tif").symlink_to(tmp_path / "secret.tif")
    (root / "inner.tif").symlink_to(root / "data" / "a.tif")
    (root / "folder").symlink_to(tmp_path)
    (root / ".hidden").mkdir()
    save_raster(root / ".hidden" / "h.tif", np.ones((3, 9, 9), np.uint8))
    assert rasters.list_paths() == ["data/a.tif", "inner.tif", "link.tif"]
    outside = [
        *("../secret.tif", str(tmp_path / "secret.tif"), "link.tif", "folder/secret.tif", "data/../../secret.tif"),
        *("none.tif", "data", "", "/etc/passwd", "a\0.tif", "/vsicurl/http://x/a.tif"),
    ]
    for text in outside:
        with pytest.raises(DataError, match="no raster of this workspace; expected a path inside it"):
            rasters.open_path(text)
    assert rasters.open_path("data/a.tif").name == "data/a.tif"
    assert rasters.open_path(str(root / "data" / "a.tif")).name == "data/a.tif"
    assert rasters.open_path("inner.tif").name == "data/a.tif"


def test_virtual_rasters_are_refused_by_their_bytes(root: Path, opened: Callable[..., Rasters]) -> None:
    vrt = '<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>'
    (root / "v.vrt").write_text(vrt)
    (root / "v.tif").write_text(vrt)
    with pytest.raises(DataError, match=r"expected a \.tif, \.png or \.jpg"):
        opened().open_path("v.vrt")
    with pytest.raises(DataError, match="expected a GeoTIFF, PNG or JPEG"):
        opened().open_path("v.tif")


def test_without_a_workspace_there_are_uploads_alone(root: Path) -> None:
    rasters = Rasters(service())
    assert rasters.list_paths() == []
    with pytest.raises(DataError, match="no raster of this workspace"):
        rasters.open_path(str(root / "data" / "a.tif"))
    upload = rasters.folder() / "upload"
    upload.write_bytes((root / "data" / "a.tif").read_bytes())
    shown = rasters.open_upload(upload, "mine.tif")
    assert (shown.name, shown.source.height, shown.source.path.suffix) == ("mine.tif", 600, ".tif")
    rasters.close()
    assert not shown.folder.exists()


def test_what_cannot_be_opened_is_one_sentence_and_leaves_nothing(root: Path, opened: Callable[..., Rasters]) -> None:
    rasters = opened(knowing(pixels=1000))
    png = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    four = (save_raster(root / "four.tif", np.ones((4, 9, 9), np.uint8))).read_bytes()
    for content, error, words in (
        (b"hello", DataError, r"^x: starts with b'hell'; expected a GeoTIFF"),
        (png, TooLargeError, r"^x: 40 x 40 px; expected at most 1000 px in a PNG or JPEG"),
        (four, DataError, r"^x: 4 band\(s\); expected 3 bands"),
    ):
        upload = rasters.folder() / "upload"
        upload.write_bytes(content)
        with pytest.raises(error, match=words):
            rasters.open_upload(upload, "x")
        assert not upload.parent.exists()
    assert rasters.open_path("four.tif", (4, 1, 2)).source.bands == (4, 1, 2)
    with pytest.raises(ParamsError, match="stretch of 1 number"):
        rasters.open_path("data/a.tif", (), (1,))


def test_the_same_raster_is_opened_once_until_it_changes(root: Path, opened: Callable[..., Rasters]) -> None:
    rasters = opened()
    first = rasters.open_path("data/a.tif")
    assert rasters.open_path("data/a.tif") is first
    assert rasters.open_path("data/a.tif", (3, 2, 1)) is not first
    save_raster(root / "data" / "a.tif", np.ones((3, 9, 9), np.uint8))
    assert rasters.open_path("data/a.tif").source.height == 9


def test_the_oldest_that_is_idle_is_closed(root: Path, opened: Callable[..., Rasters]) -> None:
    rasters = opened()
    for number in range(MOST_OPEN):
        save_raster(root / f"{number}.tif", np.full((3, 9, 9), number + 1, np.uint8))
    shown = [rasters.open_path(f"{number}.tif") for number in range(MOST_OPEN)]
    shown[0].map = Work("running")
    rasters.open_path("data/a.tif")
    assert rasters.get(shown[0].key) is shown[0]
    assert not shown[1].folder.exists()
    with pytest.raises(NoTileError, match="open it again"):
        rasters.get(shown[1].key)
    for one in shown:
        one.map = Work("running")
    rasters.open_path("data/a.tif").map = Work("running")
    with pytest.raises(BusyError, match="8 rasters are open and at work"):
        rasters.open_path("1.tif")


# ---- the map --------------------------------------------------------------------------------------------------------


def written(root: Path, tmp_path: Path, answering: MapService) -> np.ndarray:
    """uint8 (3, H, W): what `weakseg predict` writes."""
    names = ("map", "confidence", "applicability")
    files = [tmp_path / f"{name}.tif" for name in names]
    options = Options(confidence=files[1], applicability=files[2])
    run_predictor(answering.predictor, inspect_source(root / "data" / "a.tif", None), files[0], options)
    layers = []
    for path in files:
        with rasterio.open(path) as file:
            layers.append(file.read(1))
    return np.stack(layers)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_somebody_looks_at_is_what_predict_writes(
    root: Path, opened: Callable[..., Rasters], tmp_path: Path, scale: float
) -> None:
    rasters, expected = opened(knowing(scale)), written(root, tmp_path, knowing(scale))
    shown = rasters.open_path("data/a.tif")
    for column, row in ((0, 0), (1, 1), (2, 2)):
        place = (slice(None), slice(row * 256, row * 256 + 256), slice(column * 256, column * 256 + 256))
        found = np.moveaxis(shown.map_tile(0, column, row), -1, 0).astype(int)
        assert (found[0] != expected[place][0]).mean() < 1e-3  # the order of sums differs
        assert np.abs(found[1:] - expected[place][1:]).max() <= 1
    assert (shown.map_tile(0, 0, 0)[:40] == 255).all()
    assert shown.live_level == shown.pyramid.levels - 1  # all of so small a raster takes few windows


def test_a_whole_map_is_that_of_predict_and_is_seen_from_afar(
    root: Path, opened: Callable[..., Rasters], tmp_path: Path
) -> None:
    rasters, expected = opened(), written(root, tmp_path, knowing())
    shown = rasters.open_path("data/a.tif")
    rasters.make_map(shown)
    finish(lambda: shown.map)
    assert (shown.map.state, shown.map.done, shown.map.total) == ("done", 600, 600)
    for index, kind in enumerate(("map", "confidence", "applicability")):
        with rasterio.open(shown.file(kind)) as file:
            np.testing.assert_array_equal(file.read(1), expected[index])
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    known = expected[2] != 255
    assert shown.unlike == pytest.approx((expected[2][known] > 100).mean(), abs=1e-4)
    np.testing.assert_array_equal(shown.map_tile(0, 1, 1)[..., 0], expected[0][256:512, 256:512])
    from_afar = shown.map_tile(2, 0, 0)
    assert from_afar.shape == (150, 175, 3)
    assert set(np.unique(from_afar[..., 0])) <= {*range(5), 255}
    assert shown.file("style").is_file()
    rasters.make_polygons(shown)
    finish(lambda: shown.polygons)
    assert shown.polygons.state == "done"
    assert shown.file("polygons").stat().st_size > 0


def test_a_model_that_does_not_know_leaves_the_layer_empty(root: Path, opened: Callable[..., Rasters]) -> None:
    rasters = opened(service())
    shown = rasters.open_path("data/a.tif")
    assert (shown.map_tile(0, 1, 1)[..., 2] == 255).all()
    rasters.make_map(shown)
    finish(lambda: shown.map)
    assert shown.unlike is None
    assert (shown.map_tile(0, 1, 1)[..., 2] == 255).all()
    assert (shown.map_tile(0, 1, 1)[..., 0] < 5).all()


def test_no_look_from_afar_runs_a_model_over_a_country(root: Path, opened: Callable[..., Rasters]) -> None:
    save_raster(root / "big.tif", np.ones((3, 5000, 5000), np.uint8), **UTM)
    rasters = opened()
    shown = rasters.open_path("big.tif")
    # windows of 512 px every 384 or less: a tile of 1024 px needs up to 5 x 5, one of 2048 px 7 x 7
    assert shown.live_level == 2
    with pytest.raises(NoTileError, match="make the whole map"):
        shown.map_tile(3, 0, 0)
    corners = [(0.0, 0.0), (5000.0, 0.0), (5000.0, 5000.0), (0.0, 5000.0)]
    assert shown.measure(corners)["classes"] is None
    finish(lambda: shown.preview)


def test_work_ends_when_it_is_told_to(root: Path, opened: Callable[..., Rasters]) -> None:
    gate = threading.Event()

    def slow(images: Tensor) -> Tensor:
        gate.wait(30)
        return blurred(images)

    held = MapService(Predictor(slow, ISPRS, 1.0, None, torch.device("cpu"), "digest"), Limits())
    rasters = opened(held)
    shown = rasters.open_path("data/a.tif")
    rasters.make_map(shown)
    rasters.make_map(shown)  # is the same work
    with pytest.raises(DataError, match="no map of the whole raster"):
        rasters.make_polygons(shown)
    shown.map.stop()
    gate.set()
    finish(lambda: shown.map)
    assert shown.map.state == "stopped"
    rasters.make_map(shown)
    finish(lambda: shown.map)
    assert shown.map.state == "done"


def test_faults_are_told_and_the_thread_lives_on(root: Path, opened: Callable[..., Rasters]) -> None:
    broken = MapService(Predictor(lambda _: 1 / 0, ISPRS, 1.0, None, torch.device("cpu"), "digest"), Limits())  # type: ignore[arg-type,return-value]
    rasters = opened(broken)
    for _ in range(2):
        shown = rasters.open_path("data/a.tif")
        rasters.make_map(shown)
        finish(lambda: shown.map)  # noqa: B023
        assert (shown.map.state, shown.map.message) == (
            "failed",
            "it failed; the traceback is in the log of the server",
        )


def test_so_much_work_waits_and_no_more() -> None:
    gate = threading.Event()
    worker = Worker(2)
    first, second = worker.start(lambda _: bool(gate.wait(30)) and None), worker.start(lambda _: None)
    with pytest.raises(BusyError, match="2 pieces of work wait or run; expected fewer; come again in 5 s"):
        worker.start(lambda _: None)
    second.stop()
    assert second.state == "stopped"
    third = worker.start(lambda _: None)
    gate.set()
    finish(lambda: third)
    assert (first.state, second.state, third.state) == ("done", "stopped", "done")
    worker.close()


# ---- measuring ------------------------------------------------------------------------------------------------------


def test_classes_inside_an_outline_before_and_after_the_map_is_made(
    root: Path, opened: Callable[..., Rasters], tmp_path: Path
) -> None:
    rasters, classes = opened(), written(root, tmp_path, knowing())[0]
    shown = rasters.open_path("data/a.tif")
    corners = [(100.0, 20.0), (400.0, 20.0), (400.0, 120.0), (100.0, 120.0)]
    expected = np.bincount(classes[20:120, 100:400].ravel(), minlength=256)
    for made in (False, True):
        if made:
            rasters.make_map(shown)
            finish(lambda: shown.map)
        found = shown.measure(corners)
        assert found["pixels"] == 30_000
        assert found["square_metres"] == pytest.approx(30_000 * 0.25 / 0.9996**2, rel=3e-4)
        np.testing.assert_allclose(found["classes"], [*expected[:5], expected[255]], atol=0 if made else 30)
        assert sum(found["classes"]) == 30_000


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_maps_shrink_to_the_commonest_class_and_the_mean_of_the_rest() -> None:
    layers = np.zeros((3, 2, 5), np.uint8)
    layers[0] = [[1, 1, 2, 255, 3], [1, 0, 255, 255, 3]]
    layers[1] = [[10, 20, 90, 255, 7], [30, 40, 255, 255, 9]]
    layers[2] = 255
    found = shrink_map(layers, 2)
    assert found[..., 0].tolist() == [[1, 255, 3]]
    assert found[..., 1].tolist() == [[25, 255, 8]]
    assert (found[..., 2] == 255).all()
    np.testing.assert_array_equal(shrink_map(layers, 1), np.moveaxis(layers, 0, -1))


def test_the_cache_of_windows_keeps_within_its_bytes() -> None:
    one, two = object(), object()
    maps = np.zeros((1, 10, 10), np.float32)  # 400 bytes
    cache = WindowCache(1000)
    cache.put((one, 0, 0), maps)
    cache.put((one, 0, 1), None)
    cache.put((two, 0, 0), maps)
    cache.get((one, 0, 0))
    cache.put((two, 0, 1), maps)  # the oldest, that is (one, 0, 1) and (two, 0, 0), goes
    assert [place in cache for place in ((one, 0, 0), (one, 0, 1), (two, 0, 0), (two, 0, 1))] == [
        True,
        False,
        False,
        True,
    ]
    cache.forget(one)
    cache.put((two, 1, 1), maps)
    assert (two, 0, 1) in cache


def shown_files(shown: Shown) -> list[str]:
    return sorted(path.name for path in shown.folder.iterdir())


def test_only_the_scratch_is_written_to(root: Path, opened: Callable[..., Rasters]) -> None:
    before = sorted(root.rglob("*"))
    rasters = opened()
    shown = rasters.open_path("data/a.tif")
    rasters.make_map(shown)
    finish(lambda: shown.map)
    assert sorted(root.rglob("*")) == before
    assert {"map.tif", "confidence.tif", "applicability.tif", "map.qml"} <= set(shown_files(shown))
    rasters.close()
    assert not shown.folder.exists()
