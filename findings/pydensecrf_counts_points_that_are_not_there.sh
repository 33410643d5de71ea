#!/usr/bin/env bash
# pydensecrf2 1.1: the marginals of a dense CRF depend on WHERE its features lie, not only on their differences, unless the number of
# pixels is a multiple of four.
#
# Guess, written down first: a Gaussian kernel knows differences alone. Moving all features by a whole period of the permutohedral
# lattice (square root of 3 standard deviations in one dimension), which maps the lattice onto itself, changes nothing but rounding,
# for any number of pixels.
# Seen: true for 8, 12 and 16 points, to 1e-5. With 9, 10, 11 or 13 points the same move changes marginals by .005 to .03. The filter
# works in blocks of four points and fills the last block with points whose features are all 0: they carry no value, but the lattice
# has vertices around them, over which the blur then passes.
# Who is hurt: whoever compares dense CRFs, or crops of other sizes, to three digits. In two dimensions the points at 0 are black pixels
# in the upper left corner; marginals there moved by up to .002 on a crop of 255 x 255 px, and not at all at 256 x 256.
# Here: methods/permutohedral.py fills the block in the same way, so that both of our CRFs give the same marginals.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python 3.11 "$work/env"
uv pip install -q --python "$work/env/bin/python" pydensecrf2==1.1 numpy==2.4.6
cd "$work" && env/bin/python -W ignore - <<'P'
from importlib.metadata import version

import numpy as np
from pydensecrf.densecrf import DenseCRF

PERIOD = 3**0.5


def marginals(count: int, shift: float) -> np.ndarray:
    features = (0.1 * np.arange(count) + shift).astype(np.float32)[None]
    model = DenseCRF(count, 2)
    model.setUnaryEnergy(np.random.default_rng(0).normal(0, 1, (2, count)).astype(np.float32))
    model.addPairwiseEnergy(features, compat=3.0)
    return np.array(model.inference(5))


moved = {count: float(np.abs(marginals(count, PERIOD) - marginals(count, 0)).max()) for count in (8, 9, 10, 11, 12, 13, 16)}
print("pydensecrf2", version("pydensecrf2"), {count: round(change, 4) for count, change in moved.items()})
assert all((change < 1e-5) == (count % 4 == 0) for count, change in moved.items())
assert all(change > 1e-3 for count, change in moved.items() if count % 4)
P
