"""Confidence, entropy, margin and applicability of a map: their values by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.plain_rasters import save_raster as save
from tests.inference.test_predict import CPU, model_file, picture, read
from torch import Tensor
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.evaluation.applicability import fit_applicability
from weakseg.inference.encode import KINDS, encode_maps
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.options import Options
from weakseg.inference.run import predict_layers, run_predictor
from weakseg.inference.scene import DIHEDRAL, PLAIN, View
from weakseg.raster.stream import inspect_source
from weakseg.training.segmenter import load_segmenter

OLD = Path(__file__).parents[1] / "old_files" / "encdec_unpool.pt"
TWO = ClassScheme(("road", "tree"), ((0, 0, 0), (255, 0, 0)))


def halves(images: Tensor) -> Tensor:
    """Probabilities 0.8 and 0.2; the index is 0.5 where the first band is dark, and 2 where it is bright."""
    first = torch.full_like(images[:, :1], 0.8, dtype=torch.float32)
    return torch.cat([first, 1 - first, 0.5 + 1.5 * (images[:, :1] > 127)], 1)


def known(forward: Callable[[Tensor], Tensor] = halves, *, temperatures: tuple[float, ...] = (2.0, 2.0)) -> Predictor:
    return Predictor(
        lambda images: forward(images)[:, :2], TWO, 1.0, None, torch.device("cpu"), "digest", temperatures, forward
    )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """40 x 60 px: dark, from column 45 on bright; the ten columns from 50 on have no data."""
    layers = np.zeros((3, 40, 60), np.uint8)
    layers[:, :, 45:] = 255
    layers[:, :, 50:] = 7
    return save(tmp_path / "a.tif", layers, nodata=7)


def test_every_layer_by_hand() -> None:
    """0.6, 0.3, 0.1 as they are; at temperature 1/2 they are 36, 9, 1 of 46. The index is the last map."""
    maps = np.array([0.6, 0.3, 0.1, 1.5], np.float32).reshape(4, 1, 1)
    kinds = tuple(KINDS)
    entropy = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1)) / np.log(3)
    plain = [0, round(0.6 * 254), round(254 * entropy), round(0.3 * 254), 150, 152, 76, 25]
    assert encode_maps(maps, kinds, classes=3).ravel().tolist() == plain
    sharp = np.array([36, 9, 1]) / 46
    entropy = -(sharp * np.log(sharp)).sum() / np.log(3)
    said = [0, round(254 * 36 / 46), round(254 * entropy), round(254 * 27 / 46), 150]
    found = encode_maps(maps, kinds, classes=3, temperatures=(0.5, 9, 9)).ravel()
    assert found[:5].tolist() == said


@pytest.mark.parametrize(("shares", "entropy", "margin"), [((1, 0), 0, 254), ((0.5, 0.5), 254, 0), ((1,), 0, 254)])
def test_certain_and_undecided(shares: tuple[float, ...], entropy: int, margin: int) -> None:
    maps = np.array(shares, np.float32).reshape(-1, 1, 1)
    found = encode_maps(maps, ("entropy", "margin"), classes=len(shares)).ravel()
    assert found.tolist() == [entropy, margin]


def test_a_far_place_is_written_as_the_largest_value() -> None:
    maps = np.array([[[1.0]], [[99.0]]], np.float32)
    assert encode_maps(maps, ("applicability",), classes=1).ravel().tolist() == [254]


def test_the_files_of_a_prediction(scene: Path, tmp_path: Path) -> None:
    """At temperature 2 the winner has two thirds; 5 of the 50 columns with data are unlike the training."""
    files = {kind: tmp_path / f"{kind}.tif" for kind in ("confidence", "entropy", "margin", "applicability")}
    done = run_predictor(known(), inspect_source(scene, None), tmp_path / "o.tif", Options(window=32, **files))  # type: ignore[arg-type]
    assert done.unlike == pytest.approx(0.1, abs=1e-9)
    assert np.unique(read(files["confidence"])).tolist() == [round(254 * 2 / 3), 255]
    assert np.unique(read(files["margin"])).tolist() == [round(254 / 3), 255]
    index = read(files["applicability"])[0, 0]
    assert (index[:45].tolist(), index[45:50].tolist(), index[50:].tolist()) == ([50] * 45, [200] * 5, [255] * 10)
    again = run_predictor(known(), inspect_source(scene, None), tmp_path / "o.tif", Options(window=32, **files))  # type: ignore[arg-type]
    assert (again.windows, again.unlike) == (0, pytest.approx(0.1))


def test_the_map_is_the_same_with_and_without_temperatures(tmp_path: Path) -> None:
    source = inspect_source(save(tmp_path / "a.tif", picture(70, 90)), None)

    def mixed(images: Tensor) -> Tensor:
        return torch.cat([(images[:, :2].float() / 20).softmax(1), torch.zeros_like(images[:, :1]).float()], 1)

    options = Options(window=64, confidence=tmp_path / "c.tif")
    plain, warm = (predict_layers(known(mixed, temperatures=each), source, options) for each in ((), (3.0, 0.7)))
    np.testing.assert_array_equal(plain[0], warm[0])
    assert (plain[1] != warm[1]).mean() > 0.5


def test_a_raster_that_is_too_unlike_is_refused_and_leaves_nothing(scene: Path, tmp_path: Path) -> None:
    source, target = inspect_source(scene, None), tmp_path / "o.tif"
    with pytest.raises(DataError, match=r"a\.tif: 10% of it is unlike .* expected at most 5%; label some of it"):
        run_predictor(known(), source, target, Options(max_unlike=0.05))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]
    run_predictor(known(), source, target, Options(max_unlike=0.1))
    with pytest.raises(DataError, match="10% of it is unlike"):  # a map that is there already is none for this limit
        run_predictor(known(), source, target, Options(max_unlike=0.05))


@pytest.mark.parametrize("options", [{"applicability": Path("x.tif")}, {"max_unlike": 0.5}])
def test_a_model_that_does_not_know_cannot_be_asked(scene: Path, tmp_path: Path, options: dict[str, object]) -> None:
    blind = Predictor(lambda x: halves(x)[:, :2], TWO, 1.0, None, torch.device("cpu"), "digest")
    source = inspect_source(scene, None)
    with pytest.raises(ParamsError, match=r"does not know what it was trained on.* train it again"):
        run_predictor(blind, source, tmp_path / "o.tif", Options(**options))  # type: ignore[arg-type]
    assert run_predictor(blind, source, tmp_path / "o.tif", Options()).unlike is None


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(scene: Path, tmp_path: Path, share: float) -> None:
    with pytest.raises(ParamsError, match="expected a share from 0 to 1"):
        run_predictor(known(), inspect_source(scene, None), tmp_path / "o.tif", Options(max_unlike=share))


def taught(path: Path, *, limit: float | None = None) -> Path:
    """A model file with temperatures and an area of applicability of random places, with this limit if any."""
    depth = load_segmenter(model_file(path))[0].encode(torch.zeros(1, 3, 32, 32)).features[1].shape[1]
    places = torch.randn(60, depth, generator=torch.Generator().manual_seed(0)).abs()
    content = fit_applicability(places, torch.arange(60) % 3).content()
    content |= {"limit": torch.tensor(limit)} if limit is not None else {}
    return model_file(path, temperatures=[1.5, 1, 1, 2, 1], applicability=content)


@pytest.mark.parametrize("views", [PLAIN, DIHEDRAL[1:2], DIHEDRAL], ids=["plain", "turned", "all"])
def test_the_index_is_of_the_image_as_it_is_whatever_the_views(tmp_path: Path, views: tuple[View, ...]) -> None:
    file = taught(tmp_path / "m.pt")
    image = torch.from_numpy(picture(70, 90))[None]
    opened, unturned = (load_predictor(file, each, CPU) for each in (views, PLAIN))
    assert opened.with_index is not None
    assert unturned.with_index is not None
    found, plain = opened.with_index(image), unturned.with_index(image)
    assert found.shape == (1, 6, 70, 90)
    torch.testing.assert_close(found[:, 5], plain[:, 5])
    torch.testing.assert_close(found[:, :5].sum(1), torch.ones(1, 70, 90))
    torch.testing.assert_close(opened.forward(image), found[:, :5], rtol=0, atol=0)
    assert (opened.temperatures, opened.applicable) == ((1.5, 1, 1, 2, 1), True)


def test_a_file_of_before_opens_and_its_confidence_is_as_the_network_says_it(tmp_path: Path) -> None:
    old = load_predictor(OLD, PLAIN, CPU)
    assert (old.temperatures, old.applicable) == ((), False)
    assert old.forward(torch.zeros(1, 3, 40, 40)).shape == (1, len(old.scheme), 40, 40)


def test_the_command_says_the_share_and_refuses(tmp_path: Path) -> None:
    file, raster = taught(tmp_path / "m.pt", limit=1e-4), save(tmp_path / "a.tif", picture(40, 60))
    words = ["predict", str(raster), str(tmp_path / "o.tif"), "--model", str(file)]
    done = CliRunner().invoke(
        app, [*words, "--applicability", str(tmp_path / "i.tif"), "--entropy", str(tmp_path / "e.tif")]
    )
    assert done.exit_code == 0, done.output
    assert (read(tmp_path / "i.tif") == 254).all()
    assert "100% of this raster is unlike anything the model has seen: see --applicability" in done.output
    refused = CliRunner().invoke(app, [*words, "--max-unlike", "0", "--no-resume"])
    assert refused.exit_code != 0
    assert "unlike anything the model has seen" in str(refused.exception or refused.output)


def test_a_folder_has_a_folder_of_each_layer(tmp_path: Path) -> None:
    target, options = Options(entropy=tmp_path / "e", confidence=tmp_path / "c").within(tmp_path / "o", "a.tif")
    assert target == tmp_path / "o" / "a.tif"
    assert (options.entropy, options.confidence) == (tmp_path / "e" / "a.tif", tmp_path / "c" / "a.tif")
    assert options.margin is None
    assert len(ISPRS) == 5
