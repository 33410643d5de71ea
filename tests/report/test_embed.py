"""Pictures: exact maps, small images, the same format after shrinking."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.report.embed import data_uri, encode_image, encode_map, shrink, size_of


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.random.default_rng(0).integers(0, 5, (30, 50)).astype(np.uint8)
    mask[:3] = 255
    return mask


def test_a_map_keeps_every_pixel(mask: np.ndarray) -> None:
    data = encode_map(mask, ISPRS)
    assert (decode(data) == ISPRS.to_colours(mask)).all()
    assert size_of(data) == (50, 30)
    assert data_uri(data) == "data:image/png;base64," + base64.b64encode(data).decode()


def test_shrinking_a_map_invents_no_colour(mask: np.ndarray) -> None:
    for data in (encode_map(mask, ISPRS, side=20), shrink(encode_map(mask, ISPRS), 20)):
        assert size_of(data) == (20, 12)
        found = {tuple(colour) for colour in decode(data).reshape(-1, 3).tolist()}
        assert found <= {*ISPRS.colours, ISPRS.ignored[0][1]}
    assert shrink(data, 20) is data


def test_an_image_stays_alike_and_small() -> None:
    y, x = np.mgrid[:300, :400]
    image = np.stack([x // 2, y // 2, (x + y) // 4], -1).astype(np.uint8)
    data = encode_image(image)
    assert data_uri(data).startswith("data:image/jpeg;base64,")
    assert np.abs(decode(data).astype(int) - image).mean() < 2
    assert len(data) < image.size / 20
    assert size_of(encode_image(image, side=100)) == (100, 75)
    assert size_of(shrink(data, 40)) == (40, 30)


def test_a_class_outside_the_scheme_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"class 9 in a map; expected 0\.\.4 or 255"):
        encode_map(np.where(mask == 0, 9, mask).astype(np.uint8), ISPRS)
