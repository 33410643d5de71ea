"""The embedded images of objects: the same bytes everywhere, every kind there, tags that are the mask's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from weakseg.core.classes import load_classes
from weakseg.core.errors import DataError
from weakseg.data.scenes import object_pictures
from weakseg.data.scenes.kinds import COMBINED, NAMED, OUTLINES, covered
from weakseg.data.scenes.object_pictures import REST, image_names, make_object_image, object_classes, write_objects
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.raster.open import read_image, read_mask


@pytest.mark.parametrize(
    ("count", "expected"), [(12, "c44b9484cc0e62fb586e128125a16103"), (200, "af68cbb9b80b905123e9a28c21385437")]
)
def test_a_seed_gives_the_same_bytes_everywhere(count: int, expected: str) -> None:
    digest = hashlib.blake2b(digest_size=16)
    for number in (1, 2, 3, 50):
        made = make_object_image(count, 0, number)
        digest.update(made.image.tobytes())
        digest.update(made.mask.tobytes())
    assert digest.hexdigest() == expected


def test_seeds_sets_and_images_differ() -> None:
    made = [make_object_image(*which) for which in ((12, 0, 1), (12, 1, 1), (12, 0, 2), (200, 0, 1))]
    assert len({one.image.tobytes() for one in made}) == 4
    assert len({one.image.shape for one in made}) > 1


def test_twelve_kinds_lie_on_ground_that_is_most_of_it() -> None:
    found = [make_object_image(12, 0, number) for number in range(1, 41)]
    seen = np.bincount(np.concatenate([one.mask.ravel() for one in found]), minlength=13)
    assert (seen[:12] > 0).all()
    assert 0.75 < seen[12] / seen.sum() < 0.97
    assert all(72 <= side <= 132 for one in found for side in one.mask.shape)
    empty = sum((one.mask == 12).all() for one in found)
    assert 1 <= empty <= 10  # 8 % are drawn so, in some others nothing fits or all of it lies outside


def test_two_hundred_kinds_are_two_hundred_looks() -> None:
    assert len({(kind.outline, kind.pattern, kind.tones) for kind in COMBINED}) == len(COMBINED) == 200
    assert len(NAMED) == 12
    scheme = object_classes(200)
    assert (len(scheme), scheme.background, scheme.background_index) == (201, REST, 200)
    assert len(set(scheme.colours)) == 201


@pytest.mark.parametrize("outline", [*OUTLINES, "blob", "rounded"])
def test_outlines_lie_within_their_sides(outline: str) -> None:
    v, u = (plane.astype(float) for plane in np.mgrid[-30:31, -30:31])
    inside = covered(outline, u, v, 20.0, 15.0, np.zeros_like(u)) > 0
    assert 60 < inside.sum() < 41 * 41
    assert not inside[np.abs(u) > 21].any()
    assert not inside[np.abs(v) > 21].any()


def test_a_set_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(object_pictures.SETS, 12, 9)
    assert write_objects(tmp_path, 12, seed=0) == 9
    scheme, sizes = load_classes(tmp_path / "classes.yaml"), raster_sizes(tmp_path / "images")
    rows = read_tags(tmp_path / "tags" / "tags.csv", scheme, sizes)
    assert [row.area for row in rows] == list(image_names(12)) == [f"o{number}" for number in range(1, 10)]
    for row in rows:
        mask = read_mask(tmp_path / "labels" / f"{row.area}.tif", scheme)
        names = tuple(scheme.names[index] for index in np.unique(mask))
        assert row.present == (tuple(name for name in names if name != REST) or (REST,))
        assert row.window == (0, 0, *mask.shape)
        assert read_image(tmp_path / "images" / f"{row.area}.tif").shape[:2] == mask.shape


def test_other_counts_are_refused() -> None:
    with pytest.raises(DataError, match="13 kinds of objects; expected 12 or 200"):
        object_classes(13)
