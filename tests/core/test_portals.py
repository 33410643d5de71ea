"""Presets of portals: every file is whole, and its bands are ones that an import takes."""

from __future__ import annotations

import pytest

from weakseg.core.bands import DTYPES
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.portals import find_portal, portal_names
from weakseg.raster.band_names import KNOWN, parse_choice


@pytest.mark.parametrize("name", portal_names())
def test_a_portal_names_known_bands_and_its_source(name: str) -> None:
    portal = find_portal(name)
    names = parse_choice(portal.bands).names
    assert len(names) >= 3
    assert set(names) <= set(KNOWN)
    assert portal.dtype in DTYPES
    assert portal.source.startswith("http")
    assert portal.resolution > 0
    assert portal.licence in str(portal)


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ParamsError, match=r"flair \| hessen-dop20"):
        find_portal("nowhere")


def test_images_of_another_depth_are_refused() -> None:
    with pytest.raises(DataError, match="images of uint16; expected uint8, as naip delivers"):
        find_portal("naip").check({"uint16"})
