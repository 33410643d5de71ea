"""The names that `import weakseg` offers: lazy, and the same functions as everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.inference.test_predict import UTM, model_file, picture, predictor, read, save

import weakseg
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.labels.tags import TagWindow

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
    model = weakseg.open_model(model_file(tmp_path / "m.pt"))
    assert model.scheme == ISPRS
    image = picture(40, 56)
    save(tmp_path / "a.tif", image, **UTM)
    written = weakseg.predict(model, tmp_path / "a.tif", tmp_path / "map.tif")
    assert written == tmp_path / "map.tif"
    with rasterio.open(written) as file:
        assert file.crs.to_epsg() == 25832
    from_file, from_array = (
        weakseg.predict(model, str(tmp_path / "a.tif")),
        weakseg.predict(model, np.moveaxis(image, 0, 2)),
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


def test_score_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 255, 1]], np.uint8)
    scores = weakseg.score(truth, np.array([[0, 1, 1], [1, 0, 1]]), ["land", "water", "never"])
    assert scores["iou"]["land"] == pytest.approx(1 / 2)
    assert scores["iou"]["water"] == pytest.approx(3 / 4)
    assert np.isnan(scores["iou"]["never"])
    assert scores["miou"] == pytest.approx(5 / 8)
    assert scores["oa"] == pytest.approx(4 / 5)
    assert weakseg.score(truth, truth, ISPRS)["miou"] == 1.0


def test_tags_are_read(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    table.write_text("area,row,column,height,width,tags,unknown\na,0,0,8,8,car tree,\n")
    (row,) = weakseg.read_tags(table, ISPRS, {"a": (8, 8)})
    assert isinstance(row, TagWindow)
    assert (row.area, row.window, row.present) == ("a", (0, 0, 8, 8), ("tree", "car"))
