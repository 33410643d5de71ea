"""The names that `import weakseg` offers: lazy, and the same functions as everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.inference.test_predict import UTM, model_file, picture, predictor, read, save

import weakseg
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference import model
from weakseg.inference.scene import DIHEDRAL, PLAIN, View
from weakseg.labels.tags import TagWindow
from weakseg.training.machine import Machine

HEAVY = ("numpy", "torch", "rasterio", "pandas", "cv2", "pydantic", "mlflow", "scipy", "typer")


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, weakseg; print(*(name.split('.')[0] for name in sys.modules))"
    source = str(Path(weakseg.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": source})
    assert "weakseg" in done.stdout.split()
    assert not set(HEAVY) & set(done.stdout.split()), done.stderr


def test_the_face_is_small_and_known_to_tools() -> None:
    assert sorted(weakseg.__all__) == ["ScoreMaps", "open_model", "predict", "read_tags", "score"]
    assert set(weakseg.__all__) <= set(dir(weakseg))
    assert all(callable(getattr(weakseg, name)) for name in weakseg.__all__)
    assert (Path(weakseg.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = weakseg.train  # type: ignore[attr-defined]


def test_a_model_file_opens_and_its_map_is_the_one_of_predict(tmp_path: Path) -> None:
    opened = weakseg.open_model(model_file(tmp_path / "m.pt"))
    assert opened.scheme == ISPRS
    image = picture(40, 56)
    save(tmp_path / "a.tif", image, **UTM)
    written = weakseg.predict(opened, tmp_path / "a.tif", tmp_path / "map.tif")
    assert written == tmp_path / "map.tif"
    with rasterio.open(written) as file:
        assert file.crs.to_epsg() == 25832
    from_file, from_array = (
        weakseg.predict(opened, str(tmp_path / "a.tif")),
        weakseg.predict(opened, np.moveaxis(image, 0, 2)),
    )
    assert from_file.dtype == np.uint8
    assert np.array_equal(from_file, read(written)[0])
    assert np.array_equal(from_array, from_file)


def test_a_known_network_gives_the_known_classes() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = 250, 0, 0
    image[1, 0] = 0, 250, 0
    image[1, 1] = 0, 0, 250
    prediction = weakseg.predict(predictor(), image)  # mixtures of the bands, minus 2
    assert prediction[0, 1] == 0
    assert prediction[1, 1] == 2
    assert prediction[1, 0] in (1, 4)


def test_what_predict_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image"):
        weakseg.predict(predictor(), np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(ParamsError, match="an array with an output"):
        weakseg.predict(predictor(), np.zeros((4, 4, 3), np.uint8), tmp_path / "a.tif")  # type: ignore[call-overload]
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ParamsError, match=r"probabilities='p.tif' without an output; expected True"):
        weakseg.predict(predictor(), image, probabilities="p.tif")  # type: ignore[call-overload]
    with pytest.raises(ParamsError, match=r"probabilities=True with an output; .* name a file"):
        weakseg.predict(predictor(), "a.tif", "b.tif", probabilities=True)  # type: ignore[call-overload]
    for wrong in ({"window": 0}, {"overlap": 1.0}):
        with pytest.raises(ParamsError, match="0 <= overlap < 1"):
            weakseg.predict(predictor(), image, **wrong)  # type: ignore[call-overload]
    with pytest.raises(ParamsError, match="gsd guess"):
        weakseg.predict(predictor(), image, gsd="guess")  # type: ignore[call-overload]


def test_probabilities_are_those_of_the_file(tmp_path: Path) -> None:
    """A network that mixes the bands: 254 is 1 in the file, and the winner is the class of the map."""
    save(tmp_path / "a.tif", picture(40, 56), **UTM)
    written = tmp_path / "p.tif"
    weakseg.predict(
        predictor(), tmp_path / "a.tif", tmp_path / "map.tif", probabilities=written, window=32, overlap=0.5
    )
    classes, shares = weakseg.predict(predictor(), tmp_path / "a.tif", probabilities=True, window=32, overlap=0.5)
    assert (classes.shape, shares.shape, shares.dtype) == ((40, 56), (5, 40, 56), np.float32)
    np.testing.assert_array_equal(np.rint(shares * 254), read(written))
    np.testing.assert_allclose(shares.sum(0), 1, atol=5 / 254)
    assert (np.take_along_axis(shares, classes[None].astype(int), 0)[0] == shares.max(0)).all()
    np.testing.assert_array_equal(classes, read(tmp_path / "map.tif")[0])


def test_probabilities_without_data_are_nan(tmp_path: Path) -> None:
    image = picture(16, 16)
    image[:, :4, :4] = 0
    save(tmp_path / "a.tif", image, nodata=0, **UTM)
    classes, shares = weakseg.predict(predictor(), tmp_path / "a.tif", probabilities=True)
    empty = classes == 255
    assert empty[:4, :4].all()
    assert np.isnan(shares[:, empty]).all()
    assert np.isfinite(shares[:, ~empty]).all()


def test_a_model_may_look_at_all_flips_and_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object]] = []
    real = model.load_predictor

    def load(file: Path, views: Sequence[View], machine: Machine, **options: Any) -> model.Predictor:
        seen.append((views, options["scales"]))
        return real(file, views, machine, **options)

    monkeypatch.setattr(model, "load_predictor", load)
    file = model_file(tmp_path / "m.pt")
    one, eight, two = (
        weakseg.open_model(file),
        weakseg.open_model(file, views=True),
        weakseg.open_model(file, scales=[0.5, 1]),
    )
    assert seen == [(PLAIN, (1.0,)), (DIHEDRAL, (1.0,)), (PLAIN, (0.5, 1))]
    assert len({one.digest, eight.digest, two.digest}) == 3  # a map is never continued with other views
    image = np.moveaxis(picture(16, 24), 0, 2)
    assert weakseg.predict(eight, image).shape == (16, 24)


def test_score_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 255, 1]], np.uint8)
    scores = weakseg.score(truth, np.array([[0, 1, 1], [1, 0, 1]]), ["land", "water", "never"])
    assert scores["iou"]["land"] == pytest.approx(1 / 2)
    assert scores["iou"]["water"] == pytest.approx(3 / 4)
    assert np.isnan(scores["iou"]["never"])
    assert scores["miou"] == pytest.approx(5 / 8)
    assert scores["oa"] == pytest.approx(4 / 5)
    assert scores["confusion"].tolist() == [[1, 1, 0], [0, 3, 0], [0, 0, 0]]  # rows are the truth
    assert weakseg.score(truth, truth, ISPRS)["miou"] == 1.0


def test_tags_are_read(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    table.write_text("area,row,column,height,width,tags,unknown\na,0,0,8,8,car tree,\n")
    (row,) = weakseg.read_tags(table, ISPRS, {"a": (8, 8)})
    assert isinstance(row, TagWindow)
    assert (row.area, row.window, row.present) == ("a", (0, 0, 8, 8), ("tree", "car"))


def test_tags_are_read_with_a_folder_of_images(tmp_path: Path) -> None:
    """The folder says how large the areas are; as in a workspace, or by name."""
    table = tmp_path / "data" / "tags" / "tags.csv"
    table.parent.mkdir(parents=True)
    table.write_text("area,row,column,height,width,tags\na,0,0,8,8,tree\n")
    with pytest.raises(DataError, match=r"no image in .*images; .* name their folder as `areas`"):
        weakseg.read_tags(table, "vaihingen")
    for folder in ("data/images", "other"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "data" / "images" / "a.TIF", picture(8, 8), **UTM)
    ISPRS.save(tmp_path / "classes.yaml")
    for classes, areas in ((ISPRS, None), (str(tmp_path / "classes.yaml"), tmp_path / "data" / "images")):
        (row,) = weakseg.read_tags(table, classes, areas)
        assert (row.area, row.present) == ("a", ("tree",))
    save(tmp_path / "other" / "a.tif", picture(4, 4), **UTM)
    with pytest.raises(DataError, match="line 2"):
        weakseg.read_tags(str(table), ISPRS, str(tmp_path / "other"))
