"""scripts/one_class.py: the masks of one class against the rest."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scripts import one_class

from weakseg.core.classes import IGNORE, ClassScheme, load_classes
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.raster.open import read_image, read_mask
from weakseg.raster.write import write_raster


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["one_class.py", *arguments])
    one_class.main()


def test_every_other_class_becomes_the_background(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = Layout(tmp_path / "buildings"), Layout(workspace)
    run(monkeypatch, str(workspace), "building", str(new.root))
    scheme = load_classes(new.classes)
    assert (scheme.names, scheme.background) == (("building", "rest"), "rest")
    assert scheme.colours == ((0, 0, 255), (1, 1, 1))  # black is the boundary's, which is ignored
    assert scheme.ignored == load_classes(old.classes).ignored
    shares = []
    for path in sorted(old.labels.iterdir()):
        before, after = read_mask(path, load_classes(old.classes)), read_mask(new.labels / path.name, scheme)
        assert np.array_equal(after == IGNORE, before == IGNORE)
        assert np.array_equal(after == 0, before == 1)
        assert np.array_equal(read_image(new.images / path.name), read_image(old.images / path.name))
        shares.append(((before == 1).sum(), (before != IGNORE).sum()))
    share = np.sum([a for a, _ in shares]) / np.sum([b for _, b in shares])
    assert capsys.readouterr().out == f"building: {share:.1%} of the labelled pixels\n"


def test_a_folder_with_data_is_left_alone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="data is there; expected a new folder"):
        run(monkeypatch, str(workspace), "building", str(workspace))


def test_masks_without_a_place_on_earth_are_no_warning(tmp_path: Path) -> None:
    """Seventy-two of them filled the screen."""
    write_raster(tmp_path / "old.png", np.zeros((3, 4), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_class.write_mask(tmp_path / "new.tif", np.ones((3, 4), np.uint8), tmp_path / "old.png")
    three = ClassScheme(("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    assert (read_mask(tmp_path / "new.tif", one_class.two_classes(three, "b", "rest")) == 1).all()
