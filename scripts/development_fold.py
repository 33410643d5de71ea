"""A workspace to choose settings in, without a look at the validation areas: one group of N2 validates instead.

    python scripts/development_fold.py --root work/dubai72 --out work/fold7 --validate "tile7_*" --tag-size 50

N1 stays, the rest of N2 carries the tags, the workspace's own validation areas are left out, and data/ is a link. For
benchmark sets only: a group of N2 can validate where somebody has labelled its pixels. Then, for instance,

    python -m weakseg --root work/fold7 stage tiles
    python -m weakseg --root work/fold7 ablate configs/dubai_ablation.yaml
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

import yaml

from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import Params, load_params, with_changes
from weakseg.pipeline.workspace import create_workspace


def fold_of(params: Params, pattern: str, tag_size: int | None) -> Params:
    """The params with N2's areas that match ``pattern`` (as in a shell) as the only validation areas.

    Raises:
        ParamsError: no area of N2 matches, or all do.
    """
    areas = params.tiles.areas
    validation = tuple(area for area in areas.tags if fnmatch(area, pattern))
    if not 0 < len(validation) < len(areas.tags):
        raise ParamsError(
            f"{pattern} matches {len(validation)} of {len(areas.tags)} tagged areas",
            expected="some of them, not all",
            cure="name a group of tiles.areas.tags",
        )
    return with_changes(
        params,
        {
            "tiles.areas.tags": tuple(area for area in areas.tags if area not in validation),
            "tiles.areas.validation": validation,
            "tiles.tag_size": params.tiles.tag_size if tag_size is None else tag_size,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="workspace with data/ and params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="workspace to make")
    parser.add_argument("--validate", required=True, help="names of the N2 areas that validate, as a shell pattern")
    parser.add_argument("--tag-size", type=int, help="px; as in params.yaml where not given")
    options = parser.parse_args()
    params = fold_of(load_params(Layout(options.root).params), options.validate, options.tag_size)
    create_workspace(options.out, Layout(options.root).params)
    (options.out / "data").symlink_to((options.root / "data").resolve(), target_is_directory=True)
    text = yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)
    Layout(options.out).params.write_text(text)
    print(f"{options.out}: {len(params.tiles.areas.validation)} areas validate. Next: weakseg stage tiles, ablate")


if __name__ == "__main__":
    main()
