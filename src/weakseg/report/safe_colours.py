"""Class colours that colour-blind readers can tell apart, as close as possible to the data set's own."""

from __future__ import annotations

from typing import Final

import numpy as np

from weakseg.core.classes import ClassScheme, Colour

# Okabe and Ito (jfly.uni-koeln.de/color, 2008) without black, which is kept for what is ignored, and with a light grey.
# Under simulated protanopia, deuteranopia and tritanopia any two are at least 16 apart in CIE Lab (tested).
SAFE: Final[tuple[Colour, ...]] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (205, 205, 205),
)
IGNORED: Final[Colour] = (30, 30, 30)


def safe_scheme(scheme: ClassScheme) -> ClassScheme:
    """The same classes in colours of :data:`SAFE`, each class in one like its own (least total distance in RGB).

    With more classes than safe colours the scheme comes back as it is: then only the names under the pointer help.
    """
    from scipy.optimize import linear_sum_assignment

    if len(scheme) > len(SAFE):
        return scheme
    own, safe = np.array(scheme.colours, np.float64), np.array(SAFE, np.float64)
    distance = np.linalg.norm(own[:, None] - safe[None], axis=-1)
    _, chosen = linear_sum_assignment(distance)
    colours, ignored = tuple(SAFE[index] for index in chosen), (("ignored or no label", IGNORED),)
    return ClassScheme(scheme.names, colours, ignored, background=scheme.background)
