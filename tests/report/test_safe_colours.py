"""Class colours: the nearest safe ones, told apart under simulated colour blindness."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from weakseg.core.classes import ISPRS, ClassScheme, Colour
from weakseg.report.safe_colours import IGNORED, SAFE, safe_scheme

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def seen(colour: Colour, vision: str) -> np.ndarray:
    """CIE Lab of an sRGB colour as such an eye sees it."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(np.array(VISION[vision]) @ linear, 1e-6, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(colours: list[Colour], vision: str) -> float:
    return min(float(np.linalg.norm(seen(a, vision) - seen(b, vision))) for a, b in combinations(colours, 2))


@pytest.mark.parametrize("vision", VISION)
def test_any_two_safe_colours_are_told_apart(vision: str) -> None:
    assert closest([*SAFE, IGNORED], vision) > 16
    assert closest([(0, 255, 0), (255, 190, 0)], "deuteranopia") < 16  # the measure does find a bad pair


def test_isprs_classes_keep_their_hue() -> None:
    found = dict(zip(ISPRS.names, safe_scheme(ISPRS).colours, strict=True))
    want = {"impervious_surface": (205, 205, 205), "building": (0, 114, 178), "low_vegetation": (86, 180, 233)}
    assert found == want | {"tree": (0, 158, 115), "car": (240, 228, 66)}
    assert safe_scheme(ISPRS).ignored == (("ignored or no label", IGNORED),)


def test_too_many_classes_keep_their_own_colours() -> None:
    many = ClassScheme(tuple("abcdefghi"), tuple((i, 0, 0) for i in range(9)))
    assert safe_scheme(many) is many
    assert len(set(safe_scheme(ClassScheme(tuple("abcdefgh"), many.colours[:8])).colours)) == 8
