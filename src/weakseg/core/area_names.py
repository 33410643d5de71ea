"""The area that a file name stands for: of an image, a mask, a row of tags or an annotation."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ISPRS: Final = re.compile(r"top_mosaic_09cm_(area\d+)", re.IGNORECASE)
ERODED: Final = re.compile(r"_noboundary$", re.IGNORECASE)
_WORDS: Final = "rgb|irrg|rgbir|image|img|sat|label|labels|mask|masks|gt|groundtruth"
_MORE_WORDS: Final = rf"{_WORDS}|images|imgs|msk|msks|lbl|lbls|seg|segmentation|annotation|ann|ortho|photo|target|truth"
_ENDINGS: Final = re.compile(rf"(?<=.)[_-](?:{_WORDS})$", re.IGNORECASE)
_MORE_ENDINGS: Final = re.compile(rf"(?<=.)[_-](?:{_MORE_WORDS}|m)$", re.IGNORECASE)
_PREFIXES: Final = re.compile(rf"^(?:{_MORE_WORDS})[_-](?=.)", re.IGNORECASE)


def area_name(stem: str) -> str:
    """The area that a file name stands for: "area12" for the ISPRS tiles, otherwise the stem without its endings.

    Letters come composed (Unicode NFC), as people type them: macOS and some archives store "ü" as "u" and two dots.

    >>> area_name("top_mosaic_09cm_area12_noBoundary"), area_name("top_potsdam_2_10_RGB"), area_name("field_7_mask")
    ('area12', 'top_potsdam_2_10', 'field_7')
    """
    stem = ERODED.sub("", unicodedata.normalize("NFC", stem))
    isprs = _ISPRS.fullmatch(stem)
    if isprs:
        return isprs[1].lower()
    return _without(_ENDINGS, stem)  # "x_RGB_label" belongs to "x_RGB"


def bare_name(stem: str) -> str:
    """:func:`area_name` without prefixes and short endings either.

    >>> bare_name("IMG_0012"), bare_name("MSK_0012"), bare_name("field_7_m")
    ('0012', '0012', 'field_7')
    """
    return _without(_MORE_ENDINGS, _without(_PREFIXES, area_name(stem)))


def _without(words: re.Pattern[str], stem: str) -> str:
    while words.search(stem):
        stem = words.sub("", stem)
    return stem
