"""Tag files on their way: written from masks, read by the tiles stage, kept or refused by a later import."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.bit_sets import bits_of

from weakseg.core.classes import ISPRS, ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.manifest import load_manifest
from weakseg.data.store import open_allowed
from weakseg.pipeline.workspace import write_mask_tags
from weakseg.raster.open import read_image, read_mask
from weakseg.raster.write import write_raster

SPACED = ClassScheme(
    ("impervious surface", "building", "low vegetation", "tree (big)", "car"), ISPRS.colours, ISPRS.ignored
)


def use_csv(root: Path) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["tiles"]["tag_source"] = "csv"
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def run_tiles(root: Path) -> None:
    import_module("weakseg.stages.tiles").run(root)


def enlarge(root: Path, target: Path) -> None:
    """The rasters of a workspace at twice their side, as sources of an import."""
    scheme = ISPRS
    for path in sorted((root / "data" / "images").iterdir()):
        write_raster(target / "images" / path.name, np.kron(read_image(path), np.ones((2, 2, 1), np.uint8)))
        mask = read_mask(root / "data" / "labels" / path.name, scheme)
        write_raster(target / "labels" / path.name, np.kron(mask, np.ones((2, 2), np.uint8)))


def test_class_names_with_blanks_come_back(workspace: Path) -> None:
    """What `data tags --write` writes says in the tiles what the masks say."""
    SPACED.save(workspace / "data" / "classes.yaml")
    run_tiles(workspace)
    layout = Layout(workspace)
    derived = load_manifest(layout.tiles / "manifest.csv", SPACED.names)
    allowed = {area: bits_of(open_allowed(layout.tiles, area)) for area in ("p1", "t1", "t2")}
    write_mask_tags(workspace, size=16, min_share=0.0)
    use_csv(workspace)
    run_tiles(workspace)
    read = load_manifest(layout.tiles / "manifest.csv", SPACED.names)
    assert read.ids == derived.ids
    assert np.array_equal(read.present, derived.present)
    assert np.array_equal(read.known, derived.known)
    for area, bits in allowed.items():
        assert np.array_equal(bits_of(open_allowed(layout.tiles, area)), bits)


def test_a_file_of_tags_that_is_not_read_is_said(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_tiles(workspace)
    assert "tags.csv" not in capfd.readouterr().err
    write_mask_tags(workspace, size=16, min_share=0.0)
    run_tiles(workspace)
    said = [line for line in capfd.readouterr().err.splitlines() if "tags.csv" in line]
    assert len(said) == 1
    assert "is not read: tags come from the masks of N2" in said[0]
    assert "set tiles.tag_source to csv" in said[0]


def test_tags_written_before_an_import_at_another_size(workspace: Path, tmp_path: Path) -> None:
    """The import refuses to keep them; the tiles stage refuses them where rasters were changed behind its back."""
    write_mask_tags(workspace, size=16, min_share=0.0)
    use_csv(workspace)
    enlarge(workspace, tmp_path / "large")
    images, labels, tags = tmp_path / "large/images", tmp_path / "large/labels", Layout(workspace).tags_csv
    before = (workspace / "data" / "images" / "t1.tif").read_bytes()
    with pytest.raises(DataError, match=r"5 area\(s\), first p1, 64x64 px before and 128x128 px now; .*; delete the"):
        import_dataset(images, [labels], workspace / "data", replace=True, progress=False)
    assert (workspace / "data" / "images" / "t1.tif").read_bytes() == before
    kept = tags.rename(tmp_path / "tags.csv")
    import_dataset(images, [labels], workspace / "data", replace=True, progress=False)
    kept.rename(tags)
    with pytest.raises(DataError, match="line 2: tags of a raster of 64x64 px, p1 has 128x128 px"):
        run_tiles(workspace)
    write_mask_tags(workspace, size=16, min_share=0.0)
    import_dataset(images, [labels], workspace / "data", replace=True, progress=False)  # of the same size: they stay
    run_tiles(workspace)
